import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { NodeAddress, StorageClient, StorageClientFactory } from '../../lib/ports.ts'

/** A server (or whatever holds the items) that the contract is checked against. */
export interface StorageUnderTest {
  readonly factory: StorageClientFactory
  readonly address: NodeAddress
  /** Makes the server forget everything and be a new process. */
  restart(client: StorageClient): Promise<void>
  stop(): Promise<void>
}

const quiet = { info: () => {}, warn: () => {}, error: () => {} }
let counter = 0

/** The suite that every StorageClient has to pass. */
export function storageClientContract(name: string, start: () => Promise<StorageUnderTest>): void {
  describe(`${name} as a StorageClient`, () => {
    let server: StorageUnderTest
    let client: StorageClient
    let key: string
    const open = (): StorageClient => server.factory(server.address, { operationTimeout: 1000, logger: quiet })

    beforeAll(async () => {
      server = await start()
      client = open()
    })
    afterAll(async () => {
      await client.close()
      await server.stop()
    })
    beforeEach(() => {
      key = `validity:001_KEY${++counter}-n1.t-1`
    })

    const textUnder = async (of: string = key): Promise<string | undefined> => (await client.get(of))?.value.toString()

    it('has nothing under a key that was never set', async () => {
      expect(await client.get(key)).toBeUndefined()
      expect(await client.delete(key)).toBe(false)
      expect(await client.touch(key, 10)).toBe(false)
    })

    it('gives back the bytes it was given', async () => {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
      await client.set(key, bytes, 100)
      expect((await client.get(key))?.value).toEqual(bytes)
    })

    it('keeps an empty value apart from no value', async () => {
      await client.set(key, Buffer.alloc(0), 100)
      expect((await client.get(key))?.value.length).toBe(0)
    })

    it('keeps a value of a million bytes', async () => {
      const bytes = Buffer.alloc(1_000_000, 'x')
      await client.set(key, bytes, 100)
      expect((await client.get(key))?.value.equals(bytes)).toBe(true)
    })

    it('is not affected by a buffer that is changed after it was set', async () => {
      const bytes = Buffer.from('before')
      await client.set(key, bytes, 100)
      bytes.write('after!')
      expect(await textUnder()).toBe('before')
    })

    it('lets an item expire after its time', async () => {
      await client.set(key, Buffer.from('x'), 1)
      expect(await textUnder()).toBe('x')
      await expect.poll(() => textUnder(), { timeout: 5000, interval: 100 }).toBeUndefined()
    })

    it('keeps items without expiry, and those of more than 30 days', async () => {
      await client.set(key, Buffer.from('x'), 0)
      await client.set(`${key}m`, Buffer.from('y'), 31 * 86_400)
      expect(await textUnder()).toBe('x')
      expect(await textUnder(`${key}m`)).toBe('y')
    })

    it('takes an expiry away with a later set that has none', async () => {
      await client.set(key, Buffer.from('x'), 1)
      await client.set(key, Buffer.from('x'), 0)
      await client.set(`${key}clock`, Buffer.from('x'), 2)
      await expect.poll(() => textUnder(`${key}clock`), { timeout: 6000, interval: 100 }).toBeUndefined()
      expect(await textUnder()).toBe('x')
    })

    it('adds only what is absent', async () => {
      expect(await client.add(key, Buffer.from('1'), 100)).toBe(true)
      expect(await client.add(key, Buffer.from('2'), 100)).toBe(false)
      expect(await textUnder()).toBe('1')
    })

    it('lets one of many concurrent adds win', async () => {
      const results = await Promise.all(Array.from({ length: 50 }, (_, i) => client.add(key, Buffer.from(`${i}`), 100)))
      expect(results.filter(Boolean)).toHaveLength(1)
    })

    it('gives an added item its expiry', async () => {
      expect(await client.add(key, Buffer.from('1'), 1)).toBe(true)
      await expect.poll(() => textUnder(), { timeout: 5000, interval: 100 }).toBeUndefined()
    })

    it('replaces only what is present', async () => {
      expect(await client.replace(key, Buffer.from('1'), 100)).toBe(false)
      expect(await textUnder()).toBeUndefined()
      await client.set(key, Buffer.from('1'), 100)
      expect(await client.replace(key, Buffer.from('2'), 100)).toBe(true)
      expect(await textUnder()).toBe('2')
    })

    it('deletes what is there', async () => {
      await client.set(key, Buffer.from('1'), 100)
      expect(await client.delete(key)).toBe(true)
      expect(await textUnder()).toBeUndefined()
    })

    it('gives an item a new expiry', async () => {
      await client.set(key, Buffer.from('1'), 1)
      expect(await client.touch(key, 0)).toBe(true)
      await client.set(`${key}short`, Buffer.from('1'), 100)
      expect(await client.touch(`${key}short`, 1)).toBe(true)
      await expect.poll(() => textUnder(`${key}short`), { timeout: 5000, interval: 100 }).toBeUndefined()
      expect(await textUnder()).toBe('1')
    })

    it('swaps an item that is still the base', async () => {
      await client.set(key, Buffer.from('1'), 100)
      const base = await client.get(key)
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('stored')
      expect(await textUnder()).toBe('2')
    })

    it('refuses to swap an item that somebody else has changed', async () => {
      await client.set(key, Buffer.from('1'), 100)
      const base = await client.get(key)
      await client.set(key, Buffer.from('other'), 100)
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('conflict')
      expect(await textUnder()).toBe('other')
    })

    it('does not bring a deleted item back by a swap', async () => {
      await client.set(key, Buffer.from('1'), 100)
      const base = await client.get(key)
      await client.delete(key)
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('missing')
      await client.set(key, Buffer.from('new'), 100)
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('conflict')
      expect(await textUnder()).toBe('new')
    })

    it('deletes an item only while it is the given one', async () => {
      await client.set(key, Buffer.from('mine'), 100)
      expect(await client.deleteIfEquals(key, Buffer.from('theirs'))).toBe(false)
      expect(await client.deleteIfEquals(key, Buffer.from('mine'))).toBe(true)
      expect(await client.deleteIfEquals(key, Buffer.from('mine'))).toBe(false)
    })

    it('keeps the replies to a thousand concurrent operations apart', async () => {
      const keys = Array.from({ length: 1000 }, (_, i) => `${key}-${i}`)
      await Promise.all(keys.map((each) => client.set(each, Buffer.from(each), 100)))
      expect(await Promise.all(keys.map((each) => textUnder(each)))).toEqual(keys)
    })

    it('works again after its connection was dropped', async () => {
      await client.set(key, Buffer.from('1'), 100)
      client.reset()
      expect(await textUnder()).toBe('1')
    })

    it('answers a probe with an identity that only a restart changes', async () => {
      const identity = await client.probe()
      expect(await client.probe()).toBe(identity)
      client.reset()
      expect(await client.probe()).toBe(identity)
      await client.set(key, Buffer.from('1'), 100)
      const base = await client.get(key)
      await server.restart(client)
      await expect.poll(() => client.probe().catch(() => identity), { timeout: 5000 }).not.toBe(identity)
      expect(await textUnder()).toBeUndefined()
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('missing')
      await client.set(key, Buffer.from('new'), 100)
      expect(await client.compareAndSwap(key, Buffer.from('2'), 100, base?.version)).toBe('conflict')
    })

    it('rejects calls after it was closed', async () => {
      const closed = open()
      await closed.get(key)
      await closed.close()
      await expect(closed.get(key)).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
    })
  })
}
