import type * as Memjs from 'memjs'
import { SessionManagerError } from '../../lib/errors.ts'
import type {
  NodeAddress,
  StorageClient,
  StorageClientFactory,
  StorageClientOptions,
  StoredItem,
  SwapResult,
} from '../../lib/ports.ts'
import {
  ItemVersion,
  loadMemjs,
  MemcachedConnection,
  OPCODE,
  type ReplyReader,
  STATUS,
} from './memcached-connection.ts'

/** Seconds up to which memcached takes an expiry as relative. */
const THIRTY_DAYS = 2_592_000
const MAX_UINT32 = 0xffff_ffff
const EMPTY = Buffer.alloc(0)
/** Attempts to delete an item that others keep replacing with an equal one. */
const DELETE_ATTEMPTS = 10
/** Seconds that the start of one server process, as it reports it, may differ between two answers. */
const START_TOLERANCE = 1

/** What a request has before its key. Written anew for each request, as the request is a copy of it. */
const flagsAndExpiry = Buffer.alloc(8)
const expiryOnly = Buffer.alloc(4)

/** The StorageClient of one memcached server, over memjs and the binary protocol. */
export class MemcachedStorageClient implements StorageClient {
  readonly #address: NodeAddress
  readonly #options: StorageClientOptions
  #connection: MemcachedConnection | undefined
  #process: { pid: string; start: number; identity: string } | undefined
  #closed = false
  readonly #forget = (connection: MemcachedConnection): void => {
    if (this.#connection === connection) this.#connection = undefined
  }

  /** @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` if memjs is not installed. */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    loadMemjs()
    this.#address = address
    this.#options = options
  }

  get(key: string): Promise<StoredItem | undefined> {
    return this.#request(OPCODE.get, key, EMPTY, EMPTY, undefined, readItem)
  }

  set(key: string, value: Buffer, ttl: number): Promise<void> {
    return this.#request(OPCODE.set, key, storeExtras(ttl), value, undefined, readSet)
  }

  add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    return this.#request(OPCODE.add, key, storeExtras(ttl), value, undefined, readConditional)
  }

  replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    return this.#request(OPCODE.replace, key, storeExtras(ttl), value, undefined, readConditional)
  }

  compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    if (version instanceof ItemVersion && version.connection === this.#connection) {
      if (version.isVoid) return Promise.reject(this.#noVersions())
      return this.#request(OPCODE.set, key, storeExtras(ttl), value, version, readSwap)
    }
    // Read over an earlier connection: the server may have been restarted, and the number mean another item now.
    return this.get(key).then((item) => (item ? 'conflict' : 'missing'))
  }

  delete(key: string): Promise<boolean> {
    return this.#request(OPCODE.delete, key, EMPTY, EMPTY, undefined, readFound)
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    for (let attempt = 1; attempt <= DELETE_ATTEMPTS; attempt++) {
      const item = await this.get(key)
      if (!item?.value.equals(value)) return false
      const version = item.version as ItemVersion
      if (version.isVoid) throw this.#noVersions()
      if (version.connection !== this.#connection) continue
      const result = await this.#request(OPCODE.delete, key, EMPTY, EMPTY, version, readSwap)
      if (result !== 'conflict') return result === 'stored'
    }
    throw new SessionManagerError(
      'ERR_MSM_STORAGE_REFUSED',
      `An item on ${this.#address.label} could not be deleted, as it is being replaced all the time.`,
    )
  }

  touch(key: string, ttl: number): Promise<boolean> {
    expiryOnly.writeUInt32BE(toExpiry(ttl))
    return this.#request(OPCODE.touch, key, expiryOnly, EMPTY, undefined, readFound)
  }

  /**
   * The process id and start of the server; its version if it does not tell these. One connection leads to one process,
   * so that only the first probe of a connection has to ask for them.
   */
  async probe(): Promise<string> {
    const connection = this.#connected()
    if (connection.identity === undefined) {
      const statistics = await connection.statistics()
      connection.identity = statistics && this.#identify(statistics)
      if (connection.identity !== undefined) return connection.identity
    }
    const version = await connection.request(OPCODE.version, '', EMPTY, EMPTY, undefined, readVersion)
    return connection.identity ?? version
  }

  reset(): void {
    this.#connection?.end(this.#error('ERR_MSM_NODE_UNAVAILABLE', 'was dropped'))
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#connection?.close(this.#error('ERR_MSM_STATE', 'was closed'))
  }

  #request<T>(
    opcode: number,
    key: string,
    extras: Buffer,
    value: Buffer,
    version: ItemVersion | undefined,
    read: ReplyReader<T>,
  ): Promise<T> {
    if (this.#closed) return Promise.reject(this.#error('ERR_MSM_STATE', 'is closed'))
    const connection = this.#connection ?? this.#connect()
    return connection.request(opcode, key, extras, value, version, read)
  }

  #connected(): MemcachedConnection {
    if (this.#closed) throw this.#error('ERR_MSM_STATE', 'is closed')
    return this.#connection ?? this.#connect()
  }

  #connect(): MemcachedConnection {
    const { host, port, label } = this.#address
    const { username, password, operationTimeout } = this.#options
    const address = { host, port, label, username, password, timeout: 2 * operationTimeout }
    this.#connection = new MemcachedConnection(address, this.#forget)
    return this.#connection
  }

  /** The start is computed from two numbers that the server rounds, so it may be off by one from time to time. */
  #identify(statistics: Map<string, string>): string | undefined {
    const pid = statistics.get('pid')
    const start = Number(statistics.get('time')) - Number(statistics.get('uptime'))
    if (pid === undefined || Number.isNaN(start)) return undefined
    const known = this.#process
    if (known && known.pid === pid && Math.abs(known.start - start) <= START_TOLERANCE) return known.identity
    this.#process = { pid, start, identity: `${pid}@${start}` }
    return this.#process.identity
  }

  /** Sent with a version of 0, a request would not be conditional at all. */
  #noVersions(): SessionManagerError {
    return new SessionManagerError(
      'ERR_MSM_STORAGE_REFUSED',
      `The memcached server ${this.#address.label} keeps no versions of items. Start it without the option -C.`,
    )
  }

  #error(code: 'ERR_MSM_NODE_UNAVAILABLE' | 'ERR_MSM_STATE', what: string): SessionManagerError {
    return new SessionManagerError(code, `The connection to ${this.#address.label} ${what}.`)
  }
}

/** Makes the client of a memcached server; needs the package memjs. */
export const memcachedStorage: StorageClientFactory = (address, options) => new MemcachedStorageClient(address, options)

/** Flags 0, as MSM writes them, and the expiry. */
function storeExtras(ttl: number): Buffer {
  flagsAndExpiry.writeUInt32BE(toExpiry(ttl), 4)
  return flagsAndExpiry
}

/** memcached takes more than 30 days for a point in time (GH402). */
function toExpiry(ttl: number): number {
  if (ttl <= THIRTY_DAYS) return ttl
  return Math.min(MAX_UINT32, Math.floor(Date.now() / 1000) + ttl)
}

function readItem(reply: Memjs.Response, connection: MemcachedConnection): StoredItem | undefined {
  const { status, cas } = reply.header
  if (status === STATUS.ok) return { value: reply.val, version: new ItemVersion(connection, cas) }
  if (status === STATUS.notFound) return undefined
  throw connection.refusal(reply)
}

function readSet(reply: Memjs.Response, connection: MemcachedConnection): void {
  if (reply.header.status !== STATUS.ok) throw connection.refusal(reply)
}

/** `add` of an item that is there, `replace` of one that is not. */
function readConditional(reply: Memjs.Response, connection: MemcachedConnection): boolean {
  const { status } = reply.header
  if (status === STATUS.ok) return true
  if (status === STATUS.exists || status === STATUS.notFound || status === STATUS.notStored) return false
  throw connection.refusal(reply)
}

function readSwap(reply: Memjs.Response, connection: MemcachedConnection): SwapResult {
  const { status } = reply.header
  if (status === STATUS.ok) return 'stored'
  if (status === STATUS.exists) return 'conflict'
  if (status === STATUS.notFound) return 'missing'
  throw connection.refusal(reply)
}

function readFound(reply: Memjs.Response, connection: MemcachedConnection): boolean {
  const { status } = reply.header
  if (status === STATUS.ok) return true
  if (status === STATUS.notFound) return false
  throw connection.refusal(reply)
}

function readVersion(reply: Memjs.Response, connection: MemcachedConnection): string {
  if (reply.header.status === STATUS.ok) return reply.val.toString()
  throw connection.refusal(reply)
}
