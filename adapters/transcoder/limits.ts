import { SessionManagerError } from '../../lib/errors.ts'
import type { SessionAttributes } from '../../lib/ports.ts'

/** What a transcoder accepts, in both directions: what it writes, it reads. */
export interface TranscoderOptions {
  /** Bytes the attributes of one session may take. @default 1048576 (1 MiB, the item size of memcached) */
  maxBytes?: number
  /** Levels of objects, arrays, maps and sets within an attribute. @default 100 */
  maxDepth?: number
}

export type TranscoderLimits = Readonly<Required<TranscoderOptions>>

const DEFAULT_MAX_BYTES = 1_048_576
const DEFAULT_MAX_DEPTH = 100
/** Reading and writing recurse; this many levels fit on the stack with room to spare. */
const HIGHEST_MAX_DEPTH = 1000
/** Characters of an attribute's name that are shown. */
const MAX_NAME_LENGTH = 100

/** @throws TypeError for a limit that is not a whole number in range. */
export function resolveLimits(options: TranscoderOptions): TranscoderLimits {
  const { maxBytes = DEFAULT_MAX_BYTES, maxDepth = DEFAULT_MAX_DEPTH } = options
  check('maxBytes', maxBytes, Number.MAX_SAFE_INTEGER)
  check('maxDepth', maxDepth, HIGHEST_MAX_DEPTH)
  return Object.freeze({ maxBytes, maxDepth })
}

function check(name: string, value: unknown, highest: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= highest) return
  throw new TypeError(`${name}: ${String(value)} is not valid. It must be a whole number from 1 to ${highest}.`)
}

/** Keys that are neither written nor read at any depth: merged into another object, they would reach prototypes. */
export function isForbiddenKey(key: string): boolean {
  return key === '__proto__' || key === 'constructor'
}

/**
 * No attribute is at fault here, so the code is that of a value too large for a node, not `ERR_MSM_ENCODE`.
 *
 * @throws SessionManagerError `ERR_MSM_INVALID_ITEM` if the attributes take too many bytes to be read again.
 */
export function checkEncodedSize(bytes: Buffer, { maxBytes }: TranscoderLimits): Buffer {
  if (bytes.length <= maxBytes) return bytes
  throw new SessionManagerError(
    'ERR_MSM_INVALID_ITEM',
    `The session attributes take ${bytes.length} bytes, more than maxBytes of the transcoder (${maxBytes}).`,
  )
}

/** @throws SessionManagerError `ERR_MSM_DECODE` if there are more bytes than may be read. */
export function checkEncodedInput(bytes: Buffer, { maxBytes }: TranscoderLimits): void {
  if (bytes.length > maxBytes) throw undecodable(`${bytes.length} bytes, more than maxBytes (${maxBytes})`)
}

/** True for what a decoded session must be at the top: an object with attributes by name. */
export function isAttributes(value: unknown): value is SessionAttributes {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}

export function undecodable(problem: string, cause?: unknown): SessionManagerError {
  return new SessionManagerError('ERR_MSM_DECODE', `The stored session attributes can't be read: ${problem}.`, {
    cause,
  })
}

/** `problem` says where in the attribute, and what: `cart[3].callback is a function`. */
export function unencodable(attribute: string, problem: string, cause?: unknown): SessionManagerError {
  const name = JSON.stringify(attribute.slice(0, MAX_NAME_LENGTH))
  return new SessionManagerError('ERR_MSM_ENCODE', `The session attribute ${name} can't be stored: ${problem}.`, {
    cause,
  })
}
