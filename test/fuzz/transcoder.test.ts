import fc from 'fast-check'
import { describe, expect } from 'vitest'
import { jsonTranscoder } from '../../adapters/transcoder/json.ts'
import { msgpackTranscoder } from '../../adapters/transcoder/msgpack.ts'
import type { SessionTranscoder } from '../../lib/ports.ts'
import { attributesArbitrary, expectHarmless, type TranscoderFeature } from '../contract/transcoder.ts'
import { anyBytes, mutated, orCode, pool } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const ALL: TranscoderFeature[] = ['bigint', 'bytes', 'date', 'map', 'nonFinite', 'references', 'set', 'undefined']
const PROTOTYPES = [Object, Array, Map, Set, Date, Uint8Array, Function].map(({ prototype }) => prototype as object)
const KEYS = PROTOTYPES.map((prototype) => Reflect.ownKeys(prototype).length)

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
/** Pieces of which valid msgpack consists: containers, lengths, tags, pointers, and the keys that reach prototypes. */
const MSGPACK_PIECES = [
  ...['80', '81', '82', 'de0002', 'df00000001', '90', '91', '93', 'dc0002', 'dd00000001', 'ddffffffff', 'dfffffffff'],
  ...['a161', 'a162', 'a0', 'd90161', 'da000161', 'db00000001', 'c0', 'c2', 'c3', '01', 'ff', 'cb3ff0000000000000'],
  ...['c40161', 'c5000161', 'c6ffffffff', 'cfffffffffffffffff', 'd3ffffffffffffffff', 'ca7fc00000', 'c1'],
  ...['d4004d', 'd44d00', 'd47300', 'd67000000001', 'd66900000001', 'd66900000002', 'd67000000002', 'd44201', 'c70042'],
  ...['c7027401ff', 'c70174', 'c7037402ff', 'd6ff00000001', 'd7ff0000000000000001', 'd4ff00', 'd40000'],
  ...['a95f5f70726f746f5f5f', 'ab636f6e7374727563746f72', 'a970726f746f74797065', 'a6746f4a534f4e'],
].map((hex) => Buffer.from(hex, 'hex'))
const JSON_PIECES = [
  ...['{', '}', '[', ']', ',', ':', '"a"', '"a":', '"b":1', '1', '-0', '1e999', 'null', 'true', '""', '\\', '"'],
  ...['"__proto__":', '"constructor":', '"\\u005f_proto__":', '"prototype":', '"toJSON":', '{"isAdmin":true}', '{}'],
].map((text) => Buffer.from(text))

const transcoders: [SessionTranscoder, readonly TranscoderFeature[], Buffer[], Buffer][] = [
  [msgpackTranscoder(), ALL, MSGPACK_PIECES, Buffer.from([0x82])],
  [jsonTranscoder(), [], JSON_PIECES, Buffer.from('{')],
]

function decodeSafely(transcoder: SessionTranscoder, bytes: Buffer): void {
  const decoded = orCode(() => transcoder.decode(bytes), 'ERR_MSM_DECODE')
  PROTOTYPES.forEach((prototype, i) => {
    if (Reflect.ownKeys(prototype).length !== KEYS[i]) throw new Error('a prototype was changed')
  })
  if (decoded === undefined) return
  expectHarmless(decoded)
  // It is stored again with the next change.
  const again = orCode(() => transcoder.encode(decoded), 'ERR_MSM_ENCODE', 'ERR_MSM_INVALID_ITEM')
  if (again) expectHarmless(transcoder.decode(again))
}

describe.each(transcoders)('the transcoder $name', (transcoder, features, pieces, start) => {
  const attributes = attributesArbitrary(features)
  const hostileKeys = fc.constantFrom('__proto__', 'constructor', 'prototype', 'toJSON', 'toString', 'a')
  const { hostile } = fc.letrec<{ hostile: unknown }>((tie) => ({
    hostile: fc.oneof(
      { maxDepth: 4, depthSize: 'small' },
      fc.constantFrom<unknown>(1, 'x', null, true),
      fc.array(tie('hostile'), { maxLength: 3 }),
      fc.array(fc.tuple(hostileKeys, tie('hostile')), { maxLength: 3 }).map((entries) => {
        const object = {}
        for (const [key, value] of entries)
          Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true })
        return object
      }),
    ),
  }))
  const valid = pool(attributes.map((value) => Buffer.from(transcoder.encode(value))))

  fuzz(
    'brings back any attributes',
    fc.property(attributes, (value) => {
      expect(transcoder.decode(transcoder.encode(value))).toEqual(value)
    }),
    10,
  )
  fuzz(
    'writes and reads no key that reaches a prototype',
    fc.property(fc.dictionary(hostileKeys, hostile, { noNullPrototype: true }), (value) => {
      const bytes = orCode(() => transcoder.encode(value), 'ERR_MSM_ENCODE')
      if (bytes) decodeSafely(transcoder, bytes)
      decodeSafely(transcoder, json(value))
    }),
    3,
  )
  fuzz(
    'reads bytes of its own that were mutated',
    fc.property(mutated(valid), (bytes) => decodeSafely(transcoder, bytes)),
  )
  fuzz(
    'reads one half of a session and one of another',
    fc.property(valid, valid, fc.nat(), fc.nat(), (one, other, end, begin) =>
      decodeSafely(
        transcoder,
        Buffer.concat([one.subarray(0, end % (one.length + 1)), other.subarray(begin % (other.length + 1))]),
      ),
    ),
  )
  fuzz(
    'reads any pieces of its format',
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 30 }), (parts) =>
      decodeSafely(transcoder, Buffer.concat([start, ...parts])),
    ),
  )
  fuzz(
    'reads any bytes',
    fc.property(anyBytes, (bytes) => decodeSafely(transcoder, bytes)),
  )
  fuzz(
    'reads any piece of its format a hundred thousand times',
    fc.property(fc.constantFrom(...pieces), fc.constantFrom(...pieces), (one, other) =>
      decodeSafely(transcoder, Buffer.concat([start, Buffer.alloc(200_000, Buffer.concat([one, other]))])),
    ),
    30,
  )
})

describe('the msgpack transcoder', () => {
  const hex = (...texts: string[]): fc.Arbitrary<Buffer> =>
    fc.constantFrom(...texts.map((text) => Buffer.from(text, 'hex')))
  const key = hex('a161', 'a162', 'a0', 'a95f5f70726f746f5f5f', 'ab636f6e7374727563746f72', 'a6746f4a534f4e')
  const id = fc.constantFrom('01', '02', '03')
  const { value } = fc.letrec<{ value: Buffer; container: Buffer }>((tie) => {
    const sized = (tag: string, token: number, ...elements: fc.Arbitrary<Buffer>[]): fc.Arbitrary<Buffer> =>
      fc
        .array(fc.tuple(...elements), { maxLength: 4 })
        .map((rows) => Buffer.concat([Buffer.from(tag, 'hex'), Buffer.from([token | rows.length]), ...rows.flat()]))
    return {
      container: fc.oneof(
        { maxDepth: 4, depthSize: 'small' },
        hex('80', '90'),
        sized('', 0x80, key, tie('value')),
        sized('', 0x90, tie('value')),
        sized('d44d00', 0x80, tie('value'), tie('value')),
        sized('d47300', 0x90, tie('value')),
      ),
      value: fc.oneof(
        hex('01', 'c0', 'c3', 'ff', 'cb8000000000000000', 'ca7fc00000', 'a161', 'c40161', 'd4ff00', 'd40000'),
        hex('d44201', 'd742ffffffffffffffff', 'd5740141', 'cfffffffffffffffff', 'd7ffffffffffffffffff'),
        tie('container'),
        id.map((number) => Buffer.from(`d670000000${number}`, 'hex')),
        fc.tuple(id, tie('container')).map(([number, bytes]) => {
          return Buffer.concat([Buffer.from(`d669000000${number}`, 'hex'), bytes])
        }),
      ),
    }
  })
  const session = fc
    .tuple(fc.option(id, { nil: undefined }), fc.array(fc.tuple(key, value), { minLength: 1, maxLength: 6 }))
    .map(([number, pairs]) =>
      Buffer.concat([
        Buffer.from(number === undefined ? '' : `d669000000${number}`, 'hex'),
        Buffer.from([0x80 | pairs.length]),
        ...pairs.flat(),
      ]),
    )
  fuzz(
    'reads values of any kinds, with pointers to any of them',
    fc.property(session, (bytes) => decodeSafely(transcoders[0]![0], bytes)),
  )
})
