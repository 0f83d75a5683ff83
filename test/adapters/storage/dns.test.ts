import dns from 'node:dns'
import { afterEach, expect, it, onTestFinished, vi } from 'vitest'
import { memcachedStorage } from '../../../adapters/storage/memcached.ts'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import { parseNodes } from '../../../lib/nodes/memcached-nodes.ts'
import { clientOptions } from '../../contract/storage-client.ts'
import { startMemcached, startRedis } from '../../support/servers.ts'

afterEach(() => void vi.restoreAllMocks())

it.each([
  ['memcached', startMemcached, memcachedStorage, ''],
  ['Redis', startRedis, redisStorage, 'redis://'],
] as const)(
  '%s: a host name that leads to another server is noticed with the next connection (GH302)',
  async (_kind, startServer, storage, scheme) => {
    const [one, other] = [await startServer(), await startServer()]
    onTestFinished(async () => {
      await one.stop()
      await other.stop()
    })
    let address = '127.0.0.2'
    const lookup = dns.lookup
    // A name server whose answer changes; nobody listens at the first address.
    const spy = vi
      .spyOn(dns, 'lookup')
      .mockImplementation(((name: string, options: never, done: never) =>
        (lookup as (...args: unknown[]) => unknown)(name === 'cache.test' ? address : name, options, done)) as never)
    const client = storage(parseNodes(`n1:${scheme}cache.test:${other.port}`).addresses[0]!, {
      ...clientOptions,
      operationTimeout: 1000,
    })
    onTestFinished(() => client.close())
    await expect(client.set('key', Buffer.from('value'), 0)).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
    address = '127.0.0.1'
    await client.set('key', Buffer.from('value'), 0)
    expect((await client.get('key'))?.value.toString()).toBe('value')
    const asked = spy.mock.calls.length
    client.reset()
    await client.get('key')
    expect(spy.mock.calls.length).toBe(asked + 1)
  },
)
