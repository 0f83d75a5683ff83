import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { freePort, type Server, startRedis, temporaryFolder } from './servers.ts'

const MASTER_NAME = 'sessions'
const LIMIT = 20_000

/** Asks one server, past the client under test. */
export async function askRedis(server: Server, ...command: string[]): Promise<unknown> {
  const redis = new Redis({ port: server.port, host: server.host, lazyConnect: true, retryStrategy: () => null })
  redis.on('error', () => {})
  try {
    await redis.connect()
    return await redis.call(command[0]!, ...command.slice(1))
  } finally {
    redis.disconnect()
  }
}

async function until(what: string, test: () => Promise<boolean>): Promise<void> {
  for (const start = Date.now(); !(await test().catch(() => false)); ) {
    if (Date.now() - start > LIMIT) throw new Error(`${what}: not within ${LIMIT} ms`)
    await sleep(20)
  }
}

/** A master, a replica, and three Sentinels that watch them. */
export class SentinelGroup {
  readonly servers: readonly Server[]
  readonly #sentinels: readonly Server[]

  private constructor(servers: readonly Server[], sentinels: readonly Server[]) {
    this.servers = servers
    this.#sentinels = sentinels
  }

  static async start(): Promise<SentinelGroup> {
    const folder = temporaryFolder('redis-')
    const master = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] })
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', `${master.port}`] })
    const sentinels: Server[] = []
    for (let i = 0; i < 3; i++) {
      const config = join(folder, `sentinel-${i}.conf`)
      writeFileSync(
        config,
        `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${master.port} 2\n` +
          `sentinel down-after-milliseconds ${MASTER_NAME} 300\n` +
          `sentinel failover-timeout ${MASTER_NAME} 2000\n`,
      )
      sentinels.push(await startRedis({ config, args: ['--sentinel'] }))
    }
    const group = new SentinelGroup([master, replica], sentinels)
    await until('the replica follows', async () => {
      const role = (await askRedis(replica, 'ROLE')) as unknown[]
      return role[0] === 'slave' && role[3] === 'connected'
    })
    await until('the sentinels know each other and the replica', async () => {
      const known = await Promise.all(
        sentinels.map(async (sentinel) => {
          const fields = (await askRedis(sentinel, 'SENTINEL', 'master', MASTER_NAME)) as string[]
          const field = (name: string): string => fields[fields.indexOf(name) + 1]!
          return field('num-other-sentinels') === '2' && field('num-slaves') === '1'
        }),
      )
      return known.every(Boolean)
    })
    return group
  }

  get url(): string {
    return `redis+sentinel://${this.#sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${MASTER_NAME}`
  }

  /** The server that is the master at the moment. */
  async master(): Promise<Server | undefined> {
    for (const server of this.servers) {
      const role = (await askRedis(server, 'ROLE').catch(() => [])) as unknown[]
      if (role[0] === 'master') return server
    }
    return undefined
  }

  async stop(): Promise<void> {
    for (const server of [...this.#sentinels, ...this.servers]) await server.stop()
  }
}

/** A Cluster of three masters that share the slots. */
export class RedisCluster {
  readonly servers: readonly Server[]

  private constructor(servers: readonly Server[]) {
    this.servers = servers
  }

  static async start(): Promise<RedisCluster> {
    const folder = temporaryFolder('redis-')
    const servers: Server[] = []
    for (let i = 0; i < 3; i++) {
      servers.push(
        await startRedis({
          args: [
            ...['--cluster-enabled', 'yes', '--cluster-config-file', join(folder, `nodes-${i}.conf`)],
            ...['--cluster-port', `${await freePort()}`, '--cluster-node-timeout', '1000'],
            // The slots of a dead master are gone, the others go on.
            ...['--cluster-require-full-coverage', 'no'],
          ],
        }),
      )
    }
    const bounds = [0, 5461, 10_922, 16_384]
    const cluster = new RedisCluster(servers)
    for (const [i, server] of servers.entries()) {
      await askRedis(server, 'CLUSTER', 'ADDSLOTSRANGE', `${bounds[i]}`, `${bounds[i + 1]! - 1}`)
      await askRedis(server, 'CLUSTER', 'SET-CONFIG-EPOCH', `${i + 1}`)
    }
    for (const other of servers.slice(1)) {
      const bus = await busPort(other)
      await askRedis(servers[0]!, 'CLUSTER', 'MEET', '127.0.0.1', `${other.port}`, bus)
    }
    await until('the cluster is complete', async () => {
      const infos = await Promise.all(servers.map((server) => askRedis(server, 'CLUSTER', 'INFO')))
      return infos.every((info) => /cluster_state:ok/.test(String(info)) && /cluster_known_nodes:3/.test(String(info)))
    })
    return cluster
  }

  get url(): string {
    return `redis+cluster://${this.servers.map(({ port }) => `127.0.0.1:${port}`).join(',')}`
  }

  /** The server that has the slot of this key. */
  async ownerOf(key: string): Promise<Server> {
    const slot = Number(await askRedis(this.servers[0]!, 'CLUSTER', 'KEYSLOT', key))
    return this.servers[slot < 5461 ? 0 : slot < 10_922 ? 1 : 2]!
  }

  async stop(): Promise<void> {
    for (const server of this.servers) await server.stop()
  }
}

/** From `127.0.0.1:port@bus`, as the node itself tells it. */
async function busPort(server: Server): Promise<string> {
  const nodes = String(await askRedis(server, 'CLUSTER', 'NODES'))
  return /@(\d+)/.exec(nodes)![1]!
}
