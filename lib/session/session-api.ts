import { SessionManagerError } from '../errors.ts'
import type { SessionCookie } from './session-cookie.ts'
import type { RegenerateOptions, SessionExchange } from './session-exchange.ts'
import { facadeOf } from './session-facade.ts'

/** Called when an operation has ended, as express-session documents it. */
export type SessionCallback = (error?: unknown) => void

/** What every session has beside its attributes. */
export interface SessionMethods {
  /** The session id, with node id and route. */
  readonly id: string
  /** True until the client has sent the session's id back. */
  readonly isNew: boolean
  /** The cookie of this session; what is assigned to its properties holds from then on. Times are in milliseconds. */
  readonly cookie: SessionCookie
  /** Who is logged in, for `manager.findByPrincipal` and `destroyByPrincipal`. An attribute like any other. */
  principal?: string | undefined
  /** Ends this session and puts one with a new id in its place, empty or (`keep`) with the same data: do this at login. */
  regenerate(callback?: SessionCallback): Promise<void>
  regenerate(options: RegenerateOptions, callback?: SessionCallback): Promise<void>
  /** Ends this session, here and in the store. The request has none afterwards. */
  destroy(callback?: SessionCallback): Promise<void>
  /** Takes the session as it is stored in place of what this request changed. */
  reload(callback?: SessionCallback): Promise<void>
  /** Stores the session now and waits for it. Only needed before work that must find it stored. */
  save(callback?: SessionCallback): Promise<void>
  /** Counts as a use of the session; every request does by itself. */
  touch(): this
  /**
   * With `lockingMode: 'app'`: waits until no other request of this session has the lock, and takes it; what others have
   * stored meanwhile is in the session then. Released by `unlock`, `commit`, or the end of the response.
   */
  lock(callback?: SessionCallback): Promise<void>
  /** Stores what has changed and releases the lock. */
  unlock(callback?: SessionCallback): Promise<void>
  /** Stores what has changed and releases the lock: for a handler that goes on streaming. */
  commit(callback?: SessionCallback): Promise<void>
}

/** The object that the sessions of all frameworks inherit their methods from. */
export const sessionApi = {
  get id(): string {
    return exchangeOf(this).sessionId
  },
  get isNew(): boolean {
    return exchangeOf(this).isNew
  },
  get cookie(): SessionCookie {
    return exchangeOf(this).cookie
  },
  set cookie(changes: object) {
    Object.assign(exchangeOf(this).cookie, changes)
  },
  regenerate(options?: RegenerateOptions | SessionCallback, callback?: SessionCallback): Promise<void> {
    if (typeof options === 'function') return settle(exchangeOf(this).regenerate(), options)
    return settle(exchangeOf(this).regenerate(options), callback)
  },
  destroy(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).destroy(), callback)
  },
  reload(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).reload(), callback)
  },
  save(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).save(), callback)
  },
  touch(): unknown {
    exchangeOf(this).touch()
    return this
  },
  lock(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).acquireLock(), callback)
  },
  unlock(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).release(), callback)
  },
  commit(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).release(), callback)
  },
}

/** The exchange of the request that a session object was made for. */
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
