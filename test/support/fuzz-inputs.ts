import fc from 'fast-check'
import { SessionManagerError, type SessionManagerErrorCode } from '../../lib/errors.ts'

/** Bytes that are a boundary of something: of signs, of ASCII, of lengths, of msgpack tokens. */
const BOUNDARIES = [0x00, 0x01, 0x20, 0x22, 0x30, 0x31, 0x5b, 0x7b, 0x7f, 0x80, 0x90, 0xc0, 0xc1, 0xdf, 0xfe, 0xff]

type Mutation = readonly [kind: number, at: number, byte: number]

const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.tuple(fc.nat(6), fc.nat(0xffff), fc.oneof(fc.nat(255), fc.constantFrom(...BOUNDARIES))),
  {
    minLength: 1,
    maxLength: 4,
  },
)

/** Valid inputs of one kind. They are drawn once, as most runs need another mutation rather than another input. */
export function pool<T>(valid: fc.Arbitrary<T>, size = 300): fc.Arbitrary<T> {
  return fc.constantFrom(...fc.sample(valid, { numRuns: size, seed: 1 }))
}

/** Valid bytes with up to four changes: bits flipped, bytes replaced, removed, inserted, repeated, cut off. */
export function mutated(valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc.tuple(valid, mutations).map(([bytes, changes]) => changes.reduce(mutate, bytes))
}

function mutate(bytes: Buffer, [kind, position, byte]: Mutation): Buffer {
  const at = position % (bytes.length + 1)
  const end = Math.min(bytes.length, at + 1 + (byte & 0x0f))
  const before = bytes.subarray(0, at)
  switch (kind) {
    case 0:
    case 1: {
      const copy = Buffer.from(bytes)
      if (at < copy.length) copy[at] = kind === 0 ? copy[at]! ^ (1 << (byte & 7)) : byte
      return copy
    }
    case 2:
      return Buffer.concat([before, bytes.subarray(end)])
    case 3:
      return Buffer.concat([before, Buffer.from([byte]), bytes.subarray(at)])
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)])
    case 5:
      return before
    default:
      return Buffer.concat([bytes, bytes.subarray(at)])
  }
}

/** Valid text with up to three changes: characters replaced, removed, inserted, pieces repeated. */
export function mutatedText(valid: fc.Arbitrary<string>, pieces: readonly string[]): fc.Arbitrary<string> {
  const change = fc.tuple(fc.nat(3), fc.nat(0xffff), fc.constantFrom(...pieces))
  return fc.tuple(valid, fc.array(change, { minLength: 1, maxLength: 3 })).map(([text, changes]) =>
    changes.reduce((changed, [kind, position, piece]) => {
      const at = position % (changed.length + 1)
      const before = changed.slice(0, at)
      if (kind === 0) return before + piece + changed.slice(at)
      if (kind === 1) return before + piece + changed.slice(at + 1)
      if (kind === 2) return before + changed.slice(at + 1)
      return changed + piece + changed.slice(at)
    }, text),
  )
}

/** Any bytes: random ones, few of many kinds. */
export const anyBytes: fc.Arbitrary<Buffer> = fc.uint8Array({ maxLength: 120 }).map((bytes) => Buffer.from(bytes))

/** Any text: with control characters, half surrogate pairs, and everything else a client can send. */
export const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme-ascii', maxLength: 60 }),
)

/** Any value an app can pass by mistake. */
export const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true, maxDepth: 2 }),
  fc.anything({ withNullPrototype: true, withSparseArray: true, withObjectString: true, maxDepth: 2 }),
  fc.constantFrom<unknown>(Symbol('s'), Object.create(null), () => 'x', /a/g, new Proxy({}, {}), class {}),
)

/** What the call returns; undefined if it throws the error that is documented. Any other error is passed on. */
export function orCode<T>(action: () => T, ...codes: SessionManagerErrorCode[]): T | undefined {
  try {
    return action()
  } catch (error) {
    if (error instanceof SessionManagerError && codes.includes(error.code)) return undefined
    throw error
  }
}

/** What the call returns; or the message of the TypeError that it throws. Any other error is passed on. */
export function orMessage<T>(action: () => T): { value: T } | { message: string } {
  try {
    return { value: action() }
  } catch (error) {
    if (error instanceof TypeError) return { message: error.message }
    throw error
  }
}

/** True if the call takes less than the milliseconds in one of three attempts: others may be using the processor. */
export function isFast(action: () => unknown, milliseconds: number): boolean {
  for (let attempt = 0; attempt < 3; attempt++) {
    const start = performance.now()
    action()
    if (performance.now() - start < milliseconds) return true
  }
  return false
}
