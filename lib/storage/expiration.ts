/** Seconds up to which memcached takes an expiry as relative. */
const THIRTY_DAYS = 2_592_000
const MAX_INT32 = 0x7fff_ffff

export interface StickyExpirationOptions {
  /** Seconds; 0 or less: the session never expires. */
  maxInactiveInterval: number
  /** Seconds since the session was last used. */
  idleSeconds: number
  /** Seconds between two sweeps for expired sessions (`processExpiresFrequency` times `backgroundProcessorDelay`). */
  sweepSeconds: number
}

/**
 * Seconds to store a sticky session for: what is left of its idle time, and one sweep more, so that the process that
 * holds it always expires it first. 0 (never) only for a session that never expires: MSM could send 0 or less for one
 * that was about to.
 */
export function stickyExpiration({ maxInactiveInterval, idleSeconds, sweepSeconds }: StickyExpirationOptions): number {
  if (maxInactiveInterval <= 0) return 0
  return limit(Math.max(1, Math.ceil(maxInactiveInterval - Math.max(0, idleSeconds) + sweepSeconds)))
}

/** Seconds to store a non-sticky session for: twice its idle time, as its validity info is what expires it; 0: never. */
export function sessionExpiration(maxInactiveInterval: number): number {
  return maxInactiveInterval <= 0 ? 0 : limit(Math.ceil(2 * maxInactiveInterval))
}

/** Seconds to store a non-sticky session's validity info for; 0: never. */
export function validityExpiration(maxInactiveInterval: number): number {
  return maxInactiveInterval <= 0 ? 0 : limit(Math.ceil(maxInactiveInterval))
}

/**
 * memcached keeps an expiry of more than 30 days as an int32 of epoch seconds; one that ran over would expire the item
 * at once (GH402).
 */
function limit(seconds: number): number {
  if (seconds <= THIRTY_DAYS) return seconds
  return Math.min(seconds, Math.max(THIRTY_DAYS, MAX_INT32 - Math.floor(Date.now() / 1000)))
}
