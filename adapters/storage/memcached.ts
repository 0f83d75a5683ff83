import type { Socket } from 'node:net'
import { SessionManagerError } from '../../lib/errors.ts'
import type { NodeAddress, StorageClient, StorageClientOptions, StoredItem, SwapResult } from '../../lib/ports.ts'
import { loadPackage } from '../load-package.ts'

/** What is used of memjs; its published types leave out Server and Utils. */
interface MemjsServer {
  _socket?: Socket | undefined
  onResponse(seq: number, callback: ((response: MemjsResponse) => void) & { quiet?: boolean }): void
  onError(seq: number, callback: (error: unknown) => void): void
  write(request: Buffer): void
  error(error: unknown): void
}
interface MemjsResponse {
  header: { status: number; cas: Buffer; totalBodyLength: number }
  key: Buffer
  val: Buffer
}
interface MemjsClient {
  perform(
    key: string,
    request: Buffer,
    seq: number,
    callback: (error: unknown, response: MemjsResponse | null) => void,
  ): void
}
interface Memjs {
  Server: new (
    host: string,
    port: number,
    username: string | undefined,
    password: string | undefined,
    options: object,
  ) => MemjsServer
  Client: new (servers: MemjsServer[], options: object) => MemjsClient
  Utils: {
    makeRequestBuffer(opcode: number, key: string, extras: Buffer | '', value: Buffer | '', seq: number): Buffer
  }
}

/** One connection's worth of memjs: after a transport error it is thrown away, with whatever it had half received. */
interface Connection {
  readonly server: MemjsServer
  readonly client: MemjsClient
  watched: Socket | undefined
  dead: boolean
}

/** A CAS value counts only on the connection it was read on: a restarted server counts from the beginning again. */
interface Version {
  readonly cas: Buffer
  readonly connection: Connection
}

/** Opcodes of the binary protocol. */
const GET = 0x00
const SET = 0x01
const ADD = 0x02
const REPLACE = 0x03
const DELETE = 0x04
const VERSION = 0x0b
const STAT = 0x10
const TOUCH = 0x1c
/** Response statuses of the binary protocol. */
const OK = 0x00
const NOT_FOUND = 0x01
const EXISTS = 0x02
const NOT_STORED = 0x05
const REASONS: Record<number, string> = {
  3: 'value too large',
  4: 'invalid arguments',
  8: 'authentication failed',
  32: 'authentication failed',
  129: 'unknown command',
  130: 'out of memory',
  131: 'not supported',
  132: 'internal error',
  133: 'busy',
  134: 'temporary failure',
}
const THIRTY_DAYS = 2_592_000
const MAX_UINT32 = 0xffff_ffff
const MAX_SEQUENCE = 0x7fff_ffff
const SILENT = { log: (): void => {} }

/** A memcached server, through memjs and the binary protocol. */
export class MemcachedStorageClient implements StorageClient {
  readonly #memjs: Memjs
  readonly #address: NodeAddress
  readonly #options: StorageClientOptions
  #connection: Connection | undefined
  #sequence = 0
  #closed = false

  /** @throws SessionManagerError ERR_MSM_MISSING_PACKAGE if memjs is not installed */
  constructor(address: NodeAddress, options: StorageClientOptions) {
    this.#memjs = loadPackage<Memjs>('memjs', 'sessions in memcached')
    this.#address = address
    this.#options = options
  }

  async get(key: string): Promise<StoredItem | undefined> {
    const connection = this.#connect()
    const response = await this.#send(connection, GET, key, '', '')
    if (response.header.status === NOT_FOUND) return undefined
    this.#expect(response, OK)
    return { value: response.val, version: { cas: Buffer.from(response.header.cas), connection } satisfies Version }
  }

  async set(key: string, value: Buffer, ttl: number): Promise<void> {
    this.#expect(await this.#send(this.#connect(), SET, key, storeExtras(ttl), value), OK)
  }

  async add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const response = await this.#send(this.#connect(), ADD, key, storeExtras(ttl), value)
    return !this.#isStatus(response, EXISTS, NOT_STORED)
  }

  async replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const response = await this.#send(this.#connect(), REPLACE, key, storeExtras(ttl), value)
    return !this.#isStatus(response, NOT_FOUND, NOT_STORED)
  }

  async compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const { cas, connection } = version as Version
    if (connection !== this.#connect()) return (await this.get(key)) ? 'conflict' : 'missing'
    const { status } = (await this.#send(connection, SET, key, storeExtras(ttl), value, cas)).header
    if (status === OK) return 'stored'
    if (status === NOT_FOUND) return 'missing'
    if (status === EXISTS) return 'conflict'
    throw this.#refused(status)
  }

  async delete(key: string): Promise<boolean> {
    const response = await this.#send(this.#connect(), DELETE, key, '', '')
    return !this.#isStatus(response, NOT_FOUND)
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    const item = await this.get(key)
    if (!item?.value.equals(value)) return false
    const { cas, connection } = item.version as Version
    if (connection !== this.#connect()) return false
    const response = await this.#send(connection, DELETE, key, '', '', cas)
    return !this.#isStatus(response, NOT_FOUND, EXISTS)
  }

  async touch(key: string, ttl: number): Promise<boolean> {
    const extras = Buffer.allocUnsafe(4)
    extras.writeUInt32BE(expiration(ttl))
    const response = await this.#send(this.#connect(), TOUCH, key, extras, '')
    return !this.#isStatus(response, NOT_FOUND)
  }

  /** The server's process id and start time; its version where statistics are not permitted. */
  async probe(): Promise<string> {
    const stats = await this.#stats(this.#connect())
    if (stats === undefined) {
      const response = await this.#send(this.#connect(), VERSION, '', '', '')
      this.#expect(response, OK)
      return `version ${response.val.toString('latin1')}`
    }
    return `pid ${stats.get('pid')}`
  }

  reset(): void {
    const connection = this.#connection
    if (connection) this.#retire(connection, new Error('The connection was dropped.'))
  }

  async close(): Promise<void> {
    this.#closed = true
    this.reset()
  }

  #connect(): Connection {
    if (this.#closed) throw new SessionManagerError('ERR_MSM_STATE', `The client of ${this.#address.label} was closed.`)
    if (this.#connection) return this.#connection
    const { Server, Client } = this.#memjs
    const seconds = this.#options.operationTimeout / 1000
    // Objects of its own for each: memjs writes its defaults into what it is given.
    const settings = (): object => ({
      timeout: seconds,
      conntimeout: seconds,
      keepAlive: true,
      retries: 1,
      failover: false,
      logger: SILENT,
    })
    const { host, port } = this.#address
    // memjs falls back to credentials from the environment unless it is given some; an empty name sends none.
    const server = new Server(host, port, undefined, undefined, settings())
    const credentials = server as unknown as { username: string | undefined; password: string | undefined }
    credentials.username = this.#options.username
    credentials.password = this.#options.password
    this.#connection = { server, client: new Client([server], settings()), watched: undefined, dead: false }
    return this.#connection
  }

  #send(
    connection: Connection,
    opcode: number,
    key: string,
    extras: Buffer | '',
    value: Buffer | '',
    cas?: Buffer,
  ): Promise<MemjsResponse> {
    return new Promise((resolve, reject) => {
      const sequence = this.#next()
      const request = this.#memjs.Utils.makeRequestBuffer(opcode, key, extras, value, sequence)
      if (cas) cas.copy(request, 16)
      connection.client.perform(key, request, sequence, (error, response) => {
        if (response) resolve(response)
        else reject(this.#failed(connection, error))
      })
      this.#watch(connection)
    })
  }

  /** The server's statistics, which come in many replies; undefined if it refuses to give them. */
  #stats(connection: Connection): Promise<Map<string, string> | undefined> {
    return new Promise((resolve, reject) => {
      const stats = new Map<string, string>()
      const sequence = this.#next()
      const collect = (response: MemjsResponse): void => {
        if (response.header.status !== OK) return resolve(undefined)
        if (response.header.totalBodyLength === 0) return resolve(stats)
        stats.set(response.key.toString('latin1'), response.val.toString('latin1'))
      }
      collect.quiet = true
      const { server } = connection
      server.onResponse(sequence, collect)
      server.onError(sequence, (error) => reject(this.#failed(connection, error)))
      server.write(this.#memjs.Utils.makeRequestBuffer(STAT, '', '', '', sequence))
      this.#watch(connection)
    })
  }

  #next(): number {
    this.#sequence = this.#sequence === MAX_SEQUENCE ? 1 : this.#sequence + 1
    return this.#sequence
  }

  /** memjs says nothing when a connection is closed with operations in flight. */
  #watch(connection: Connection): void {
    const socket = connection.server._socket
    if (!socket || socket === connection.watched) return
    connection.watched = socket
    socket.once('close', () => this.#retire(connection, new Error('The connection was closed.')))
  }

  #retire(connection: Connection, error: unknown): void {
    if (connection.dead) return
    connection.dead = true
    if (this.#connection === connection) this.#connection = undefined
    const socket = connection.watched
    connection.server.error(error)
    socket?.on('error', () => {})
    socket?.destroy()
  }

  #failed(connection: Connection, cause: unknown): SessionManagerError {
    this.#retire(connection, cause)
    const { label } = this.#address
    if (typeof cause === 'string' && cause.includes('authentication')) {
      return new SessionManagerError('ERR_MSM_STORAGE_REFUSED', `${label} refused the user name and password.`, {
        cause,
      })
    }
    const reason = cause instanceof Error ? cause.message : String(cause)
    return new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', `${label} can't be reached: ${reason}`, { cause })
  }

  #isStatus(response: MemjsResponse, ...statuses: number[]): boolean {
    if (statuses.includes(response.header.status)) return true
    this.#expect(response, OK)
    return false
  }

  #expect(response: MemjsResponse, status: number): void {
    if (response.header.status !== status) throw this.#refused(response.header.status)
  }

  #refused(status: number): SessionManagerError {
    const reason = REASONS[status] ?? `status ${status}`
    return new SessionManagerError('ERR_MSM_STORAGE_REFUSED', `${this.#address.label} refused an operation: ${reason}.`)
  }
}

/** Makes the client of a memcached node. */
export function memcachedStorage(address: NodeAddress, options: StorageClientOptions): MemcachedStorageClient {
  return new MemcachedStorageClient(address, options)
}

/** Flags, always 0, and the expiry. */
function storeExtras(ttl: number): Buffer {
  const extras = Buffer.alloc(8)
  extras.writeUInt32BE(expiration(ttl), 4)
  return extras
}

/** memcached takes more than 30 days as a date (MemcachedUtilTest.testToMemcachedExpiration). */
function expiration(ttl: number): number {
  return ttl <= THIRTY_DAYS ? ttl : Math.min(MAX_UINT32, Math.floor(Date.now() / 1000) + ttl)
}
