import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { addExtension, Packr, pack, unpack } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import { msgpackTranscoder } from '../../../adapters/transcoder/msgpack.ts'
import type { SessionAttributes } from '../../../lib/ports.ts'
import { decodesSafely, expectUndecodable, expectUnencodable, transcoderContract } from '../../contract/transcoder.ts'

transcoderContract('msgpack', msgpackTranscoder, {
  supports: ['bigint', 'bytes', 'date', 'map', 'nonFinite', 'references', 'set', 'undefined'],
})

const transcoder = msgpackTranscoder()

function roundTrip(value: unknown): unknown {
  return transcoder.decode(transcoder.encode({ value })).value
}

/** `{ "a": <hex> }` in msgpack. */
function withValue(hex: string): Buffer {
  return Buffer.from(`81a161${hex.replaceAll(' ', '')}`, 'hex')
}

describe('what the msgpack transcoder brings back', () => {
  test('a Buffer as a Buffer, and a Uint8Array as a Uint8Array', () => {
    expect(Buffer.isBuffer(roundTrip(Buffer.from('abc')))).toBe(true)
    const bytes = roundTrip(new Uint8Array([1, 2]))
    expect(bytes).toEqual(new Uint8Array([1, 2]))
    expect(Buffer.isBuffer(bytes)).toBe(false)
  })

  test('an object as an object and a Map as a Map, side by side and nested', () => {
    const value = { object: { a: 1 }, map: new Map<unknown, unknown>([['a', { map: new Map([[{ key: 1 }, 'x']]) }]]) }
    expect(roundTrip(value)).toEqual(value)
  })

  test('integers at the borders of what fits 8, 16, 32, 53 and 64 bits', () => {
    const borders = [7, 8, 15, 16, 31, 32, 53, 63, 64, 65, 128].flatMap((bits) => [
      2n ** BigInt(bits),
      -(2n ** BigInt(bits)),
    ])
    const integers = borders.flatMap((border) => [border - 1n, border, border + 1n])
    expect(roundTrip(integers)).toEqual(integers)
    const numbers = integers.map(Number)
    expect(roundTrip(numbers)).toEqual(numbers)
  })

  test('a BigInt of thousands of digits', () => {
    const values = [3n ** 50_000n, -(3n ** 50_000n)]
    expect(roundTrip(values)).toEqual(values)
  })

  test('dates before 1970, after 2106, with milliseconds, and at the ends of time', () => {
    const dates = [0, 1, -1, 999, -999, 1_700_000_000_123, 2 ** 32 * 1000, 2 ** 34 * 1000 + 7, -8.64e15, 8.64e15].map(
      (time) => new Date(time),
    )
    expect(roundTrip(dates)).toEqual(dates)
  })

  test('strings of every length around the borders, with a byte order mark, in any script, and large ones', () => {
    const strings = [0, 1, 15, 16, 31, 32, 63, 64, 65, 255, 256, 1024, 1025, 65_535, 65_536].flatMap((length) => [
      'x'.repeat(length),
      'ü'.repeat(length),
      `\uFEFF${'x'.repeat(length)}`,
      '🙂'.repeat(Math.ceil(length / 2)),
    ])
    for (const string of strings) expect(roundTrip(string)).toBe(string)
  })

  test('a cycle through a Map, a Set and an array, and one through the attributes themselves', () => {
    const map = new Map<unknown, unknown>()
    const set = new Set<unknown>([map])
    map.set('set', set).set(map, [set, map])
    const attributes: SessionAttributes = { map, copy: map }
    attributes.attributes = attributes
    const decoded = transcoder.decode(transcoder.encode(attributes)) as { map: typeof map } & SessionAttributes
    expect(decoded.attributes).toBe(decoded)
    expect(decoded.copy).toBe(decoded.map)
    const decodedSet = decoded.map.get('set') as Set<unknown>
    expect(decodedSet.has(decoded.map)).toBe(true)
    expect(decoded.map.get(decoded.map)).toEqual([decodedSet, decoded.map])
  })

  test('the same Date and Buffer in two places as one', () => {
    const date = new Date(5)
    const bytes = Buffer.from('x')
    const [first, second, third, fourth] = roundTrip([date, date, bytes, bytes]) as unknown[]
    expect(first).toEqual(date)
    expect(second).toBe(first)
    expect(third).toEqual(bytes)
    expect(fourth).toBe(third)
  })

  test('more than 65,535 keys, elements and entries', () => {
    const numbers = Array.from({ length: 70_000 }, (_, i) => i)
    const large = msgpackTranscoder({ maxBytes: 10_000_000 })
    const value = {
      object: Object.fromEntries(numbers.map((n) => [`k${n}`, n])),
      array: numbers,
      map: new Map(numbers.map((n) => [n, n])),
      set: new Set(numbers),
    }
    expect(large.decode(large.encode(value))).toEqual(value)
  })

  test('keys that mean something to msgpackr, or to objects', () => {
    const value: object[] = [
      { a: 1 },
      { a: 1, __keys__: 2, length: 3 },
      { __proto_: 1, hasOwnProperty: 2, toString: 3, valueOf: 4 },
    ]
    expect(roundTrip(value)).toEqual(value)
    expect(roundTrip([{ a: 1 }])).toEqual([{ a: 1 }])
  })

  test('a toJSON that is no function', () => {
    const bare = Object.assign(Object.create(null), { toJSON: 1 })
    expect(roundTrip([bare, { toJSON: 'x' }])).toEqual([{ toJSON: 1 }, { toJSON: 'x' }])
  })

  test('a session whose objects have no prototype', () => {
    const bare = Object.assign(Object.create(null), { a: Object.assign(Object.create(null), { b: 1 }) })
    expect(transcoder.decode(transcoder.encode(bare))).toEqual({ a: { b: 1 } })
  })
})

describe('what the msgpack transcoder stores of class instances', () => {
  class Cart {
    items = ['a']
    #secret = 1
    get size(): number {
      return this.items.length + this.#secret
    }
  }
  class Money {
    readonly amount = 5
    toJSON(): unknown {
      return { amount: this.amount, at: new Date(0), toJSON: undefined }
    }
  }

  test('their own enumerable properties', () => {
    expect(roundTrip(new Cart())).toEqual({ items: ['a'] })
  })

  test('what toJSON returns, with the types JSON does not have', () => {
    expect(roundTrip([new Money()])).toEqual([{ amount: 5, at: new Date(0), toJSON: undefined }])
    expect(roundTrip({ toJSON: () => 'text' })).toBe('text')
    expect(roundTrip(new URL('http://localhost/'))).toBe('http://localhost/')
  })

  test('a toJSON that returns the object itself, or one with a toJSON again, comes to an end', () => {
    const self = { a: 1, toJSON: (): unknown => self }
    expectUnencodable(transcoder, { self }, 'self')
    class Chain {
      readonly level: number
      constructor(level: number) {
        this.level = level
      }
      toJSON(): Chain {
        return new Chain(this.level + 1)
      }
    }
    expect(roundTrip(new Chain(0))).toEqual({ level: 1 })
  })

  test('subclasses of built-ins as the built-in', () => {
    class MyMap extends Map<string, number> {}
    class MySet extends Set<number> {}
    class MyDate extends Date {}
    class MyArray extends Array<number> {}
    class MyBytes extends Uint8Array {}
    const value = [new MyMap([['a', 1]]), new MySet([1]), new MyDate(5), MyArray.of(1, 2), MyBytes.of(1, 2)]
    expect(roundTrip(value)).toStrictEqual([
      new Map([['a', 1]]),
      new Set([1]),
      new Date(5),
      [1, 2],
      new Uint8Array([1, 2]),
    ])
  })

  test('the same bytes as for the plain object', () => {
    expect(transcoder.encode({ a: new Cart() }).equals(transcoder.encode({ a: { items: ['a'] } }))).toBe(true)
  })

  test('the attributes of a session that is a class instance itself', () => {
    class Session {
      user = 'alice'
    }
    expect(transcoder.decode(transcoder.encode(new Session() as unknown as SessionAttributes))).toEqual({
      user: 'alice',
    })
  })
})

describe('what the msgpack transcoder refuses to write', () => {
  const thrower = {
    get thing(): never {
      throw new Error('secret')
    },
  }
  const values: [string, () => unknown][] = [
    ['it is a function', () => () => 1],
    ['it is a symbol', () => Symbol('x')],
    ['bad.cart[3].callback is a function', () => ({ cart: [1, 2, 3, { callback: () => 1 }] })],
    ['bad["a b"].f is a function', () => ({ 'a b': { f: class {} } })],
    ['bad[0] is a function', () => new Map([['k', () => 1]])],
    ['bad[0] is a symbol', () => new Map([[Symbol('k'), 1]])],
    ['bad[1][0] is a function', () => new Set([1, [() => 1]])],
    ['it is an Error', () => new Error('secret')],
    ['it is a RegExp', () => /secret/],
    ['it is binary data', () => new Float64Array(1)],
    ['it is binary data', () => new ArrayBuffer(1)],
    ['it is binary data', () => new DataView(new ArrayBuffer(1))],
    ['it is a Promise', () => Promise.resolve()],
    ['it is a weak reference', () => new WeakMap()],
    ['it is a boxed primitive', () => Object('x')],
    ['bad.thing has a getter that throws', () => thrower],
  ]
  test.each(values)('%s', (message, create) => {
    const error = expectUnencodable(transcoder, { fine: 1, bad: create() }, 'bad')
    expect(error.message).toContain(message)
    expect(error.message).not.toContain('secret')
  })

  test('more levels than maxDepth, counted as on reading', () => {
    const shallow = msgpackTranscoder({ maxDepth: 3 })
    const value = { a: [{ b: new Set([new Date(0)]) }], m: new Map([['k', [[]]]]) }
    expect(shallow.decode(shallow.encode(value))).toEqual(value)
    const error = expectUnencodable(shallow, { ok: 1, a: [{ b: [{}] }] }, 'a')
    expect(error.message).toContain('a[0].b[0] nests deeper than 3 levels')
    expectUndecodable(shallow, transcoder.encode({ a: [{ b: [{}] }] }))
  })

  test('more bytes than maxBytes', () => {
    const small = msgpackTranscoder({ maxBytes: 20 })
    expect(small.encode({ a: 'x'.repeat(16) })).toHaveLength(20)
    expect(() => small.encode({ a: 'x'.repeat(17) })).toThrow(
      expect.objectContaining({
        code: 'ERR_MSM_INVALID_ITEM',
        message: expect.stringMatching(/21 bytes.*maxBytes.*20/),
      }),
    )
    expectUndecodable(small, transcoder.encode({ a: 'x'.repeat(17) }))
  })

  test('and writes the rest after an error', () => {
    const before = transcoder.encode({ a: 1 })
    expectUnencodable(transcoder, { a: 'x'.repeat(100_000), bad: () => 1 }, 'bad')
    expect(transcoder.encode({ a: 1 }).equals(before)).toBe(true)
  })
})

describe('what the msgpack transcoder refuses to read', () => {
  const all = new Packr({ moreTypes: true, useRecords: false })
  test.each([
    ['a RegExp', { a: /x/ }],
    ['an Error', { a: new Error('x') }],
    ['a Float64Array', { a: new Float64Array(2) }],
    ['an ArrayBuffer', { a: new ArrayBuffer(2) }],
    ['a DataView', { a: new DataView(new ArrayBuffer(2)) }],
  ])('%s that msgpackr wrote', (_, value) => {
    expectUndecodable(transcoder, all.pack(value))
  })

  test('records, for which msgpackr would compile code', () => {
    const records = new Packr({})
    expectUndecodable(transcoder, records.pack({ a: 1 }))
    expectUndecodable(transcoder, records.pack({ a: [{ b: 1 }, { b: 2 }] }))
  })

  test.each([
    ['an unknown extension', 'd4 05 00'],
    ['an unknown extension of 8 bytes', 'd7 21 0000000000000000'],
    ['the token that is never used', 'c1'],
    ['a timestamp of 2 bytes', 'd5 ff 0000'],
    ['an empty big integer', 'c7 00 42'],
    ['an empty typed array', '92 c7 00 74 01'],
    ['a pointer to nothing', 'd6 70 00000001'],
    ['a pointer to what comes later', '92 d6 70 00000001 d6 69 00000001 90'],
    ['an id of one byte', 'd4 69 01 90'],
    ['two ids for one value', 'd6 69 00000001 d6 69 00000002 90'],
    ['a Set of an object', 'd4 73 00 80'],
    ['a Map of an array', 'd4 4d 00 90'],
    ['an object with a number for a key', '81 01 02'],
    ['an object with a big integer for a key', '81 d3 0000000000000001 02'],
    ['an object with an array for a key', '81 90 02'],
  ])('%s', (_, hex) => {
    expectUndecodable(transcoder, withValue(hex))
  })

  test.each([
    ['array', 'dd ffffffff'],
    ['map', 'df ffffffff'],
    ['string', 'db ffffffff'],
    ['binary', 'c6 ffffffff'],
    ['extension', 'c9 ffffffff 42'],
    ['Set', 'd4 73 00 dd ffffffff'],
    ['Map', 'd4 4d 00 df ffffffff'],
    ['array of 65,535', 'dc ffff'],
    ['map of 65,535', 'de ffff'],
  ])('a length that goes past the end, without reserving memory for it: %s', (_, hex) => {
    const before = process.memoryUsage().rss
    for (let i = 0; i < 100; i++) expectUndecodable(transcoder, withValue(hex))
    expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000)
  })

  test('nested arrays that each claim all that is left, in bounded memory', () => {
    const claims = Buffer.alloc(1_000_000, 0)
    for (let i = 0; i < 100; i++) Buffer.from('dd000e0000', 'hex').copy(claims, i * 5)
    const before = process.memoryUsage().rss
    expectUndecodable(transcoder, Buffer.concat([Buffer.from('81a161', 'hex'), claims]))
    expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000)
  })

  test('rows of tags and of brackets as long as the limit allows, without running out of stack', () => {
    for (const hex of ['91', '81a161', 'd669 00000001', 'd47300 91', 'd44d00 81 01']) {
      const unit = Buffer.from(hex.replaceAll(' ', ''), 'hex')
      const row = Buffer.concat(Array.from({ length: Math.floor(1_000_000 / unit.length) }, () => unit))
      expectUndecodable(transcoder, Buffer.concat([Buffer.from('81a161', 'hex'), row, Buffer.from('c0', 'hex')]))
    }
  })

  test.each([
    ['an array', '90'],
    ['null', 'c0'],
    ['a number', '05'],
    ['a string', 'a161'],
    ['a Map', 'd44d0080'],
    ['a Set', 'd4730090'],
    ['a date', 'd6ff00000000'],
    ['nothing', ''],
  ])('%s in place of attributes', (_, hex) => {
    expectUndecodable(transcoder, Buffer.from(hex, 'hex'))
  })

  test('forbidden keys in any form of string, and in objects within Maps and Sets', () => {
    const proto = Buffer.from('__proto__').toString('hex')
    for (const key of [`a9${proto}`, `d909${proto}`, `da0009${proto}`, `db00000009${proto}`]) {
      for (const hex of [`81${key}81a178c3`, `d4730091 81${key}01`, `d44d0081 01 81${key}01`]) {
        decodesSafely(transcoder, withValue(hex))
        expect(Object.keys(transcoder.decode(withValue(hex)))).toEqual(['a'])
      }
    }
  })

  test('keeps a Map entry named __proto__, which is a value like any other', () => {
    expect(roundTrip(new Map([['__proto__', 1]]))).toEqual(new Map([['__proto__', 1]]))
  })
})

describe('the bytes of the msgpack transcoder', () => {
  test('do not hold the keys that would be dropped on reading', () => {
    const evil = JSON.parse('{"a": {"__proto__": {"x": 1}, "constructor": 2, "keep": 3}, "constructor": 4}')
    expect(transcoder.encode(evil).equals(transcoder.encode({ a: { keep: 3 } }))).toBe(true)
  })

  test.each([
    ['nothing', {}, '80'],
    ['scalars', { a: 1, b: 'x', c: true, d: null, e: -1.5 }, '85a16101a162a178a163c3a164c0a165cbbff8000000000000'],
    ['undefined', { a: undefined }, '81a161d40000'],
    ['a Date', { a: new Date(1000) }, '81a161d6ff00000001'],
    ['a Buffer', { a: Buffer.from([255]) }, '81a161c401ff'],
    ['a Uint8Array', { a: new Uint8Array([255]) }, '81a161c7027401ff'],
    ['a Map', { a: new Map([['k', 1]]) }, '81a161d44d0081a16b01'],
    ['a Set', { a: new Set([1]) }, '81a161d473009101'],
    ['a BigInt', { a: 1n, b: 2n ** 64n }, '82a161d30000000000000001a162d84200000000000000010000000000000000'],
  ])('stay the same from version to version: %s', (_, value, hex) => {
    expect(transcoder.encode(value).toString('hex')).toBe(hex)
    expect(transcoder.decode(Buffer.from(hex, 'hex'))).toEqual(value)
  })

  test('are plain msgpack, which any reader of that format reads', () => {
    const value = { user: { id: 1, roles: ['a'] }, at: new Date(1_700_000_000_123), bytes: Buffer.from('x') }
    expect(unpack(transcoder.encode(value))).toEqual(value)
    expect(transcoder.decode(pack(value))).toEqual(value)
  })

  test('do not hold on to a buffer many times their size', () => {
    for (const length of [10, 5000, 300_000]) {
      const bytes = transcoder.encode({ a: 'x'.repeat(length) })
      expect(bytes.buffer.byteLength).toBeLessThanOrEqual(Math.max(8192, bytes.length))
    }
  })

  test('leave no large buffer behind', async () => {
    setFlagsFromString('--expose-gc')
    const collectGarbage = runInNewContext('gc') as () => void
    const arrayBuffers = (): number => {
      collectGarbage()
      return process.memoryUsage().arrayBuffers
    }
    const before = arrayBuffers()
    const large = msgpackTranscoder({ maxBytes: 30_000_000 })
    expect(large.encode({ a: 'x'.repeat(20_000_000) })).toHaveLength(20_000_008)
    await expect.poll(arrayBuffers).toBeLessThan(before + 5_000_000)
  })

  test('depend on nothing that the application does to its own msgpackr, nor the other way round', () => {
    const require = createRequire(import.meta.url)
    const value = { date: new Date(1000), map: new Map([['k', 1]]), set: new Set([1]) }
    const before = transcoder.encode(value)
    for (const host of [{ addExtension }, require('msgpackr') as { addExtension: typeof addExtension }]) {
      host.addExtension({ Class: Date, type: 0x4d, pack: () => Buffer.from('host'), unpack: () => 'host' })
      host.addExtension({ Class: Set, type: 0x73, pack: () => Buffer.from('host'), unpack: () => 'host' })
    }
    expect(transcoder.encode(value).equals(before)).toBe(true)
    expect(transcoder.decode(before)).toEqual(value)
    expect(unpack(pack({ date: new Date(1000) }))).toEqual({ date: 'host' })
  })
})
