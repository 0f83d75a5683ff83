import { SessionManagerError } from '../errors.ts'
import { isInt32, readInt32, readInt64, writeInt32, writeInt64 } from './int64.ts'

/** When a session was last used: stored beside the session, so that a request that only reads need not rewrite it. */
export interface ValidityInfo {
  /** Seconds; 0 or less: the session never expires. */
  maxInactiveInterval: number
  /** Epoch milliseconds: when the request before the current one began. */
  lastAccessedTime: number
  /** Epoch milliseconds: when the current request began. */
  thisAccessedTime: number
}

const LENGTH = 20

/**
 * The 20 bytes of a validity info, as MSM's SessionValidityInfo writes them.
 *
 * @throws SessionManagerError `ERR_MSM_INVALID_RECORD` for a field out of range.
 */
export function encodeValidityInfo(info: ValidityInfo): Buffer {
  const { maxInactiveInterval, lastAccessedTime, thisAccessedTime } = info
  if (!isInt32(maxInactiveInterval)) throw invalid(`maxInactiveInterval ${maxInactiveInterval} is no int32`)
  checkTimes(lastAccessedTime, thisAccessedTime)
  const bytes = Buffer.allocUnsafe(LENGTH)
  writeInt32(bytes, maxInactiveInterval, 0)
  writeInt64(bytes, lastAccessedTime, 4)
  writeInt64(bytes, thisAccessedTime, 12)
  return bytes
}

/**
 * Reads a validity info.
 *
 * @throws SessionManagerError `ERR_MSM_INVALID_RECORD` for anything but 20 bytes with times in range.
 */
export function decodeValidityInfo(bytes: Buffer): ValidityInfo {
  if (bytes.length !== LENGTH) throw invalid(`${bytes.length} bytes instead of ${LENGTH}`)
  const maxInactiveInterval = readInt32(bytes, 0)
  const lastAccessedTime = readInt64(bytes, 4)
  const thisAccessedTime = readInt64(bytes, 12)
  checkTimes(lastAccessedTime, thisAccessedTime)
  return { maxInactiveInterval, lastAccessedTime, thisAccessedTime }
}

/** Whole seconds since the session was last used, as Tomcat counts them; 0 if a clock runs behind. */
export function idleSeconds(thisAccessedTime: number, now: number): number {
  return Math.max(0, Math.floor((now - thisAccessedTime) / 1000))
}

/**
 * True until the session was idle for `maxInactiveInterval` seconds; always true if that is 0 or less
 * (SessionValidityInfoTest). `now` is in epoch milliseconds.
 */
export function isSessionAlive(
  info: Pick<ValidityInfo, 'maxInactiveInterval' | 'thisAccessedTime'>,
  now: number,
): boolean {
  return info.maxInactiveInterval <= 0 || idleSeconds(info.thisAccessedTime, now) < info.maxInactiveInterval
}

function checkTimes(lastAccessedTime: number, thisAccessedTime: number): void {
  if (!Number.isSafeInteger(lastAccessedTime) || !Number.isSafeInteger(thisAccessedTime)) {
    throw invalid('one of its times is not in whole milliseconds, or out of range')
  }
}

function invalid(problem: string): SessionManagerError {
  return new SessionManagerError('ERR_MSM_INVALID_RECORD', `Not a valid validity info: ${problem}.`)
}
