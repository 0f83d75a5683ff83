import { beforeAll, describe, expect, it } from 'vitest'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import { parseNodes } from '../../../lib/nodes/memcached-nodes.ts'
import type { StorageClient } from '../../../lib/ports.ts'
import { clientOptions, storageClientContract, uniqueKey } from '../../contract/storage-client.ts'
import { askRedis, RedisCluster } from '../../support/redis-groups.ts'
import { startApp } from '../../support/web-app.ts'

storageClientContract('The Redis client, on a Cluster,', {
  start: async () => {
    const cluster = await RedisCluster.start()
    return {
      factory: redisStorage,
      address: parseNodes(cluster.url).addresses[0]!,
      restart: async () => {
        for (const server of cluster.servers) await server.restart()
        for (const server of cluster.servers) {
          await expect
            .poll(async () => String(await askRedis(server, 'CLUSTER', 'INFO')), { timeout: 20_000 })
            .toMatch(/cluster_state:ok/)
        }
      },
      stop: () => cluster.stop(),
    }
  },
})

describe('on a Cluster of three masters', () => {
  let cluster: RedisCluster
  let client: StorageClient
  beforeAll(async () => {
    cluster = await RedisCluster.start()
    client = redisStorage(parseNodes(cluster.url).addresses[0]!, { ...clientOptions, operationTimeout: 1000 })
    return async () => {
      await client.close()
      await cluster.stop()
    }
  })

  it('the keys of one session share a slot, and those of many sessions are on all masters', async () => {
    const app = await startApp({ memcachedNodes: cluster.url, sticky: false, lockingMode: 'all', webappVersion: '001' })
    const ids = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => (await app.call(`/set?i=${i}`)).announced!),
    )
    for (const id of ids) expect(id).toMatch(/^[0-9A-F]{32}$/)
    const keys = (await Promise.all(cluster.servers.map((server) => askRedis(server, 'KEYS', '*')))) as string[][]
    for (const own of keys) expect(own.length).toBeGreaterThan(0)
    for (const [i, id] of ids.entries()) {
      const holders = keys.filter((own) => own.includes(`001_{${id}}`) || own.includes(`validity:001_{${id}}`))
      expect(holders).toHaveLength(1)
      expect(holders[0]).toEqual(expect.arrayContaining([`001_{${id}}`, `validity:001_{${id}}`]))
      expect((await app.call('/get', id)).body.attributes).toEqual({ i: `${i}` })
    }
  })

  it('a command follows its slot to another master, also while that is under way', async () => {
    const key = uniqueKey()
    await client.set(key, Buffer.from('value'), 100)
    const slot = String(await askRedis(cluster.servers[0]!, 'CLUSTER', 'KEYSLOT', key))
    const from = await cluster.ownerOf(key)
    const to = cluster.servers.find((server) => server !== from)!
    const [fromId, toId] = await Promise.all([from, to].map((server) => askRedis(server, 'CLUSTER', 'MYID')))
    await askRedis(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(fromId))
    await askRedis(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(toId))
    await askRedis(from, 'MIGRATE', '127.0.0.1', `${to.port}`, key, '0', '1000')
    // ASK: the key has moved, the slot has not.
    const item = await client.get(key)
    expect(item?.value.toString()).toBe('value')
    expect(await client.compareAndSwap(key, Buffer.from('swapped'), 100, item!.version)).toBe('stored')
    for (const server of cluster.servers) await askRedis(server, 'CLUSTER', 'SETSLOT', slot, 'NODE', String(toId))
    // MOVED.
    expect((await client.get(key))?.value.toString()).toBe('swapped')
  })

  it('a master that is killed takes no keys but its own with it, and they are served again when it is back', {
    timeout: 60_000,
  }, async () => {
    const keys = Array.from({ length: 12 }, uniqueKey)
    for (const key of keys) await client.set(key, Buffer.from('value'), 100)
    const victim = cluster.servers[2]!
    const owners = await Promise.all(keys.map((key) => cluster.ownerOf(key)))
    await victim.kill()
    for (const [i, key] of keys.entries()) {
      const start = performance.now()
      const got = await client.get(key).then(
        (item) => item?.value.toString(),
        () => 'failed',
      )
      expect(got).toBe(owners[i] === victim ? 'failed' : 'value')
      expect(performance.now() - start).toBeLessThan(1000)
    }
    expect(await client.probe()).toBeTypeOf('string')
    await victim.start()
    for (const key of keys) {
      await expect
        .poll(
          () =>
            client.set(key, Buffer.from('again'), 100).then(
              () => true,
              () => false,
            ),
          { timeout: 20_000 },
        )
        .toBe(true)
    }
  })
})
