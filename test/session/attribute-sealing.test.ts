import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { resolveOptions } from '../../lib/options.ts'
import { decodeSessionRecord, encodeSessionRecord } from '../../lib/records/session-record.ts'
import { AttributeSealing } from '../../lib/session/attribute-sealing.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../support/web-app.ts'

const BASE = 'A'.repeat(32)
const [one, two] = [randomBytes(32), randomBytes(32)]
const text = Buffer.from('{"cart":["apple"]}')
const large = Buffer.from('apple '.repeat(1000))

const sealing = (keys: Buffer[], readPlain = false): AttributeSealing =>
  new AttributeSealing(undefined, { keys, readPlain })

describe('encryption', () => {
  it('gives back what was sealed, and shows nothing of it', () => {
    const sealed = sealing([one]).seal(text, BASE)
    expect(sealed.includes('apple')).toBe(false)
    expect(sealing([one]).open(sealed, BASE)).toEqual(text)
  })

  it('never gives the same bytes twice', () => {
    expect(
      sealing([one])
        .seal(text, BASE)
        .equals(sealing([one]).seal(text, BASE)),
    ).toBe(false)
  })

  it('writes with the first key and reads with all, so that keys can be changed', () => {
    const old = sealing([one]).seal(text, BASE)
    expect(sealing([two, one]).open(old, BASE)).toEqual(text)
    const fresh = sealing([two, one]).seal(text, BASE)
    expect(sealing([two]).open(fresh, BASE)).toEqual(text)
    expect(() => sealing([one]).open(fresh, BASE)).toThrow(expect.objectContaining({ code: 'ERR_MSM_UNKNOWN_KEY' }))
  })

  it('refuses the record of another session', () => {
    const sealed = sealing([one]).seal(text, BASE)
    expect(() => sealing([one]).open(sealed, 'B'.repeat(32))).toThrow(
      expect.objectContaining({ code: 'ERR_MSM_DECODE' }),
    )
  })

  it('refuses a record with any bit flipped, or cut anywhere', () => {
    const sealed = sealing([one]).seal(text, BASE)
    for (let i = 0; i < sealed.length * 8; i++) {
      const flipped = Buffer.from(sealed)
      flipped[i >> 3]! ^= 1 << (i & 7)
      expect(() => sealing([one]).open(flipped, BASE)).toThrow()
    }
    for (let end = 0; end < sealed.length; end++) {
      expect(() => sealing([one]).open(sealed.subarray(0, end), BASE)).toThrow()
    }
  })

  it('refuses what is not encrypted, unless a migration needs it', () => {
    expect(() => sealing([one]).open(text, BASE)).toThrow(expect.objectContaining({ code: 'ERR_MSM_DECODE' }))
    expect(sealing([one], true).open(text, BASE)).toEqual(text)
  })
})

describe('compression', () => {
  const compressing = new AttributeSealing({ minBytes: 1000 }, undefined)

  it('makes large attributes small, and leaves small ones as they are', () => {
    const sealed = compressing.seal(large, BASE)
    expect(sealed.length).toBeLessThan(large.length / 10)
    expect(compressing.open(sealed, BASE)).toEqual(large)
    expect(compressing.seal(text, BASE)).toBe(text)
  })

  it('leaves alone what it would make larger', () => {
    const noise = randomBytes(2000)
    noise[0] = 0x80
    expect(compressing.seal(noise, BASE)).toBe(noise)
  })

  it.each(['c1', 'c100', 'c101', 'c102ff'])('gives back what a transcoder begins with %s', (hex) => {
    const bytes = Buffer.from(hex, 'hex')
    for (const one of [compressing, new AttributeSealing({ minBytes: 0 }, undefined), sealing([two])]) {
      expect(one.open(one.seal(bytes, BASE), BASE)).toEqual(bytes)
    }
  })

  it('is read by a process that does not write it', () => {
    expect(new AttributeSealing(undefined, undefined).open(compressing.seal(large, BASE), BASE)).toEqual(large)
  })

  it('works under encryption', () => {
    const both = new AttributeSealing({ minBytes: 1000 }, { keys: [one], readPlain: false })
    const sealed = both.seal(large, BASE)
    expect(sealed.length).toBeLessThan(large.length / 10)
    expect(both.open(sealed, BASE)).toEqual(large)
  })

  it('does not unpack more than 16 MiB', () => {
    const bomb = new AttributeSealing({ minBytes: 0 }, undefined).seal(Buffer.alloc(64 * 1024 * 1024), BASE)
    expect(() => compressing.open(bomb, BASE)).toThrow(expect.objectContaining({ code: 'ERR_MSM_DECODE' }))
  })
})

describe.each([true, false])('sessions that are encrypted, with sticky: %s', (sticky) => {
  const key = one.toString('hex')
  const start = (nodes: MemoryNodes, keys: string[]): Promise<App> =>
    startApp({ ...nodes.options, sticky, sessionBackupAsync: false, encryption: { keys } })
  const stored = async (nodes: MemoryNodes, id: string): Promise<Buffer> => (await nodes.get('n1').get(id))!.value

  it('are read by another process, and hide their attributes in the store', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes, [key])
    const { announced } = await app.call('/set?secret=apple')
    expect((await stored(nodes, announced!)).includes('apple')).toBe(false)
    const other = await start(nodes, [two.toString('base64'), key])
    expect((await other.call('/get', announced)).body.attributes).toEqual({ secret: 'apple' })
  })

  it('are no longer themselves when their records are swapped in the store', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes, [key])
    const [mine, theirs] = [await app.call('/set?user=me'), await app.call('/set?user=them')]
    const [a, b] = [
      decodeSessionRecord(await stored(nodes, mine.announced!)),
      decodeSessionRecord(await stored(nodes, theirs.announced!)),
    ]
    await nodes.get('n1').set(mine.announced!, encodeSessionRecord({ ...a, attributes: b.attributes }), 100)
    const other = await start(nodes, [key])
    const rejected: unknown[] = []
    other.manager.on('recordRejected', (event) => void rejected.push(event))
    const found = await other.call('/get', mine.announced)
    expect(found.body.attributes).toEqual({})
    expect(rejected).toHaveLength(1)
  })

  it('are left in the store by a process that does not have the key', async () => {
    const nodes = memoryNodes(1)
    const { announced } = await (await start(nodes, [key])).call('/set?k=v')
    const other = await start(nodes, [two.toString('hex')])
    expect((await other.call('/get', announced)).body.attributes).toEqual({})
    expect(await nodes.get('n1').get(announced!)).toBeDefined()
  })
})

it.each([[[]], [['short']], [[Buffer.alloc(31)]], ['text'], [undefined]])(
  'keys that are none are refused, and not shown: %j',
  (keys) => {
    expect(() => resolveOptions({ encryption: { keys: keys as never } })).toThrow(
      /^encryption.keys: (?:\(not shown\)|undefined) is not valid/,
    )
  },
)
