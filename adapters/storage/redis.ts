import { createHash } from 'node:crypto'
import { SessionManagerError } from '../../lib/errors.ts'
import type {
  NodeAddress,
  StorageClient,
  StorageClientFactory,
  StorageClientOptions,
  StoredItem,
  SwapResult,
} from '../../lib/ports.ts'
import { isCluster, loadIORedis } from './redis-client.ts'
import { type RedisCommands, RedisConnection } from './redis-connection.ts'

/** Seconds, about 136 years: Redis refuses an expiry that overflows its clock of milliseconds. */
const MAX_TTL = 0xffff_ffff
const SWAP_RESULTS: readonly SwapResult[] = ['missing', 'conflict', 'stored']
/** The identity of a server whose user may not ask for it. */
const UNKNOWN_PROCESS = 'unknown'

/** What was read is what a swap has to find: Redis counts no versions. */
function itemOf(value: Buffer | null): StoredItem | undefined {
  return value === null ? undefined : { value, version: value }
}

/** The StorageClient of Redis, over ioredis. */
export class RedisStorageClient implements StorageClient {
  readonly #address: NodeAddress
  readonly #options: StorageClientOptions
  readonly #isCluster: boolean
  #connection: RedisConnection | undefined
  #closed = false

  /**
   * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` if ioredis is not installed.
   */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    loadIORedis()
    this.#isCluster = isCluster(address)
    this.#address = address
    this.#options = options
  }

  async get(name: string): Promise<StoredItem | undefined> {
    const key = this.#keyOf(name)
    const value = await this.#run((redis) => redis.getBuffer(key))
    return itemOf(value)
  }

  async getMany(names: readonly string[]): Promise<(StoredItem | undefined)[]> {
    const keys = names.map((name) => this.#keyOf(name))
    const values = await this.#run((redis) => redis.mgetBuffer(keys))
    return values.map(itemOf)
  }

  async set(name: string, value: Buffer, ttl: number): Promise<void> {
    const key = this.#keyOf(name)
    await this.#run((redis) => (ttl === 0 ? redis.set(key, value) : redis.set(key, value, 'EX', seconds(ttl))))
  }

  async add(name: string, value: Buffer, ttl: number): Promise<boolean> {
    const key = this.#keyOf(name)
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'NX') : redis.set(key, value, 'EX', seconds(ttl), 'NX'),
    )
    return reply === 'OK'
  }

  async replace(name: string, value: Buffer, ttl: number): Promise<boolean> {
    const key = this.#keyOf(name)
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'XX') : redis.set(key, value, 'EX', seconds(ttl), 'XX'),
    )
    return reply === 'OK'
  }

  async compareAndSwap(name: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const key = this.#keyOf(name)
    if (!Buffer.isBuffer(version)) throw new TypeError('The version of an item is what get returned with it.')
    const digest = createHash('sha1').update(version).digest('hex')
    const reply = await this.#run((redis) => redis.msmCompareAndSwap(key, digest, value, seconds(ttl)))
    return SWAP_RESULTS[reply]!
  }

  async delete(name: string): Promise<boolean> {
    const key = this.#keyOf(name)
    return (await this.#run((redis) => redis.del(key))) === 1
  }

  async deleteIfEquals(name: string, value: Buffer): Promise<boolean> {
    const key = this.#keyOf(name)
    return (await this.#run((redis) => redis.msmDeleteIfEquals(key, value))) === 1
  }

  async touch(name: string, ttl: number): Promise<boolean> {
    const key = this.#keyOf(name)
    if (ttl > 0) return (await this.#run((redis) => redis.expire(key, seconds(ttl)))) === 1
    // PERSIST answers 0 for a key without expiry, as it does for one that is not there.
    const [, found] = await this.#run((redis) => Promise.all([redis.persist(key), redis.exists(key)]))
    return found === 1
  }

  /**
   * The run id of the server; a constant if its user may not run INFO. One connection leads to one process, so that only
   * the first probe of a connection has to ask for it. Of a Cluster, the run ids of all masters.
   */
  async probe(): Promise<string> {
    const connection = this.#connected()
    if (this.#isCluster) return connection.run(() => identityOf(connection.masters))
    if (connection.identity === undefined) connection.identity = await this.#askIdentity(connection)
    await connection.run((redis) => redis.ping())
    return connection.identity
  }

  reset(): void {
    this.#drop(new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', this.#message('was dropped')))
  }

  async close(): Promise<void> {
    this.#closed = true
    const connection = this.#connection
    this.#drop(new SessionManagerError('ERR_MSM_STATE', this.#message('was closed')))
    await connection?.ended
  }

  /**
   * In a Cluster all keys of a session are in one slot: the part of the id that never changes is the hash tag, as in
   * `validity:001_{2A19B1EB6D9649C9FED3E7277FDFD470}.t1`. Other keys are as they are named.
   */
  #keyOf(name: string): string {
    return this.#isCluster ? name.replace(/[0-9A-F]{32,128}/, '{$&}') : name
  }

  async #askIdentity(connection: RedisConnection): Promise<string> {
    try {
      const info = await connection.run((redis) => redis.info('server'))
      return runId(info)
    } catch (error) {
      if (error instanceof SessionManagerError && error.code === 'ERR_MSM_STORAGE_REFUSED') return UNKNOWN_PROCESS
      throw error
    }
  }

  async #run<T>(command: (redis: RedisCommands) => Promise<T>): Promise<T> {
    return this.#connected().run(command)
  }

  #connected(): RedisConnection {
    if (this.#closed) throw new SessionManagerError('ERR_MSM_STATE', this.#message('is closed'))
    if (this.#connection === undefined || this.#connection.isEnded) {
      this.#connection = new RedisConnection(this.#address, this.#options)
    }
    return this.#connection
  }

  #drop(reason: SessionManagerError): void {
    this.#connection?.end(reason)
    this.#connection = undefined
  }

  #message(what: string): string {
    return `The connection to ${this.#address.label} ${what}.`
  }
}

/** Makes the client of a Redis server; needs the package ioredis. */
export const redisStorage: StorageClientFactory = (address, options) => new RedisStorageClient(address, options)

/** The run ids of the masters that answer, if any does. */
async function identityOf(masters: readonly RedisCommands[]): Promise<string> {
  const ids = await Promise.allSettled(masters.map(async (master) => runId(await master.info('server'))))
  if (!ids.some(({ status }) => status === 'fulfilled')) await Promise.any(masters.map((master) => master.ping()))
  return ids
    .map((id) => (id.status === 'fulfilled' ? id.value : ''))
    .sort()
    .join(' ')
}

function runId(info: string): string {
  return /^run_id:(\w+)/m.exec(info)?.[1] ?? UNKNOWN_PROCESS
}

function seconds(ttl: number): number {
  return Math.min(ttl, MAX_TTL)
}
