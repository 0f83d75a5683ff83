import type { ConnectionOptions } from 'node:tls'

/**
 * What an adapter implements. The core talks to the world through these interfaces and knows no package.
 */

/** A value as a store holds it, with the version a later write can name as its base. */
export interface StoredItem {
  readonly value: Buffer
  /** Opaque to everybody but the StorageClient that returned it; pass it to `compareAndSwap`. */
  readonly version: unknown
}

/** How a compare-and-swap ended: `missing` if the key is gone, `conflict` if its value is no longer the base. */
export type SwapResult = 'stored' | 'conflict' | 'missing'

/**
 * One node: a memcached server, a Redis server (or a whole Redis Cluster, or Sentinel group), a memory store.
 *
 * An implementation stays simple: no retries, no queueing while disconnected, no deadlines of its own beyond what
 * keeps its client from hanging. The manager wraps every client in a guard that checks keys, values and expiries,
 * gives each call a deadline of `operationTimeout`, and keeps the state of the node.
 *
 * - `ttl` is in whole seconds from now; 0 means the item never expires. It is never negative, and may exceed 30 days.
 * - A call rejects when its outcome is unknown (connection lost) or the node refused it
 *   (`SessionManagerError` with `ERR_MSM_STORAGE_REFUSED`); a miss is never an error.
 * - Once a call has failed, no trace of it may be sent again later: a write that was reported as failed must not be
 *   repeated by the client after a reconnect.
 * - Host names are resolved again for every new connection.
 * - `test/contract/storage-client.ts` is the suite every implementation has to pass.
 */
export interface StorageClient {
  /** The item under `key`, or undefined. The returned value is not changed or reused by the client afterwards. */
  get(key: string): Promise<StoredItem | undefined>
  /** The items under several keys of one session, in their order, if the node can be asked for them in one go. */
  getMany?(keys: readonly string[]): Promise<(StoredItem | undefined)[]>
  /** Stores `value`, whatever was there. */
  set(key: string, value: Buffer, ttl: number): Promise<void>
  /** Stores `value` only if the key is absent; one atomic step, expiry included. True if stored. */
  add(key: string, value: Buffer, ttl: number): Promise<boolean>
  /** Stores `value` only if the key is present. True if stored. */
  replace(key: string, value: Buffer, ttl: number): Promise<boolean>
  /** Stores `value` only if the item is still the one that `version` was read with. */
  compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult>
  /** Removes the key. True if it was there. */
  delete(key: string): Promise<boolean>
  /** Removes the key only while it holds exactly `value`, in one atomic step. True if removed. */
  deleteIfEquals(key: string, value: Buffer): Promise<boolean>
  /** Gives the key a new expiry. True if it was there. */
  touch(key: string, ttl: number): Promise<boolean>
  /**
   * Asks the node for a sign of life. The answer identifies the running server process: it changes when the server
   * was restarted, so that a node that came back empty is told from one that only lost its connections.
   */
  probe(): Promise<string>
  /** Drops the connection, failing whatever is in flight; the next call connects anew. Called after a deadline. */
  reset(): void
  /** Ends all connections, for good. Leaves no timer and no socket behind. */
  close(): Promise<void>
}

/** Where a node is and how to talk to it; what a StorageClient is made from. */
export interface NodeAddress {
  /** `n1`, or undefined for a single node that is not named in session ids. */
  readonly nodeId: string | undefined
  readonly kind: 'memcached' | 'redis' | 'memory'
  /** Host name or IP address (an IPv6 address without brackets); empty for `memory`. */
  readonly host: string
  readonly port: number
  /** The Redis URL as configured, credentials included. Never log it; log `label`. */
  readonly url?: string
  /** Safe to show: `n1:10.0.0.1:11211`, `redis://cache:6379/0`. Holds no password. */
  readonly label: string
}

/** Limits and credentials a StorageClient is made with. */
export interface StorageClientOptions {
  /** Milliseconds after which an operation is given up. */
  readonly operationTimeout: number
  /** SASL user name, memcached only (Redis takes it from the URL). */
  readonly username?: string
  /** SASL password, memcached only. */
  readonly password?: string
  /** TLS options of `rediss://` nodes, as node:tls has them. */
  readonly tls?: ConnectionOptions
  readonly logger: Logger
}

/** Makes the client of one node. Must not connect before the first call. */
export type StorageClientFactory = (address: NodeAddress, options: StorageClientOptions) => StorageClient

/** Session attributes by name, as a transcoder sees them. */
export type SessionAttributes = Record<string, unknown>

/**
 * Turns session attributes into bytes and back. `decode(encode(x))` is deeply equal to `x` for what the transcoder
 * supports, and encoding equal attributes in equal order gives equal bytes (change detection relies on it).
 *
 * - `encode` throws for a value it can't represent; the manager then finds the attribute, names it, and stores the rest.
 * - `decode` throws for bytes it can't read. It is given bytes from outside: it must never execute anything.
 * - The bytes returned by `encode` may be a view on a larger buffer, but must not change afterwards.
 */
export interface SessionTranscoder {
  /** Shown in the start-up block, for example `msgpack`. */
  readonly name: string
  encode(attributes: SessionAttributes): Buffer
  decode(bytes: Buffer): SessionAttributes
}

/** Where the manager reports to. `console` and pino both fit. */
export interface Logger {
  debug?(message: string): void
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

/** Attributes of the session cookie, in the words of RFC 6265bis. */
export interface CookieAttributes {
  path?: string
  domain?: string
  httpOnly?: boolean
  secure?: boolean
  sameSite?: 'strict' | 'lax' | 'none'
  partitioned?: boolean
  priority?: 'low' | 'medium' | 'high'
  /** Seconds the browser keeps the cookie; without it, until the browser is closed. */
  maxAge?: number
  expires?: Date
}

/** Reads and writes the `Cookie` and `Set-Cookie` headers. */
export interface CookieCodec {
  /** All values the header has for `name`, in order of appearance; a cookie named `name_x` is another cookie. */
  read(header: string, name: string): string[]
  /** The value of a `Set-Cookie` header. Throws a TypeError for a name, path or domain that a header can't carry. */
  write(name: string, value: string, attributes: CookieAttributes): string
}
