import { describe, expect, it } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { Deletions } from '../../lib/storage/deletions.ts'
import { StorageNode } from '../../lib/storage/storage-node.ts'

const VALUE = Buffer.from('value')

function setUp(): { client: MemoryStorageClient; node: StorageNode; deletions: Deletions } {
  const client = new MemoryStorageClient()
  const address = { nodeId: 'n1', kind: 'memory', host: '', port: 0, label: 'n1' } as const
  const observer = { operation: () => {}, down: () => {} }
  const node = new StorageNode(address, client, { operationTimeout: 1000, maxItemSize: 1000 }, observer)
  return { client, node, deletions: new Deletions() }
}

/** A record of a session, as far as its time of writing goes. */
function record(lastBackupTime: number): Buffer {
  const value = Buffer.alloc(100)
  value.writeBigInt64BE(BigInt(lastBackupTime), 34)
  return value
}

async function come(client: MemoryStorageClient, node: StorageNode, deletions: Deletions): Promise<void> {
  client.start()
  node.markUp()
  await deletions.recovered(node)
}

describe('what is to be deleted', () => {
  it('is gone when the promise resolves', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', VALUE, 0)
    await deletions.delete(node, 'key')
    expect(await client.get('key')).toBeUndefined()
  })

  it('is deleted when its node is back, if that is known to be down', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', VALUE, 0)
    node.markDown(new Error('down'))
    await deletions.delete(node, 'key')
    expect(await client.get('key')).toBeDefined()
    await come(client, node, deletions)
    expect(await client.get('key')).toBeUndefined()
  })

  it('is deleted when its node is back, if that goes down meanwhile, and nobody gets an error', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', VALUE, 0)
    client.stop()
    await deletions.delete(node, 'key')
    await come(client, node, deletions)
    expect(await client.get('key')).toBeUndefined()
  })

  it('stays to be deleted if its node goes down again before its turn', async () => {
    const { client, node, deletions } = setUp()
    for (const key of ['one', 'other']) await client.set(key, VALUE, 0)
    node.markDown(new Error('down'))
    for (const key of ['one', 'other']) await deletions.delete(node, key)
    const remove = client.delete.bind(client)
    client.delete = async (key) => {
      const deleted = await remove(key)
      node.markDown(new Error('down again'))
      return deleted
    }
    await come(client, node, deletions)
    expect([await client.get('one'), await client.get('other')]).toEqual([undefined, expect.anything()])
    await come(client, node, deletions)
    expect(await client.get('other')).toBeUndefined()
  })

  it('is left if it is wanted again', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', VALUE, 0)
    node.markDown(new Error('down'))
    await deletions.delete(node, 'key')
    deletions.cancel(node, 'key')
    await come(client, node, deletions)
    expect(await client.get('key')).toBeDefined()
  })

  it('is waited for by idle()', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', VALUE, 0)
    void deletions.delete(node, 'key')
    await deletions.idle()
    expect(await client.get('key')).toBeUndefined()
  })
})

describe('a record that is only to be deleted if it is not newer', () => {
  it.each([
    [99, true],
    [100, true],
    [101, false],
  ])('written at %i: deleted %s with a limit of 100, now and when its node is back', async (time, isDeleted) => {
    for (const isDown of [false, true]) {
      const { client, node, deletions } = setUp()
      await client.set('key', record(time), 0)
      if (isDown) node.markDown(new Error('down'))
      await deletions.delete(node, 'key', 100)
      await come(client, node, deletions)
      expect((await client.get('key')) === undefined).toBe(isDeleted)
    }
  })

  it('is left if a newer one takes its place at that moment', async () => {
    const { client, node, deletions } = setUp()
    await client.set('key', record(99), 0)
    const get = client.get.bind(client)
    client.get = async (key) => {
      const item = await get(key)
      await client.set(key, record(200), 0)
      return item
    }
    await deletions.delete(node, 'key', 100)
    expect((await get('key'))?.value).toEqual(record(200))
  })
})
