import { cookieCodec } from '../adapters/http/cookie.ts'
import { memcachedStorage } from '../adapters/storage/memcached.ts'
import { memoryStorage } from '../adapters/storage/memory.ts'
import { redisStorage } from '../adapters/storage/redis.ts'
import { jsonTranscoder } from '../adapters/transcoder/json.ts'
import { msgpackTranscoder } from '../adapters/transcoder/msgpack.ts'
import { resolveOptions, type SessionManagerOptions } from './options.ts'
import type { SessionTranscoder, StorageClientFactory } from './ports.ts'
import { SessionManager } from './session-manager.ts'

export { SessionManagerError, type SessionManagerErrorCode } from './errors.ts'
export type { DestroyReason, IdChangeReason, SessionManagerEvents } from './events.ts'
export type { Health } from './health.ts'
export { frameworkPrototype } from './http/framework-prototype.ts'
export { EXCHANGE, hookResponse } from './http/node-response.ts'
export { BODY_HEADERS } from './http/response-hook.ts'
export { withoutSessionId } from './http/session-tracking.ts'
export type { ConflictPolicy, MergeAttribute } from './modes/non-sticky/attribute-merge.ts'
export type { CookieOptions, ResolvedOptions, SessionManagerOptions } from './options.ts'
export type {
  Logger,
  NodeAddress,
  SessionAttributes,
  SessionTranscoder,
  StorageClient,
  StorageClientFactory,
  StorageClientOptions,
  StoredItem,
  SwapResult,
} from './ports.ts'
export type { DetachedSession } from './session/detached-session.ts'
export {
  exchangeOf,
  type SessionCallback,
  type SessionMethods,
  sessionApi,
  settle,
} from './session/session-api.ts'
export type { SessionCookie } from './session/session-cookie.ts'
export {
  type RegenerateOptions,
  SessionExchange,
  type SessionRequest,
  type WebBinding,
} from './session/session-exchange.ts'
export { facadeOf, facadeTarget } from './session/session-facade.ts'
export { type ReconfigurableOptions, SessionManager } from './session-manager.ts'
export type { ProbeSnapshot, StatisticsSnapshot } from './statistics.ts'
export type { NodeState } from './storage/storage-nodes.ts'

/** The attributes of a session. Augment it with those of your app to have them typed everywhere. */
// biome-ignore lint/suspicious/noEmptyInterface: it is there to be augmented
export interface SessionData {}

const storageByKind: StorageClientFactory = (address, options) => {
  if (address.kind === 'memcached') return memcachedStorage(address, options)
  return address.kind === 'redis' ? redisStorage(address, options) : memoryStorage(address, options)
}

/**
 * Makes a session manager. It connects when it is started, or with the first request.
 *
 * @throws TypeError that names the option, the value and the form it should have
 * @throws SessionManagerError ERR_MSM_MISSING_PACKAGE if the client or transcoder package is not installed
 */
export function createSessionManager(options: SessionManagerOptions = {}): SessionManager {
  const resolved = resolveOptions(options)
  const { name, secure, ...attributes } = resolved.cookie
  // What the cookie package would refuse is refused now, not in the first response.
  cookieCodec.write(name, '', { ...attributes, secure: secure !== false })
  return new SessionManager(resolved, {
    createClient: resolved.storage === 'auto' ? storageByKind : resolved.storage,
    transcoders: [transcoderByName(resolved.transcoder), ...resolved.readTranscoders.map(transcoderByName)],
    cookies: cookieCodec,
  })
}

function transcoderByName(transcoder: 'msgpack' | 'json' | SessionTranscoder): SessionTranscoder {
  if (typeof transcoder === 'object') return transcoder
  return transcoder === 'json' ? jsonTranscoder() : msgpackTranscoder()
}
