import type * as IORedis from 'ioredis'
import { messageOf, SessionManagerError } from '../../lib/errors.ts'
import type { NodeAddress, StorageClientOptions } from '../../lib/ports.ts'
import { createRedisClient, type RedisClient } from './redis-client.ts'
import { WriteBatch } from './write-batch.ts'

/** Answers of a server that serves nobody at the moment, as opposed to one that refuses this operation. */
const NOT_AVAILABLE = /^(?:LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|ERR max number of clients)/

/** Errors within each other that are looked at. */
const MAX_NESTED = 5

/** The commands that {@link RedisStorageClient} is made of. */
export type RedisCommands = Pick<
  IORedis.Redis,
  'getBuffer' | 'mgetBuffer' | 'set' | 'del' | 'expire' | 'persist' | 'exists' | 'info' | 'ping'
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
  readonly #client: RedisClient
  readonly #ready: Promise<void>
  #isReady = false
  /** Of the one stream that a connection has, but for a Cluster, which has many. */
  #batch: WriteBatch | undefined
  #lastError: unknown
  #reason: SessionManagerError | undefined

  /** Begins to connect. */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    this.#label = address.label
    this.#client = createRedisClient(address, options)
    this.ended = new Promise((resolve) => this.#client.once('end', () => resolve()))
    this.#client.on('error', (error) => this.#note(error))
    this.#ready = this.#client.connect().then(() => {
      this.#isReady = true
    })
    // Every operation that waits for it handles its failure.
    this.#ready.catch(() => {})
  }

  get isEnded(): boolean {
    return this.#reason !== undefined || this.#client.status === 'end'
  }

  /** Runs a command as soon as the connection is made; it is never queued behind a later one. */
  async run<T>(command: (redis: RedisCommands) => Promise<T>): Promise<T> {
    try {
      if (!this.#isReady) await this.#ready
      this.#batched()
      return await command(this.#client as unknown as RedisCommands)
    } catch (error) {
      throw this.#translate(error)
    }
  }

  /** The connections to all masters of a Cluster; none for anything else. */
  get masters(): RedisCommands[] {
    return 'nodes' in this.#client ? (this.#client.nodes('master') as unknown as RedisCommands[]) : []
  }

  /** Drops the connection; what is in flight is rejected with `reason`. */
  end(reason: SessionManagerError): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#client.disconnect()
  }

  #batched(): void {
    const stream = 'stream' in this.#client ? this.#client.stream : undefined
    if (!stream) return
    this.#batch ??= new WriteBatch(stream)
    this.#batch.add()
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
    // A Cluster that lost one of its nodes still serves the keys of the others.
    if ('nodes' in this.#client && this.#client.status === 'ready') return this.#ofPart(error)
    // What ended the connection says more than that it is closed.
    const cause = withoutCommand(this.#lastError ?? error)
    return new SessionManagerError(
      'ERR_MSM_NODE_UNAVAILABLE',
      `The connection to ${this.#label} failed: ${describe(cause)}.`,
      { cause },
    )
  }

  #ofPart(error: unknown): SessionManagerError {
    const cause = withoutCommand(error)
    return new SessionManagerError(
      'ERR_MSM_STORAGE_REFUSED',
      `A node of ${this.#label} can't be reached: ${describe(cause)}.`,
      { cause },
    )
  }

  #ofReply(error: Error): SessionManagerError {
    // For an unknown command Redis repeats its arguments, which are keys and values.
    const text = error.message.split(', with args beginning with')[0]!
    const cause = text === error.message ? withoutCommand(error) : undefined
    if (NOT_AVAILABLE.test(text) && !('nodes' in this.#client && text.startsWith('CLUSTERDOWN'))) {
      return new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', `${this.#label} is not available: ${text}`, { cause })
    }
    return new SessionManagerError('ERR_MSM_STORAGE_REFUSED', `${this.#label} refused the operation: ${text}`, {
      cause,
    })
  }
}

/** An answer of the server, not a failure of the connection. */
function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError'
}

/**
 * ioredis attaches the command, whose arguments are passwords, keys and values; an error is logged with all it has. A
 * Cluster's has the error of a member with it.
 */
function withoutCommand(error: unknown): unknown {
  for (let part: unknown = error, depth = 0; part instanceof Error && depth < MAX_NESTED; depth++) {
    const own = part as Error & { command?: unknown; lastNodeError?: unknown }
    delete own.command
    part = own.lastNodeError ?? own.cause
  }
  return error
}

/** An error of several addresses of a host has no message, but a code. */
function describe(error: unknown): string {
  return messageOf(error) || String((error as { code?: unknown }).code ?? 'unknown error')
}
