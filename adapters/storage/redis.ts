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
import { type RedisCommands, RedisConnection } from './redis-connection.ts'

/** Seconds, about 136 years: Redis refuses an expiry that overflows its clock of milliseconds. */
const MAX_TTL = 0xffff_ffff
const SWAP_RESULTS: readonly SwapResult[] = ['missing', 'conflict', 'stored']
/** The identity of a server whose user may not ask for it. */
const UNKNOWN_PROCESS = 'unknown'

/** The StorageClient of Redis, over ioredis. */
export class RedisStorageClient implements StorageClient {
  readonly #address: NodeAddress
  readonly #options: StorageClientOptions
  #connection: RedisConnection | undefined
  #closed = false

  /**
   * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` if ioredis is not installed.
   * @throws TypeError for a URL that it can't connect to.
   */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    RedisConnection.check(address)
    this.#address = address
    this.#options = options
  }

  async get(key: string): Promise<StoredItem | undefined> {
    const value = await this.#run((redis) => redis.getBuffer(key))
    // What was read is what a swap has to find: Redis counts no versions.
    return value === null ? undefined : { value, version: value }
  }

  async set(key: string, value: Buffer, ttl: number): Promise<void> {
    await this.#run((redis) => (ttl === 0 ? redis.set(key, value) : redis.set(key, value, 'EX', seconds(ttl))))
  }

  async add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'NX') : redis.set(key, value, 'EX', seconds(ttl), 'NX'),
    )
    return reply === 'OK'
  }

  async replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'XX') : redis.set(key, value, 'EX', seconds(ttl), 'XX'),
    )
    return reply === 'OK'
  }

  async compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    if (!Buffer.isBuffer(version)) throw new TypeError('The version of an item is what get returned with it.')
    const digest = createHash('sha1').update(version).digest('hex')
    const reply = await this.#run((redis) => redis.msmCompareAndSwap(key, digest, value, seconds(ttl)))
    return SWAP_RESULTS[reply]!
  }

  async delete(key: string): Promise<boolean> {
    return (await this.#run((redis) => redis.del(key))) === 1
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    return (await this.#run((redis) => redis.msmDeleteIfEquals(key, value))) === 1
  }

  async touch(key: string, ttl: number): Promise<boolean> {
    if (ttl > 0) return (await this.#run((redis) => redis.expire(key, seconds(ttl)))) === 1
    // PERSIST answers 0 for a key without expiry, as it does for one that is not there.
    const [, found] = await this.#run((redis) => Promise.all([redis.persist(key), redis.exists(key)]))
    return found === 1
  }

  /**
   * The run id of the server; a constant if its user may not run INFO. One connection leads to one process, so that only
   * the first probe of a connection has to ask for it.
   */
  async probe(): Promise<string> {
    const connection = this.#connected()
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

  async #askIdentity(connection: RedisConnection): Promise<string> {
    try {
      const info = await connection.run((redis) => redis.info('server'))
      return /^run_id:(\w+)/m.exec(info)?.[1] ?? UNKNOWN_PROCESS
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
      this.#connection = new RedisConnection(this.#address, this.#options.operationTimeout)
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

function seconds(ttl: number): number {
  return Math.min(ttl, MAX_TTL)
}
