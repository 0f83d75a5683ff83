/** The stable codes of {@link SessionManagerError}. */
export type SessionManagerErrorCode =
  /** An optional package is not installed; the message names the install command. */
  | 'ERR_MSM_MISSING_PACKAGE'
  /** A storage operation was not answered within `operationTimeout`. */
  | 'ERR_MSM_TIMEOUT'
  /** The connection to a node broke, was refused, or is known to be down. */
  | 'ERR_MSM_NODE_UNAVAILABLE'
  /** The node answered, but refused the operation (out of memory, wrong credentials, …). */
  | 'ERR_MSM_STORAGE_REFUSED'
  /** A key, value or expiry that must not be sent to a node. */
  | 'ERR_MSM_INVALID_ITEM'
  /** A stored record is not what its header says. */
  | 'ERR_MSM_INVALID_RECORD'
  /** An attribute can't be encoded; the message names it. */
  | 'ERR_MSM_ENCODE'
  /** Stored attributes can't be decoded. */
  | 'ERR_MSM_DECODE'
  /** Stored attributes are encrypted with a key that is not configured. */
  | 'ERR_MSM_UNKNOWN_KEY'
  /** `maxActiveSessions` or `maxSessionsPerPrincipal` is reached. */
  | 'ERR_MSM_TOO_MANY_SESSIONS'
  /** The session was destroyed, or expired, before the call. */
  | 'ERR_MSM_SESSION_INVALID'
  /** No node could be asked for the session (HTTP status 503). */
  | 'ERR_MSM_STORAGE_UNAVAILABLE'
  /** The lock of the session was not to be had in time (HTTP status 503). */
  | 'ERR_MSM_LOCK_TIMEOUT'
  /** Another request changed the same attribute (HTTP status 409). */
  | 'ERR_MSM_CONFLICT'
  /** The manager was stopped, or not in a state for the call. */
  | 'ERR_MSM_STATE'

export interface SessionManagerErrorOptions {
  cause?: unknown
  /** HTTP status an error handler should answer with. Express, Koa and Fastify read it. */
  status?: number
  /** Response headers an error handler should send, such as `Retry-After`. */
  headers?: Record<string, string>
}

/** Every error this package raises, but for wrong options, which are a `TypeError`. */
export class SessionManagerError extends Error {
  override readonly name: string = 'SessionManagerError'
  readonly code: SessionManagerErrorCode
  declare readonly status?: number
  declare readonly statusCode?: number
  declare readonly headers?: Record<string, string>

  constructor(code: SessionManagerErrorCode, message: string, options: SessionManagerErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    if (options.status !== undefined) {
      this.status = options.status
      this.statusCode = options.status
    }
    if (options.headers) this.headers = options.headers
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
