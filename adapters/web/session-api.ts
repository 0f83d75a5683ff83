import { facadeOf, type SessionExchange, SessionManagerError } from '../../lib/index.ts'

/** Called when an operation has ended, as express-session and koa-session document it. */
export type SessionCallback = (error?: unknown) => void

/** The exchange of the request that a facade was made for. */
export function exchangeOf(session: unknown): SessionExchange {
  const facade = facadeOf(session)
  if (!facade) throw new SessionManagerError('ERR_MSM_STATE', 'Call this as a method of the session.')
  return facade.host as SessionExchange
}

/** Tells the outcome the way the caller asked for: to its callback, or as a promise. */
export function settle(operation: Promise<void>, callback: SessionCallback | undefined): Promise<void> {
  if (callback === undefined) return operation
  // In a tick of its own, so that what the callback throws is no rejection of ours.
  return operation.then(
    () => process.nextTick(callback),
    (error) => process.nextTick(callback, error),
  )
}
