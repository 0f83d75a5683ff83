import type { Socket } from 'node:net'
import type * as Memjs from 'memjs'
import { messageOf, SessionManagerError } from '../../lib/errors.ts'
import { loadPackage } from '../load-package.ts'
import { WriteBatch } from './write-batch.ts'

/** Operations of the binary protocol. */
export const OPCODE = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  replace: 0x03,
  delete: 0x04,
  version: 0x0b,
  stat: 0x10,
  touch: 0x1c,
} as const

/** Answers of the binary protocol. */
export const STATUS = { ok: 0x00, notFound: 0x01, exists: 0x02, notStored: 0x05 } as const

const AUTHENTICATION_FAILED = 0x20
const REFUSALS: Record<number, string> = {
  3: 'the value is larger than an item may be',
  4: 'invalid arguments',
  5: 'not stored',
  8: 'authentication is required',
  [AUTHENTICATION_FAILED]: 'authentication failed',
  129: 'unknown command',
  130: 'out of memory',
}

const EMPTY = Buffer.alloc(0)
const MAX_SEQUENCE = 0x7fff_ffff
const CAS_OFFSET = 16
const KEEP_ALIVE_DELAY = 30
/** memjs reports through errors, too; what it logs besides holds nothing new. */
const SILENT = { log(): void {} }

export interface MemcachedAddress {
  readonly host: string
  readonly port: number
  readonly label: string
  readonly username: string | undefined
  readonly password: string | undefined
  /** Milliseconds after which memjs gives up by itself; a safety net, longer than any deadline. */
  readonly timeout: number
}

/** The CAS number of an item. It means nothing to another connection, where a restarted server counts from 1 again. */
export class ItemVersion {
  readonly connection: MemcachedConnection
  readonly high: number
  readonly low: number

  constructor(connection: MemcachedConnection, cas: Buffer) {
    this.connection = connection
    this.high = cas.readUInt32BE(0)
    this.low = cas.readUInt32BE(4)
  }

  /** The server counts no versions. */
  get isVoid(): boolean {
    return this.low === 0 && this.high === 0
  }
}

/** Makes the result of an operation from the reply, or throws. */
export type ReplyReader<T> = (reply: Memjs.Response, connection: MemcachedConnection) => T

/**
 * One TCP connection to a memcached server, from connect to its end; nothing of it outlives a failure.
 *
 * memjs keeps half of a reply over a reconnect, and never settles what is in flight when the server closes cleanly. So
 * each connection has a memjs client of its own, that is thrown away with it, and watches its socket.
 */
export class MemcachedConnection {
  /** Of the server process, once it was asked for. */
  identity: string | undefined
  readonly #address: MemcachedAddress
  readonly #makeRequest: typeof Memjs.Utils.makeRequestBuffer
  readonly #server: Memjs.Server
  readonly #client: Memjs.Client
  readonly #socket: Socket
  readonly #onEnd: (connection: MemcachedConnection) => void
  #sequence: number
  #ended = false
  readonly #batch: WriteBatch

  /** Begins to connect. `onEnd` is called once, before anything in flight is rejected. */
  constructor(address: MemcachedAddress, onEnd: (connection: MemcachedConnection) => void, lastSequence = 0) {
    const memjs = loadMemjs()
    const timeout = address.timeout / 1000
    // Objects of their own, as memjs writes its defaults into them.
    const serverOptions = { timeout, conntimeout: timeout, keepAlive: true, keepAliveDelay: KEEP_ALIVE_DELAY }
    const server = new memjs.Server(address.host, address.port, '', '', serverOptions)
    // memjs takes what is missing from environment variables that belong to somebody else.
    Object.assign(server, { username: address.username, password: address.password })
    this.#address = address
    this.#makeRequest = memjs.Utils.makeRequestBuffer
    this.#server = server
    this.#client = new memjs.Client([server], { retries: 1, failover: false, logger: SILENT })
    this.#onEnd = onEnd
    this.#sequence = lastSequence
    server.sock(false, () => {})
    this.#socket = socketOf(server)!
    this.#batch = new WriteBatch(this.#socket)
    this.#socket.setNoDelay(true)
    this.#socket.on('error', (error) => this.end(error))
    this.#socket.on('end', () => this.end(new Error('the server closed the connection')))
    this.#socket.on('close', () => this.end(new Error('the connection was closed')))
  }

  /** Sends one request, and settles with what `read` makes of its reply. */
  request<T>(
    opcode: number,
    key: string,
    extras: Buffer,
    value: Buffer,
    version: ItemVersion | undefined,
    read: ReplyReader<T>,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const sequence = this.#nextSequence()
      const request = this.#makeRequest(opcode, key, extras, value, sequence)
      if (version !== undefined) {
        request.writeUInt32BE(version.high, CAS_OFFSET)
        request.writeUInt32BE(version.low, CAS_OFFSET + 4)
      }
      this.#batch.add()
      this.#client.perform(key, request, sequence, (error: unknown, reply: Memjs.Response) => {
        if (error !== null) {
          this.end(error)
          reject(this.#failure(error))
          return
        }
        try {
          resolve(read(reply, this))
        } catch (refusal) {
          reject(refusal)
        }
      })
    })
  }

  /** Asks for the general statistics, which come in many replies to one request; undefined if the server refuses. */
  statistics(): Promise<Map<string, string> | undefined> {
    return new Promise((resolve, reject) => {
      const sequence = this.#nextSequence()
      const statistics = new Map<string, string>()
      const handle = (reply: Memjs.Response): void => {
        if (reply.header.status !== STATUS.ok) {
          // memjs then forgets the request, as no further reply will come.
          handle.quiet = false
          resolve(undefined)
        } else if (reply.header.totalBodyLength === 0) {
          resolve(statistics)
        } else {
          statistics.set(reply.key.toString(), reply.val.toString())
        }
      }
      handle.quiet = true
      this.#server.onResponse(sequence, handle)
      this.#server.onError(sequence, (error) => {
        this.end(error)
        reject(this.#failure(error))
      })
      this.#server.write(this.#makeRequest(OPCODE.stat, EMPTY, EMPTY, EMPTY, sequence))
    })
  }

  /** The error of an operation that the server answered, but did not carry out. */
  refusal(reply: Memjs.Response): SessionManagerError {
    return this.#refused(reply.header.status)
  }

  /** Drops the connection; whatever is in flight is rejected. */
  end(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#onEnd(this)
    this.#server.error(error as Error)
    // memjs has let go of a socket that it timed out.
    this.#socket.destroy()
  }

  /** Drops the connection and waits until its socket is closed. */
  async close(error: unknown): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve()
      else this.#socket.once('close', () => resolve())
    })
    this.end(error)
    await closed
  }

  #nextSequence(): number {
    this.#sequence = this.#sequence === MAX_SEQUENCE ? 1 : this.#sequence + 1
    return this.#sequence
  }

  #failure(error: unknown): SessionManagerError {
    if (error instanceof SessionManagerError) return error
    // memjs gives a string, and nothing else, when the credentials are wrong or missing.
    if (typeof error === 'string') return this.#refused(AUTHENTICATION_FAILED, error)
    return new SessionManagerError(
      'ERR_MSM_NODE_UNAVAILABLE',
      `The connection to ${this.#address.label} failed: ${describe(error)}.`,
      { cause: error },
    )
  }

  #refused(status: number, cause?: unknown): SessionManagerError {
    const reason = REFUSALS[status] ?? `status 0x${status.toString(16)}`
    return new SessionManagerError(
      'ERR_MSM_STORAGE_REFUSED',
      `The memcached server ${this.#address.label} refused the operation: ${reason}.`,
      { cause },
    )
  }
}

/** @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` */
export function loadMemjs(): typeof Memjs {
  return loadPackage<typeof Memjs>('memjs', 'memcached nodes in memcachedNodes')
}

function socketOf(server: Memjs.Server): Socket | undefined {
  return (server as unknown as { _socket?: Socket })._socket
}

/** An error of several addresses of a host has no message, but a code. */
function describe(error: unknown): string {
  return messageOf(error) || String((error as { code?: unknown }).code ?? 'unknown error')
}
