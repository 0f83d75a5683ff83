import { isIP } from 'node:net'
import type * as IORedis from 'ioredis'
import { messageOf, SessionManagerError } from '../../lib/errors.ts'
import { parseRedisUrl, type RedisUrl } from '../../lib/nodes/redis-url.ts'
import type { NodeAddress } from '../../lib/ports.ts'
import { loadPackage } from '../load-package.ts'

/** Milliseconds; a handshake that takes longer is given up, even if an operation may take longer. */
const MAX_CONNECT_TIMEOUT = 500

/** KEYS[1], digest of the base, new value, expiry in seconds or 0. */
const COMPARE_AND_SWAP = `
local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if redis.sha1hex(current) ~= ARGV[1] then return 1 end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 2
`

/** KEYS[1], the value it must hold. */
const DELETE_IF_EQUALS = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`

/** Answers of a server that serves nobody at the moment, as opposed to one that refuses this operation. */
const NOT_AVAILABLE = /^(?:LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|ERR max number of clients)/

/** A single server, a Sentinel group or a whole Cluster, connected to in whatever way. */
type Client = IORedis.Redis | IORedis.Cluster

/** The commands that {@link RedisStorageClient} is made of. */
export type RedisCommands = Pick<
  IORedis.Redis,
  'getBuffer' | 'set' | 'del' | 'expire' | 'persist' | 'exists' | 'info' | 'ping'
> & {
  msmCompareAndSwap(key: string, digest: string, value: Buffer, ttl: number): Promise<number>
  msmDeleteIfEquals(key: string, value: Buffer): Promise<number>
}

/**
 * One connection to Redis, from connect to its end.
 *
 * A client that reconnects by itself has to be told in many ways not to send old commands again, and has states in
 * which a command fails though the server is back. So each connection has an ioredis client of its own, that is thrown
 * away with it. The next operation connects anew, and nobody does in between.
 */
export class RedisConnection {
  /** Of the server process, once it was asked for. */
  identity: string | undefined
  /** Resolves when its sockets and timers are gone. */
  readonly ended: Promise<void>
  readonly #label: string
  readonly #client: Client
  readonly #ready: Promise<void>
  #isReady = false
  #lastError: unknown
  #reason: SessionManagerError | undefined

  /** Begins to connect. */
  constructor(address: NodeAddress, operationTimeout: number) {
    this.#label = address.label
    this.#client = createClient(address, operationTimeout)
    this.ended = new Promise((resolve) => this.#client.once('end', () => resolve()))
    this.#client.on('error', (error) => this.#note(error))
    this.#ready = this.#client.connect().then(() => {
      this.#isReady = true
    })
    // Every operation that waits for it handles its failure.
    this.#ready.catch(() => {})
  }

  /**
   * Fails early for what can't work.
   *
   * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE`
   * @throws TypeError for a topology that is not supported.
   */
  static check(address: NodeAddress): void {
    loadIORedis()
    const topology = urlOf(address)?.topology ?? 'single'
    if (topology !== 'single') {
      throw new TypeError(`${address.label}: redis+${topology}:// is not supported. It must be redis:// or rediss://.`)
    }
  }

  get isEnded(): boolean {
    return this.#reason !== undefined || this.#client.status === 'end'
  }

  /** Runs a command as soon as the connection is made; it is never queued behind a later one. */
  async run<T>(command: (redis: RedisCommands) => Promise<T>): Promise<T> {
    try {
      if (!this.#isReady) await this.#ready
      return await command(this.#client as unknown as RedisCommands)
    } catch (error) {
      throw this.#translate(error)
    }
  }

  /** Drops the connection; what is in flight is rejected with `reason`. */
  end(reason: SessionManagerError): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#client.disconnect()
  }

  #note(error: unknown): void {
    this.#lastError = error
    // ioredis goes on with db 0 when it can't select the one that is configured.
    if (isReply(error)) this.end(this.#ofReply(error))
  }

  #translate(error: unknown): SessionManagerError {
    if (isReply(error)) {
      const translated = this.#ofReply(error)
      // This was the master; whoever is now is found by connecting again.
      if (error.message.startsWith('READONLY')) this.end(translated)
      return translated
    }
    if (this.#reason !== undefined) return this.#reason
    // What ended the connection says more than that it is closed.
    const cause = withoutCommand(this.#lastError ?? error)
    return new SessionManagerError(
      'ERR_MSM_NODE_UNAVAILABLE',
      `The connection to ${this.#label} failed: ${describe(cause)}.`,
      { cause },
    )
  }

  #ofReply(error: Error): SessionManagerError {
    // For an unknown command Redis repeats its arguments, which are keys and values.
    const text = error.message.split(', with args beginning with')[0]!
    const cause = text === error.message ? withoutCommand(error) : undefined
    if (NOT_AVAILABLE.test(text)) {
      return new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', `${this.#label} is not available: ${text}`, { cause })
    }
    return new SessionManagerError('ERR_MSM_STORAGE_REFUSED', `${this.#label} refused the operation: ${text}`, {
      cause,
    })
  }
}

/**
 * The only place that knows how the server is reached. Neither a queue nor a resend nor a retry of the client may send a
 * command later than it was asked to: it would overwrite what was written meanwhile.
 */
function createClient(address: NodeAddress, operationTimeout: number): Client {
  const { Redis } = loadIORedis()
  const url = urlOf(address)
  const { host, port } = url?.hosts[0] ?? address
  return new Redis({
    host,
    port,
    username: url?.username,
    password: url?.password,
    db: url?.db ?? 0,
    tls: url?.tls ? { servername: isIP(host) ? '' : host } : undefined,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    // Whoever calls has a deadline and ends the connection when it has passed; these keep the client from hanging if not.
    connectTimeout: Math.min(MAX_CONNECT_TIMEOUT, operationTimeout),
    socketTimeout: 2 * operationTimeout,
    disconnectTimeout: 1,
    // Its timer would outlive the connection, and a server that is loading says so by itself.
    enableReadyCheck: false,
    // No reply type of version 3 is used, and some proxies and old servers don't know it.
    protocol: 2,
    disableClientInfo: true,
    scripts: {
      msmCompareAndSwap: { lua: COMPARE_AND_SWAP, numberOfKeys: 1 },
      msmDeleteIfEquals: { lua: DELETE_IF_EQUALS, numberOfKeys: 1 },
    },
  })
}

function loadIORedis(): typeof IORedis {
  return loadPackage<typeof IORedis>('ioredis', 'Redis nodes in memcachedNodes')
}

function urlOf(address: NodeAddress): RedisUrl | undefined {
  return address.url === undefined ? undefined : parseRedisUrl(address.url)
}

/** An answer of the server, not a failure of the connection. */
function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError'
}

/** ioredis attaches the command, whose arguments are passwords, keys and values; an error is logged with all it has. */
function withoutCommand(error: unknown): unknown {
  if (error instanceof Error && 'command' in error) delete error.command
  return error
}

/** An error of several addresses of a host has no message, but a code. */
function describe(error: unknown): string {
  return messageOf(error) || String((error as { code?: unknown }).code ?? 'unknown error')
}
