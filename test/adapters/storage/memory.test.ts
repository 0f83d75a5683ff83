import { describe, expect, it } from 'vitest'
import { MemoryStorageClient, MemoryStore, memoryStorage } from '../../../adapters/storage/memory.ts'
import type { NodeAddress } from '../../../lib/ports.ts'
import { clientOptions, storageClientContract } from '../../contract/storage-client.ts'

const address: NodeAddress = { nodeId: undefined, kind: 'memory', host: '', port: 0, label: 'memory' }
const value = Buffer.from('value')

storageClientContract('The memory store', {
  start: async () => {
    const store = new MemoryStore()
    return {
      address,
      factory: () => new MemoryStorageClient({ store }),
      restart: async () => store.start({ empty: true }),
      stop: async () => store.stop(),
    }
  },
})

describe('The memory store', () => {
  it('is made by its factory, each with items of its own', async () => {
    const [one, two] = [memoryStorage(address, clientOptions), memoryStorage(address, clientOptions)]
    await one.set('k', value, 0)
    expect((await one.get('k'))?.value).toEqual(value)
    expect(await two.get('k')).toBeUndefined()
  })

  it('drops the least recently used item when there are too many', async () => {
    const store = new MemoryStore({ maxItems: 3 })
    const client = new MemoryStorageClient({ store })
    for (const key of ['a', 'b', 'c']) await client.set(key, value, 0)
    await client.get('a')
    await client.touch('b', 0)
    await client.set('d', value, 0)
    expect(store.size).toBe(3)
    expect(await client.get('c')).toBeUndefined()
    for (const key of ['a', 'b', 'd']) expect(await client.get(key)).toBeDefined()
  })

  it('drops as many of the least recently used items as a new one needs', async () => {
    const store = new MemoryStore({ maxBytes: 10_000 })
    const client = new MemoryStorageClient({ store })
    for (let index = 0; index < 1000; index++) await client.set(`k${index}`, Buffer.alloc(1000), 0)
    expect(store.size).toBe(8)
    await client.set('large', Buffer.alloc(9000), 0)
    expect(store.size).toBe(1)
    expect((await client.get('large'))?.value).toHaveLength(9000)
  })

  it('counts the bytes of an item once, however often it is replaced and removed', async () => {
    const client = new MemoryStorageClient({ maxBytes: 10_000 })
    await client.set('stays', value, 0)
    for (let index = 0; index < 100; index++) {
      await client.set('k', Buffer.alloc(1000), 0)
      await client.replace('k', Buffer.alloc(2000), 0)
      await client.compareAndSwap('k', Buffer.alloc(3000), 0, (await client.get('k'))?.version)
      if (index % 2) await client.delete('k')
    }
    expect(await client.get('stays')).toBeDefined()
  })

  it('refuses a value that is larger than the whole store, and keeps the old one', async () => {
    const client = new MemoryStorageClient({ maxBytes: 1000 })
    await client.set('k', value, 0)
    await expect(client.set('k', Buffer.alloc(1000), 0)).rejects.toMatchObject({ code: 'ERR_MSM_STORAGE_REFUSED' })
    expect((await client.get('k'))?.value).toEqual(value)
  })

  it('gets rid of expired items that nobody asks for, as others are written', async () => {
    const store = new MemoryStore()
    const client = new MemoryStorageClient({ store })
    await client.set('stays', value, 100)
    for (let index = 0; index < 100; index++) await client.set(`expires-${index}`, value, 1)
    const end = performance.now() + 1000
    while (performance.now() < end) await new Promise((resolve) => setTimeout(resolve, end - performance.now()))
    for (let index = 0; index < 60; index++) await client.set('again', value, 100)
    expect(store.size).toBe(2)
  })

  it('rejects every call while it is stopped, and comes back as it was', async () => {
    const store = new MemoryStore()
    const client = new MemoryStorageClient({ store })
    await client.set('k', value, 0)
    const identity = await client.probe()
    client.stop()
    const down = { code: 'ERR_MSM_NODE_UNAVAILABLE' }
    await expect(client.get('k')).rejects.toMatchObject(down)
    await expect(client.set('k', value, 0)).rejects.toMatchObject(down)
    await expect(client.probe()).rejects.toMatchObject(down)
    client.start()
    expect((await client.get('k'))?.value).toEqual(value)
    expect(await client.probe()).toBe(identity)
  })

  it('comes back empty, as another process, when told so', async () => {
    const client = new MemoryStorageClient({ maxBytes: 1000 })
    await client.set('k', Buffer.alloc(500), 0)
    const identity = await client.probe()
    client.stop()
    client.start({ empty: true })
    expect(await client.get('k')).toBeUndefined()
    expect(await client.probe()).not.toBe(identity)
    await client.set('a', Buffer.alloc(700), 0)
    expect(await client.get('a')).toBeDefined()
  })

  it('is shared by clients that are closed one by one', async () => {
    const store = new MemoryStore()
    const [one, two] = [new MemoryStorageClient({ store }), new MemoryStorageClient({ store })]
    await one.set('k', value, 0)
    await one.close()
    expect((await two.get('k'))?.value).toEqual(value)
    store.stop()
    await expect(two.get('k')).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
  })

  it.each([0, -1, 1.5, Number.NaN, '10'])('refuses the bound %s', (bound) => {
    expect(() => new MemoryStorageClient({ maxItems: bound as number })).toThrow(TypeError)
    expect(() => new MemoryStorageClient({ maxBytes: bound as number })).toThrow(/^maxBytes: .* whole number/)
  })
})
