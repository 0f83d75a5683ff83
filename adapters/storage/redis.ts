import { createHash } from 'node:crypto'
import type { Redis, RedisOptions } from 'ioredis'
import { messageOf, SessionManagerError } from '../../lib/errors.ts'
import { parseRedisUrl } from '../../lib/nodes/redis-url.ts'
import type { NodeAddress, StorageClient, StorageClientOptions, StoredItem, SwapResult } from '../../lib/ports.ts'
import { loadPackage } from '../load-package.ts'

/** Milliseconds; the longest pause between two attempts to connect. */
const MAX_RECONNECT_DELAY = 500
/** Answers of a server that can't serve now, but will, or another one will. */
const NOT_NOW = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b/

const SWAP = `local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if redis.sha1hex(current) ~= ARGV[1] then return -1 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 1`
const DELETE_IF_EQUALS = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`

/** ioredis with the two scripts that are defined on it. */
interface Commands extends Redis {
  msmSwap(key: string, baseSha1: string, value: Buffer, ttl: number): Promise<number>
  msmDeleteIfEquals(key: string, value: Buffer): Promise<number>
}
interface Ioredis {
  Redis: new (options: RedisOptions) => Redis
}

/** A Redis or Valkey server, through ioredis. */
export class RedisStorageClient implements StorageClient {
  readonly #address: NodeAddress
  readonly #ioredis: Ioredis
  readonly #settings: RedisOptions
  #redis: Commands
  #connecting: Promise<void> | undefined
  #closed = false

  /** @throws SessionManagerError ERR_MSM_MISSING_PACKAGE if ioredis is not installed */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    this.#ioredis = loadPackage<Ioredis>('ioredis', 'sessions in Redis')
    this.#address = address
    this.#settings = redisOptions(address, options.operationTimeout)
    this.#redis = this.#create()
  }

  async get(key: string): Promise<StoredItem | undefined> {
    const value = await this.#run((redis) => redis.getBuffer(key))
    return value === null ? undefined : { value, version: value }
  }

  async set(key: string, value: Buffer, ttl: number): Promise<void> {
    await this.#run((redis) => (ttl === 0 ? redis.set(key, value) : redis.set(key, value, 'EX', ttl)))
  }

  async add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'NX') : redis.set(key, value, 'EX', ttl, 'NX'),
    )
    return reply !== null
  }

  async replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const reply = await this.#run((redis) =>
      ttl === 0 ? redis.set(key, value, 'XX') : redis.set(key, value, 'EX', ttl, 'XX'),
    )
    return reply !== null
  }

  /** The version is the value itself, so that whatever anybody else wrote is noticed. */
  async compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const sha1 = createHash('sha1')
      .update(version as Buffer)
      .digest('hex')
    const reply = await this.#run((redis) => redis.msmSwap(key, sha1, value, ttl))
    if (reply === 1) return 'stored'
    return reply === 0 ? 'missing' : 'conflict'
  }

  async delete(key: string): Promise<boolean> {
    return (await this.#run((redis) => redis.del(key))) === 1
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    return (await this.#run((redis) => redis.msmDeleteIfEquals(key, value))) === 1
  }

  async touch(key: string, ttl: number): Promise<boolean> {
    if (ttl > 0) return (await this.#run((redis) => redis.expire(key, ttl))) === 1
    // PERSIST answers 0 for a key without expiry as it does for a missing one.
    const [there] = await Promise.all([
      this.#run((redis) => redis.exists(key)),
      this.#run((redis) => redis.persist(key)),
    ])
    return there === 1
  }

  /** The server's run id; only a sign of life where INFO is not permitted. */
  async probe(): Promise<string> {
    try {
      const info = await this.#run((redis) => redis.info('server'))
      return /^run_id:(\w+)/m.exec(info)?.[1] ?? 'no run id'
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      if (!messageOf(cause).startsWith('NOPERM')) throw error
      await this.#run((redis) => redis.ping())
      return 'no permission for INFO'
    }
  }

  reset(): void {
    this.#connecting = undefined
    this.#redis.disconnect()
    if (!this.#closed) this.#redis = this.#create()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.reset()
  }

  #create(): Commands {
    const redis = new this.#ioredis.Redis(this.#settings) as Commands
    redis.defineCommand('msmSwap', { numberOfKeys: 1, lua: SWAP })
    redis.defineCommand('msmDeleteIfEquals', { numberOfKeys: 1, lua: DELETE_IF_EQUALS })
    // Every failure is reported by the operation it makes fail; without a listener it would end the process.
    redis.on('error', () => {})
    return redis
  }

  async #run<T>(command: (redis: Commands) => Promise<T>): Promise<T> {
    if (this.#closed) throw new SessionManagerError('ERR_MSM_STATE', `The client of ${this.#address.label} was closed.`)
    try {
      if (this.#redis.status !== 'ready') await this.#connect()
      return await command(this.#redis)
    } catch (error) {
      throw this.#failure(error)
    }
  }

  /** Connects, once for all that wait. The guard's deadline bounds the wait. */
  #connect(): Promise<void> {
    if (this.#connecting) return this.#connecting
    const connecting = this.#open(this.#redis).finally(() => {
      if (this.#connecting === connecting) this.#connecting = undefined
    })
    this.#connecting = connecting
    return connecting
  }

  async #open(redis: Commands): Promise<void> {
    const { status } = redis
    if (status === 'wait' || status === 'end' || status === 'close') return redis.connect()
    // An attempt is under way, or ioredis is about to make one.
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: unknown): void => {
        redis.off('ready', settle)
        redis.off('close', failed)
        if (error) reject(error)
        else resolve()
      }
      const failed = (): void => settle(new Error('The connection was closed.'))
      redis.once('ready', settle)
      redis.once('close', failed)
    })
  }

  #failure(error: unknown): SessionManagerError {
    if (error instanceof SessionManagerError) return error
    const { label } = this.#address
    const message = messageOf(error)
    const answered = error instanceof Error && error.name === 'ReplyError'
    if (answered && !NOT_NOW.test(message)) {
      return new SessionManagerError('ERR_MSM_STORAGE_REFUSED', `${label} refused an operation: ${message}`, {
        cause: error,
      })
    }
    return new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', `${label} can't be reached: ${message}`, {
      cause: error,
    })
  }
}

/** Makes the client of a Redis server. */
export function redisStorage(address: NodeAddress, options: StorageClientOptions): RedisStorageClient {
  return new RedisStorageClient(address, options)
}

/** ioredis' defaults wait for ever, and repeat a failed write later, over a newer one. */
function redisOptions(address: NodeAddress, timeout: number): RedisOptions {
  const url = parseRedisUrl(address.url ?? `redis://${address.host}:${address.port}`)
  if (url.topology !== 'single') {
    throw new TypeError(`memcachedNodes: ${url.label} is not valid. It must be a redis:// or rediss:// URL.`)
  }
  return {
    host: address.host,
    port: address.port,
    db: url.db ?? 0,
    ...(url.username === undefined ? {} : { username: url.username }),
    ...(url.password === undefined ? {} : { password: url.password }),
    ...(url.tls ? { tls: {} } : {}),
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: timeout,
    socketTimeout: 2 * timeout,
    connectTimeout: Math.min(500, timeout),
    retryStrategy: (attempt) => Math.random() * Math.min(MAX_RECONNECT_DELAY, 50 * attempt),
  }
}
