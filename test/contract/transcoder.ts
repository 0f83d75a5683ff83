import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SessionManagerError } from '../../lib/errors.ts'
import type { SessionAttributes, SessionTranscoder } from '../../lib/ports.ts'

/** Kinds of values beyond those of JSON that a transcoder may bring back as they were. */
export type TranscoderFeature = 'bigint' | 'bytes' | 'date' | 'map' | 'nonFinite' | 'references' | 'set' | 'undefined'

export interface TranscoderContractOptions {
  supports: readonly TranscoderFeature[]
  /** Levels of nesting that have to be refused. @default 1000 */
  depth?: number
}

const FORBIDDEN = new Set(['__proto__', 'constructor'])
/** The prototypes that may occur in what was decoded, whatever the bytes. */
const SAFE_PROTOTYPES = new Set<unknown>([
  Object.prototype,
  Array.prototype,
  Date.prototype,
  Map.prototype,
  Set.prototype,
  Buffer.prototype,
  Uint8Array.prototype,
])

/** What every SessionTranscoder has to hold. `create` makes one with its default limits. */
export function transcoderContract(
  name: string,
  create: () => SessionTranscoder,
  { supports, depth = 1000 }: TranscoderContractOptions,
): void {
  describe(`the transcoder contract: ${name}`, () => {
    const transcoder = create()
    const attributes = attributesArbitrary(supports)

    test('has a name', () => {
      expect(transcoder.name).toMatch(/^\S+$/)
    })

    test('brings back what it supports, and no more than that', () => {
      fc.assert(
        fc.property(attributes, (value) => {
          expect(transcoder.decode(transcoder.encode(value))).toEqual(value)
        }),
        { numRuns: 1000 },
      )
    })

    test('writes equal bytes for equal attributes, from another instance and after a round trip as well', () => {
      const other = create()
      fc.assert(
        fc.property(attributes, (value) => {
          const bytes = transcoder.encode(value)
          expect(other.encode(value).equals(bytes)).toBe(true)
          expect(other.encode(other.decode(bytes)).equals(bytes)).toBe(true)
        }),
        { numRuns: 1000 },
      )
    })

    test('keeps no state from one session that another could be read with', () => {
      const values = fc.sample(attributes, { numRuns: 200, seed: 1 })
      const encoded = values.map((value) => transcoder.encode(value))
      const reader = create()
      for (let i = values.length - 1; i >= 0; i--) expect(reader.decode(encoded[i]!)).toEqual(values[i])
    })

    test('returns bytes that later calls do not change', () => {
      const first = transcoder.encode({ name: 'alice', list: [1, 2, 3] })
      const copy = Buffer.from(first)
      for (let i = 0; i < 100; i++) transcoder.encode({ name: 'x'.repeat(i * 100), list: [i] })
      expect(first.equals(copy)).toBe(true)
    })

    test('returns values that do not change with the bytes, and bytes that do not change with the values', () => {
      const value = { text: 'a string of some length', nested: { list: [1] }, bytes: bytesOr(supports, 'abc') }
      const bytes = transcoder.encode(value)
      const copy = Buffer.from(bytes)
      const decoded = transcoder.decode(bytes)
      bytes.fill(0)
      expect(decoded).toEqual(value)
      const again = transcoder.decode(copy)
      const before = Buffer.from(copy)
      if (again.bytes instanceof Uint8Array) again.bytes.fill(0)
      expect(copy.equals(before)).toBe(true)
    })

    test('reads bytes that are a view on a larger buffer', () => {
      const bytes = transcoder.encode({ a: 'x', b: [1, 2.5, 'y'.repeat(100)] })
      const larger = Buffer.concat([Buffer.alloc(7, 0xff), bytes, Buffer.alloc(9, 0xff)])
      expect(transcoder.decode(larger.subarray(7, 7 + bytes.length))).toEqual({ a: 'x', b: [1, 2.5, 'y'.repeat(100)] })
    })

    test('survives random bytes', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => decodesSafely(transcoder, Buffer.from(bytes))),
        { numRuns: 3000 },
      )
    })

    test('survives bytes of its own that were cut, changed or prolonged', () => {
      fc.assert(
        fc.property(attributes, fc.nat(), fc.nat(255), fc.nat(2), (value, position, byte, how) => {
          const bytes = Buffer.from(transcoder.encode(value))
          const at = position % bytes.length
          if (how === 0) return decodesSafely(transcoder, bytes.subarray(0, at))
          if (how === 1) return decodesSafely(transcoder, Buffer.concat([bytes, Buffer.from([byte])]))
          bytes[at] = byte
          return decodesSafely(transcoder, bytes)
        }),
        { numRuns: 3000 },
      )
    })

    test('refuses bytes that are cut off, at every length', () => {
      const bytes = transcoder.encode({
        user: { name: 'alice', roles: ['admin'] },
        count: 12345,
        text: 'x'.repeat(300),
      })
      for (let length = 0; length < bytes.length; length++) expectUndecodable(transcoder, bytes.subarray(0, length))
    })

    test('refuses bytes after the end', () => {
      expectUndecodable(transcoder, Buffer.concat([transcoder.encode({ a: 1 }), transcoder.encode({ b: 2 })]))
    })

    test.each([['__proto__'], ['constructor']])('drops %s keys at every depth, and no prototype changes', (key) => {
      const evil = JSON.parse(`{"${key}": {"isAdmin": true}, "prototype": {"isAdmin": true}, "keep": 1}`)
      const list = [evil, [evil]]
      const decoded = transcoder.decode(transcoder.encode({ top: evil, list, ...pollutedAttribute(key) }))
      const clean = { prototype: { isAdmin: true }, keep: 1 }
      expect(decoded).toEqual({ top: clean, list: [clean, [clean]] })
      const merged = Object.assign({}, decoded.top) as Record<string, unknown>
      expect(merged.isAdmin).toBeUndefined()
      expect(({} as Record<string, unknown>).isAdmin).toBeUndefined()
    })

    test('refuses to write what nests deeper than it reads, and names the attribute', () => {
      let nested: unknown = 'the end'
      for (let i = 0; i < depth; i++) nested = i % 2 ? [nested] : { nested }
      expectUnencodable(transcoder, { fine: 1, deep: nested }, 'deep')
    })

    test('names the attribute that it can not write', () => {
      const thrower = {
        toJSON(): never {
          throw new Error('secret')
        },
      }
      const error = expectUnencodable(transcoder, { fine: 1, bad: { inner: [thrower] } }, 'bad')
      expect(error.message).not.toContain('secret')
    })

    if (supports.includes('references')) testReferences(transcoder)
    else {
      test('refuses a cycle', () => {
        const cycle: Record<string, unknown> = {}
        cycle.self = cycle
        expectUnencodable(transcoder, { fine: 1, loop: cycle }, 'loop')
      })
    }
    if (!supports.includes('bigint')) {
      test('refuses a BigInt rather than losing digits', () => {
        expectUnencodable(transcoder, { fine: 1, big: { inner: 2n ** 70n } }, 'big')
      })
    }
  })
}

function testReferences(transcoder: SessionTranscoder): void {
  test('keeps shared references shared', () => {
    const shared = { n: 1 }
    const decoded = transcoder.decode(transcoder.encode({ a: shared, b: [shared], c: { shared } })) as {
      a: object
      b: object[]
      c: { shared: object }
    }
    expect(decoded.a).toEqual({ n: 1 })
    expect(decoded.b[0]).toBe(decoded.a)
    expect(decoded.c.shared).toBe(decoded.a)
  })

  test('keeps cycles', () => {
    const value: Record<string, unknown> = { list: [] }
    value.self = value
    ;(value.list as unknown[]).push(value.list, value)
    const decoded = transcoder.decode(transcoder.encode({ value })).value as Record<string, unknown>
    expect(decoded.self).toBe(decoded)
    expect((decoded.list as unknown[])[0]).toBe(decoded.list)
    expect((decoded.list as unknown[])[1]).toBe(decoded)
  })
}

/** Decodes, or throws the one error that it may throw; never returns what could do harm. */
export function decodesSafely(transcoder: SessionTranscoder, bytes: Buffer): void {
  let decoded: SessionAttributes
  try {
    decoded = transcoder.decode(bytes)
  } catch (error) {
    expect(error).toBeInstanceOf(SessionManagerError)
    expect(error).toMatchObject({ code: 'ERR_MSM_DECODE' })
    return
  }
  expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype)
  expectHarmless(decoded)
}

export function expectHarmless(root: unknown): void {
  const seen = new Set<unknown>()
  const queue: unknown[] = [root]
  for (const value of queue) {
    if (typeof value === 'function' || typeof value === 'symbol') throw new Error(`decoded a ${typeof value}`)
    if (typeof value !== 'object' || value === null || seen.has(value)) continue
    seen.add(value)
    const prototype = Object.getPrototypeOf(value)
    if (!SAFE_PROTOTYPES.has(prototype)) throw new Error(`decoded a ${prototype?.constructor?.name}`)
    if (value instanceof Map) queue.push(...value.keys(), ...value.values())
    else if (value instanceof Set) queue.push(...value)
    else if (!(value instanceof Uint8Array)) {
      for (const key of Reflect.ownKeys(value)) {
        if (FORBIDDEN.has(String(key))) throw new Error(`decoded a key ${String(key)}`)
        queue.push((value as Record<PropertyKey, unknown>)[key])
      }
    }
  }
}

export function expectUndecodable(transcoder: SessionTranscoder, bytes: Buffer): SessionManagerError {
  return expectError(() => transcoder.decode(bytes), 'ERR_MSM_DECODE')
}

export function expectUnencodable(
  transcoder: SessionTranscoder,
  attributes: SessionAttributes,
  attribute: string,
): SessionManagerError {
  const error = expectError(() => transcoder.encode(attributes), 'ERR_MSM_ENCODE')
  expect(error.message).toContain(`"${attribute}"`)
  return error
}

function expectError(action: () => unknown, code: string): SessionManagerError {
  try {
    action()
  } catch (error) {
    expect(error).toBeInstanceOf(SessionManagerError)
    expect(error).toMatchObject({ code })
    return error as SessionManagerError
  }
  throw new Error(`expected ${code}`)
}

function pollutedAttribute(key: string): SessionAttributes {
  return JSON.parse(`{"${key}": {"isAdmin": true}}`)
}

function bytesOr(supports: readonly TranscoderFeature[], text: string): Buffer | string {
  return supports.includes('bytes') ? Buffer.from(text) : text
}

/** Session attributes of the supported kinds, up to a few levels deep. */
export function attributesArbitrary(supports: readonly TranscoderFeature[]): fc.Arbitrary<SessionAttributes> {
  // Half a surrogate pair is no text, and no encoding of text has to keep it.
  const text = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 20 }),
    fc.string({ unit: 'grapheme-ascii', maxLength: 100 }),
  )
  const key = text.filter((name) => !FORBIDDEN.has(name))
  const positiveZero = (value: number): number => value + 0
  const scalars: fc.Arbitrary<unknown>[] = [
    text,
    fc.boolean(),
    fc.constant(null),
    fc.integer(),
    fc.maxSafeInteger().map(positiveZero),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(positiveZero),
  ]
  if (supports.includes('bigint')) scalars.push(fc.bigInt(), fc.bigInt({ min: -(2n ** 600n), max: 2n ** 600n }))
  if (supports.includes('bytes')) {
    scalars.push(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    )
  }
  if (supports.includes('date')) scalars.push(fc.date(), fc.constant(new Date(Number.NaN)))
  if (supports.includes('nonFinite')) scalars.push(fc.constantFrom(Number.NaN, Infinity, -Infinity))
  if (supports.includes('undefined')) scalars.push(fc.constant(undefined))
  const { value } = fc.letrec<{ value: unknown }>((tie) => {
    const containers: fc.Arbitrary<unknown>[] = [
      fc.array(tie('value'), { maxLength: 5 }),
      fc.dictionary(key, tie('value'), { maxKeys: 5, noNullPrototype: true }),
    ]
    if (supports.includes('map')) {
      containers.push(fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 4 }).map((pairs) => new Map(pairs)))
    }
    if (supports.includes('set')) {
      containers.push(fc.array(tie('value'), { maxLength: 4 }).map((values) => new Set(values)))
    }
    return { value: fc.oneof({ maxDepth: 4, depthSize: 'small' }, ...scalars, ...containers) }
  })
  return fc.dictionary(key, value, { maxKeys: 6, noNullPrototype: true })
}
