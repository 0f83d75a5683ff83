import { redisStorage } from '../../../adapters/storage/redis.ts'
import type { StorageClient } from '../../../lib/ports.ts'
import { clientOptions, storageClientContract } from '../../contract/storage-client.ts'
import { storageClientFaultContract } from '../../contract/storage-client-faults.ts'
import { startRedis } from '../../support/servers.ts'

storageClientContract('The Redis client', {
  start: async () => {
    const server = await startRedis()
    const { host, port } = server
    return {
      factory: redisStorage,
      address: {
        nodeId: 'n1',
        kind: 'redis',
        host,
        port,
        url: `redis://${host}:${port}`,
        label: `redis://${host}:${port}/0`,
      },
      restart: () => server.restart(),
      stop: () => server.stop(),
    }
  },
})

function connect(host: string, port: number, credentials = '', db = 0): StorageClient {
  const label = `redis://${host}:${port}/${db}`
  const url = `redis://${credentials}${host}:${port}/${db}`
  return redisStorage({ nodeId: undefined, kind: 'redis', host, port, url, label }, clientOptions)
}

storageClientFaultContract('The Redis client', { startServer: () => startRedis(), connect })
