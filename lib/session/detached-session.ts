import type { SessionIdParts } from '../ids/session-id-format.ts'
import type { SessionData } from '../index.ts'
import type { SessionMode } from '../modes/session-mode.ts'
import type { SessionContext } from '../session-context.ts'
import { type SessionMethods, sessionApi } from './session-api.ts'
import { SessionExchange, type SessionRequest, type WebBinding } from './session-exchange.ts'
import { facadeTarget } from './session-facade.ts'

/** A session that no response belongs to: what is changed is stored by `save()`, what others changed shown by `reload()`. */
export type DetachedSession = SessionMethods & Partial<SessionData> & { [name: string]: unknown }
export type DetachedRequest = SessionRequest & { readonly url?: string | undefined }

export const DETACHED: WebBinding<DetachedRequest> = {
  facadeTarget: facadeTarget(sessionApi),
  url: (request) => request.url ?? '/',
  isSecure: (request) => (request.socket as { encrypted?: boolean } | undefined)?.encrypted === true,
}

/** The session with this id, undefined if there is none. */
export async function openDetached(
  context: SessionContext,
  mode: SessionMode,
  request: DetachedRequest,
  id: SessionIdParts,
): Promise<DetachedSession | undefined> {
  const exchange = new SessionExchange(request, DETACHED, context, mode, id, false)
  await exchange.load()
  exchange.detach()
  return exchange.current ? (exchange.session as DetachedSession) : undefined
}
