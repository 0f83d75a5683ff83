import { memcachedStorage } from '../../../adapters/storage/memcached.ts'
import { type MemoryStorageClient, memoryStorage } from '../../../adapters/storage/memory.ts'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import { storageClientContract } from '../../contract/storage-client.ts'
import { startMemcached, startRedis } from '../../support/servers.ts'

storageClientContract('memcached', async () => {
  const server = await startMemcached()
  return {
    factory: memcachedStorage,
    address: { nodeId: 'n1', kind: 'memcached', host: server.host, port: server.port, label: 'n1' },
    restart: () => server.restart(),
    stop: () => server.stop(),
  }
})

storageClientContract('redis', async () => {
  const server = await startRedis()
  const url = `redis://${server.host}:${server.port}/3`
  return {
    factory: redisStorage,
    address: { nodeId: 'n1', kind: 'redis', host: server.host, port: server.port, url, label: 'n1' },
    restart: () => server.restart(),
    stop: () => server.stop(),
  }
})

storageClientContract('memory', async () => ({
  factory: memoryStorage,
  address: { nodeId: 'n1', kind: 'memory', host: '', port: 0, label: 'n1' },
  restart: async (client) => (client as MemoryStorageClient).start({ empty: true }),
  stop: async () => {},
}))
