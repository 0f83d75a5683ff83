import { expect, it, onTestFinished } from 'vitest'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import { parseNodes } from '../../../lib/nodes/memcached-nodes.ts'
import { clientOptions, storageClientContract, uniqueKey } from '../../contract/storage-client.ts'
import { SentinelGroup } from '../../support/redis-groups.ts'
import { startApp } from '../../support/web-app.ts'

storageClientContract('The Redis client, by way of Sentinel,', {
  start: async () => {
    const group = await SentinelGroup.start()
    return {
      factory: redisStorage,
      address: parseNodes(group.url).addresses[0]!,
      restart: async () => {
        for (const server of group.servers) await server.kill()
        for (const server of group.servers) await server.start()
      },
      stop: () => group.stop(),
    }
  },
})

it('follows a failover: the promoted replica is written to, and no failed write is repeated', {
  timeout: 60_000,
}, async () => {
  const group = await SentinelGroup.start()
  onTestFinished(() => group.stop())
  const client = redisStorage(parseNodes(group.url).addresses[0]!, { ...clientOptions, operationTimeout: 500 })
  onTestFinished(() => client.close())
  const key = uniqueKey()
  await client.set(key, Buffer.from('before'), 100)
  const former = (await group.master())!
  const replica = group.servers.find((server) => server !== former)!
  await expect.poll(async () => (await client.get(key))?.value.toString()).toBe('before')
  await former.kill()
  let failed = 0
  let last = ''
  await expect
    .poll(
      async () => {
        last = `write ${failed}`
        try {
          await client.set(key, Buffer.from(last), 100)
          return true
        } catch {
          failed++
          return false
        }
      },
      { timeout: 20_000, interval: 50 },
    )
    .toBe(true)
  expect(failed).toBeGreaterThan(0)
  expect(await group.master()).toBe(replica)
  expect((await client.get(key))?.value.toString()).toBe(last)
})

it('serves sessions before, during and after a failover', { timeout: 60_000 }, async () => {
  const group = await SentinelGroup.start()
  onTestFinished(() => group.stop())
  const app = await startApp({ memcachedNodes: group.url, sticky: false, operationTimeout: 500 })
  const { announced } = await app.call('/set?k=v')
  expect(announced).toMatch(/^[0-9A-F]{32}$/)
  const former = (await group.master())!
  await former.kill()
  const during = await app.call('/get', announced)
  expect([200, 503]).toContain(during.status)
  await expect.poll(async () => (await app.call('/get', announced)).status, { timeout: 20_000 }).toBe(200)
  expect((await app.call('/set?more=1', announced)).body.attributes).toEqual({ k: 'v', more: '1' })
})
