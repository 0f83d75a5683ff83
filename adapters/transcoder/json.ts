import type { SessionAttributes, SessionTranscoder } from '../../lib/ports.ts'
import {
  checkEncodedInput,
  checkEncodedSize,
  isAttributes,
  isForbiddenKey,
  resolveLimits,
  type TranscoderOptions,
  undecodable,
  unencodable,
} from './limits.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/**
 * Session attributes as JSON, readable by any program. What JSON knows survives, and the rest is as `JSON.stringify`
 * has it: a Date comes back as a string, a Map or Set as `{}`, NaN as null, a Buffer as `{ type, data }`; undefined,
 * functions and symbols are left out. A BigInt or a cycle can't be encoded (`ERR_MSM_ENCODE`).
 *
 * `__proto__` and `constructor` keys are dropped at every depth on reading.
 *
 * @throws TypeError for wrong options.
 */
export function jsonTranscoder(options: TranscoderOptions = {}): SessionTranscoder {
  const limits = resolveLimits(options)

  return {
    name: 'json',

    encode(attributes: SessionAttributes): Buffer {
      const text = stringify(attributes)
      // Fewer characters can't open and close that many levels (and the attributes' own).
      if (text.length > 2 * limits.maxDepth && depthOf(text) > limits.maxDepth + 1) {
        throw tooDeep(attributes, limits.maxDepth)
      }
      return checkEncodedSize(Buffer.from(text), limits)
    },

    decode(bytes: Buffer): SessionAttributes {
      checkEncodedInput(bytes, limits)
      const attributes = parse(bytes)
      if (!isAttributes(attributes)) throw undecodable('it is not a JSON object')
      sanitize(attributes, limits.maxDepth)
      return attributes
    },
  }
}

function stringify(attributes: SessionAttributes): string {
  // Called by JSON.stringify, an attribute of this name would put something else in the place of them all.
  if (typeof attributes.toJSON === 'function') throw unencodable('toJSON', 'it is a function')
  try {
    return JSON.stringify(attributes)
  } catch (error) {
    throw findUnencodable(attributes) ?? error
  }
}

/** The attribute that made `JSON.stringify` throw; the success path does not pay for the search. */
function findUnencodable(attributes: SessionAttributes): Error | undefined {
  for (const name of Object.keys(attributes)) {
    try {
      JSON.stringify({ [name]: attributes[name] })
    } catch (error) {
      return unencodable(name, describe(error), error)
    }
  }
  return undefined
}

/** Not the message of a `toJSON` that throws, which may hold session data; it is the cause. */
function describe(error: unknown): string {
  if (error instanceof RangeError) return 'it nests too deeply'
  if (error instanceof TypeError && error.message.includes('BigInt'))
    return 'it holds a BigInt, which JSON does not have'
  if (error instanceof TypeError && error.message.includes('circular')) return 'it holds a cycle'
  return 'JSON.stringify throws'
}

function tooDeep(attributes: SessionAttributes, maxDepth: number): Error {
  const name = Object.keys(attributes).find((key) => {
    const text = JSON.stringify(attributes[key])
    return text !== undefined && depthOf(text) > maxDepth
  })
  return unencodable(name ?? '', `it nests deeper than ${maxDepth} levels`)
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    // Its message quotes the text, which is session data.
    throw undecodable('it is not JSON')
  }
}

/** Drops forbidden keys and refuses what is too deep. Walking what was parsed is cheaper than a reviver, or a scan. */
function sanitize(value: object, levelsLeft: number): void {
  if (levelsLeft < 0) throw undecodable('it nests too deeply')
  if (Array.isArray(value)) {
    for (const element of value) {
      if (typeof element === 'object' && element !== null) sanitize(element, levelsLeft - 1)
    }
    return
  }
  const object = value as Record<string, unknown>
  for (const key of Object.keys(object)) {
    if (isForbiddenKey(key)) {
      delete object[key]
      continue
    }
    const child = object[key]
    if (typeof child === 'object' && child !== null) sanitize(child, levelsLeft - 1)
  }
}

/** How many objects and arrays lie within each other in a valid JSON text. */
function depthOf(text: string): number {
  let depth = 0
  let deepest = 0
  let isInString = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (isInString) {
      if (code === BACKSLASH) i++
      else if (code === QUOTE) isInString = false
    } else if (code === QUOTE) isInString = true
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) deepest = Math.max(deepest, ++depth)
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
  }
  return deepest
}
