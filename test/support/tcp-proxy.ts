import { createServer, connect as netConnect, type Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { freePort } from './servers.ts'

const HOST = '127.0.0.1'

type Mode = 'forward' | 'silent' | 'blackhole' | 'reset'

/** A piece of a stream, or its end. */
type Piece = Buffer | 'end'

/**
 * Stands between a client and a server and breaks what is asked of it. Every fault lasts until `heal`, but for
 * `closeGracefully`, which is over at once, and `cutAfter`, which strikes once.
 */
export class TcpProxy {
  readonly host: string = HOST
  readonly port: number
  /** Connections accepted since the start. */
  connections = 0
  /** Bytes passed on since the start, and bytes from clients that were held back or lost. */
  readonly bytes: { toServer: number; toClient: number; held: number } = { toServer: 0, toClient: 0, held: 0 }
  readonly #target: { host: string; port: number }
  readonly #links = new Set<Link>()
  #server: Server | undefined
  #mode: Mode = 'forward'
  #delay = 0
  #pieceSize = 0
  #cutAfter: number | undefined

  constructor(target: { host: string; port: number }, port: number) {
    this.#target = target
    this.port = port
  }

  static async start(target: { host: string; port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, await freePort())
    await proxy.#listen()
    return proxy
  }

  /** How many connections are open now. */
  get open(): number {
    return this.#links.size
  }

  /** Accepts connections and keeps them, but passes nothing on; `heal` delivers what was held back. */
  silent(): void {
    this.#mode = 'silent'
  }

  /** As `silent`, but what is sent is lost, and `heal` resets the connections that lost something. */
  blackhole(): void {
    this.#mode = 'blackhole'
    for (const link of this.#links) link.lost = true
  }

  /** Resets all connections (RST) and refuses new ones. */
  reset(): void {
    this.#mode = 'reset'
    this.#server?.close()
    this.#server = undefined
    for (const link of this.#links) link.reset()
  }

  /** Replies come `ms` later, in order. */
  delay(ms: number): void {
    this.#delay = ms
  }

  /** Passes on the next `bytes` of replies, and then ends that connection with a FIN. */
  cutAfter(bytes: number): void {
    this.#cutAfter = bytes
  }

  /** Replies come in pieces of `size` bytes. */
  slice(size: number): void {
    this.#pieceSize = size
  }

  /** Ends all connections with a FIN, whatever is in flight; new ones are accepted. */
  closeGracefully(): void {
    for (const link of this.#links) link.finish()
  }

  /** Forwards again, on the same port. */
  async heal(): Promise<void> {
    this.#mode = 'forward'
    this.#delay = 0
    this.#pieceSize = 0
    this.#cutAfter = undefined
    for (const link of this.#links) link.heal()
    if (!this.#server) await this.#listen()
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    for (const link of this.#links) link.reset()
    if (server) await new Promise((resolve) => server.close(resolve))
  }

  /** @internal */
  get mode(): Mode {
    return this.#mode
  }

  /** @internal */
  connectToServer(): Socket {
    return netConnect({ ...this.#target, noDelay: true })
  }

  /** @internal The replies to pass on now: cut and sliced as asked. */
  shape(data: Buffer): Piece[] {
    let rest = data
    const pieces: Piece[] = []
    const cut = this.#cutAfter !== undefined && rest.length >= this.#cutAfter
    if (cut) {
      rest = rest.subarray(0, this.#cutAfter)
      this.#cutAfter = undefined
    } else if (this.#cutAfter !== undefined) {
      this.#cutAfter -= rest.length
    }
    const size = this.#pieceSize || rest.length
    for (let at = 0; at < rest.length; at += size) pieces.push(rest.subarray(at, at + size))
    if (cut) pieces.push('end')
    return pieces
  }

  /** @internal Milliseconds, undefined for none. */
  get replyDelay(): number | undefined {
    // Pieces must not be read in one go.
    return this.#delay || (this.#pieceSize > 0 ? 0 : undefined)
  }

  #listen(): Promise<void> {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
      this.connections++
      const link = new Link(this, client)
      this.#links.add(link)
      client.once('close', () => this.#links.delete(link))
    })
    this.#server = server
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.port, HOST, resolve)
    })
  }
}

/** One connection of a client, and the one to the server that belongs to it. */
class Link {
  /** Something that was sent is gone: the connection can't be used again. */
  lost: boolean
  readonly #proxy: TcpProxy
  readonly #client: Socket
  #upstream: Socket | undefined
  #heldToServer: Piece[] = []
  #heldToClient: Piece[] = []
  #replies: Promise<void> = Promise.resolve()
  #waiting = 0

  constructor(proxy: TcpProxy, client: Socket) {
    this.#proxy = proxy
    this.#client = client
    this.lost = proxy.mode === 'blackhole'
    client.on('error', () => this.reset())
    client.on('close', () => this.#upstream?.destroy())
    client.on('data', (data) => this.#toServer(data))
    client.on('end', () => this.#toServer('end'))
    if (proxy.mode === 'forward') this.#connect()
  }

  heal(): void {
    if (this.lost) {
      this.reset()
      return
    }
    if (!this.#upstream) this.#connect()
    for (const piece of this.#heldToServer.splice(0)) this.#toServer(piece)
    for (const piece of this.#heldToClient.splice(0)) this.#toClient(piece)
  }

  reset(): void {
    this.#upstream?.resetAndDestroy()
    this.#client.resetAndDestroy()
  }

  finish(): void {
    this.#upstream?.destroy()
    this.#client.end()
  }

  #connect(): void {
    const upstream = this.#proxy.connectToServer()
    this.#upstream = upstream
    upstream.on('error', () => this.reset())
    upstream.on('data', (data) => this.#toClient(data))
    upstream.on('end', () => this.#toClient('end'))
  }

  #toServer(piece: Piece): void {
    if (this.lost || this.#proxy.mode === 'silent' || !this.#upstream) {
      if (piece !== 'end') this.#proxy.bytes.held += piece.length
      if (!this.lost) this.#heldToServer.push(piece)
    } else if (piece === 'end') {
      this.#upstream.end()
    } else {
      this.#proxy.bytes.toServer += piece.length
      this.#upstream.write(piece)
    }
  }

  #toClient(piece: Piece): void {
    if (this.lost) return
    if (this.#proxy.mode === 'silent') {
      this.#heldToClient.push(piece)
      return
    }
    const delay = this.#proxy.replyDelay
    for (const next of piece === 'end' ? [piece] : this.#proxy.shape(piece)) {
      if (delay === undefined && this.#waiting === 0) this.#deliver(next)
      else this.#deliverAt(performance.now() + (delay ?? 0), next)
    }
  }

  /** In order, and never two pieces in one turn of the event loop. */
  #deliverAt(due: number, piece: Piece): void {
    this.#waiting++
    this.#replies = this.#replies.then(async () => {
      const ms = due - performance.now()
      await (ms > 0 ? sleep(ms) : nextTurn())
      this.#waiting--
      this.#deliver(piece)
    })
  }

  #deliver(piece: Piece): void {
    if (this.#client.destroyed) return
    if (piece === 'end') {
      this.finish()
    } else {
      this.#proxy.bytes.toClient += piece.length
      this.#client.write(piece)
    }
  }
}
