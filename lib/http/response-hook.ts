import type { ServerResponse } from 'node:http'
import { messageOf } from '../errors.ts'
import { isPromise } from '../maybe-promise.ts'
import type { SessionExchange } from '../session/session-exchange.ts'

export type Callback = (error?: Error | null) => void
// biome-ignore lint/suspicious/noExplicitAny: the overloads of node:http's ServerResponse
export type Args = any[]
type HeldName = 'write' | 'end' | 'flushHeaders'

/** What writes to a response, without its session. */
export interface NativeResponse {
  writeHead(this: ServerResponse, ...args: Args): unknown
  write(this: ServerResponse, ...args: Args): boolean
  end(this: ServerResponse, ...args: Args): unknown
  flushHeaders(this: ServerResponse): void
  /** Called before something is held that the response is to say has been sent. */
  showsHeld?(this: ServerResponse, name: 'headersSent' | 'writableEnded'): void
}

/** What an answer that is not to be sent has said about its body. */
export const BODY_HEADERS: RegExp = /^(?:content-|etag$|last-modified$|location$|transfer-encoding$|trailer$)/

/** Stands between an app and the response of one request, and holds back what may not be sent before the commit. */
export class ResponseHook {
  readonly exchange: SessionExchange
  readonly #response: ServerResponse
  readonly #native: NativeResponse
  /** Brings what the app did to its session property into the exchange. */
  readonly #sync: ((exchange: SessionExchange) => void) | undefined
  /** Hands the request to the error handling of the framework. */
  readonly #onError: ((error: unknown) => void) | undefined
  /** Calls that wait for a commit; undefined while none is under way. */
  #held: [name: HeldName, args: Args][] | undefined
  #needsDrain = false
  #ended = false
  #started = false
  /** True once the answer was replaced by an error: what is still written of it goes nowhere. */
  #discards = false
  /** True once there is a body, or the end: a head that is written now is sent with it. */
  #headIsDue = false
  /** Bytes still missing for the announced `Content-Length`. */
  #remaining = Number.POSITIVE_INFINITY
  /** True while a head that the app has written is kept open, as storing the session may still add a cookie to it. */
  keepsHead = false
  /** True while `end` waits for the commit. Who asks whether there is an answer already is told what node would say. */
  holdsEnd = false

  constructor(
    response: ServerResponse,
    native: NativeResponse,
    exchange: SessionExchange,
    sync: ((exchange: SessionExchange) => void) | undefined,
    onError: ((error: unknown) => void) | undefined,
  ) {
    this.exchange = exchange
    this.#response = response
    this.#native = native
    this.#sync = sync
    this.#onError = onError
  }

  /** False for another response to the same request, such as one that is made to be thrown away. */
  isOf(response: ServerResponse): boolean {
    return response === this.#response || Object.prototype.isPrototypeOf.call(this.#response, response)
  }

  writeHead(args: Args): unknown {
    const { exchange } = this
    const response = this.#response
    if (this.#held || (this.keepsHead && !this.#headIsDue)) {
      throw Object.assign(new Error('Cannot write headers after they are sent to the client'), {
        code: 'ERR_HTTP_HEADERS_SENT',
      })
    }
    this.#sync?.(exchange)
    const isOpen = !this.#headIsDue && !response.headersSent && exchange.facade !== undefined
    if (isOpen && args[0] >= 100 && args[0] <= 999) return this.#keepHead(args)
    this.keepsHead = false
    const cookie = exchange.head()
    if (cookie !== undefined) addCookie(response, cookie)
    const { idHeader } = exchange
    if (idHeader) response.setHeader(...idHeader)
    return this.#native.writeHead.apply(response, args)
  }

  write(chunk: unknown, encoding?: BufferEncoding | Callback, callback?: Callback): boolean {
    if (this.#discards) return true
    const response = this.#response
    if (this.#ended) return this.#native.write.call(response, chunk, encoding, callback)
    this.#headIsDue = true
    const first = !this.#started
    if (first) {
      this.#started = true
      const length = response.getHeader('content-length')
      if (length !== undefined) this.#remaining = Number(length)
    }
    const gated = this.#completes(chunk, encoding) || first
    if (this.#held || gated) {
      if (this.#mustWait('write', [chunk, encoding, callback])) {
        this.#needsDrain = true
        return false
      }
    }
    return this.#native.write.call(response, chunk, encoding, callback)
  }

  flushHeaders(): void {
    this.#headIsDue = true
    if (!this.#started && this.#mustWait('flushHeaders', [])) return
    this.#native.flushHeaders.call(this.#response)
  }

  end(args: Args): unknown {
    const response = this.#response
    if (this.#discards) return response
    if (this.#ended) return this.#held ? response : this.#native.end.apply(response, args)
    this.#ended = true
    this.#headIsDue = true
    if (!this.#mustWait('end', args)) return this.#native.end.apply(response, args)
    this.#native.showsHeld?.call(response, 'writableEnded')
    this.holdsEnd = true
    return response
  }

  /** The client is gone, or has everything. What the handler has changed until here is saved in either case. */
  close(): void {
    this.#sync?.(this.exchange)
    try {
      const pending = this.exchange.finish(this.#ended)
      if (isPromise(pending)) pending.catch(() => {})
    } catch {
      // There is nobody left to tell; it was counted and told as an event.
    }
  }

  /** Commits; true if the call has to wait. */
  #mustWait(name: HeldName, args: Args): boolean {
    if (this.#held) {
      this.#held.push([name, args])
      return true
    }
    this.#sync?.(this.exchange)
    const pending = this.#commit(name)
    if (!pending) return false
    this.#held = [[name, args]]
    const response = this.#response
    const { statusCode } = response
    // HTTP/2 has none, and node warns of whoever asks.
    const statusMessage = response.req.httpVersionMajor < 2 ? response.statusMessage : undefined
    const headers = this.#isHeadSent() ? undefined : response.getHeaders()
    const resume = (): void => {
      // An error handler may have tried to answer what was answered already: the first answer stands.
      if (headers && this.#ended && !this.#isHeadSent()) {
        if (response.statusCode !== statusCode) response.statusCode = statusCode
        if (response.statusMessage !== statusMessage && statusMessage !== undefined) {
          response.statusMessage = statusMessage
        }
        for (const key of response.getHeaderNames()) if (!(key in headers)) response.removeHeader(key)
        for (const key in headers) {
          if (response.getHeader(key) !== headers[key]) response.setHeader(key, headers[key] as string)
        }
      }
      this.#release()
    }
    pending.then(resume, (error) => (this.#isHeadSent() ? resume() : this.#fail(error)))
    return true
  }

  #isHeadSent(): boolean {
    return this.#response.headersSent && !this.keepsHead
  }

  #commit(name: HeldName): Promise<void> | undefined {
    try {
      const pending = name === 'end' ? this.exchange.finish(true) : this.exchange.commit()
      return isPromise(pending) ? pending : undefined
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Answers with an error in place of the answer that is held, of which nothing has been sent. */
  #fail(error: unknown): void {
    const response = this.#response
    this.exchange.abandon()
    const isWhole = this.#held?.length === 1 && this.#held[0]![0] === 'end'
    this.#held = undefined
    this.keepsHead = false
    this.holdsEnd = false
    for (const name of response.getHeaderNames()) if (BODY_HEADERS.test(name)) response.removeHeader(name)
    response.statusCode = 200
    if (response.req.httpVersionMajor < 2) response.statusMessage = ''
    if (isWhole && this.#onError) {
      this.#ended = false
      this.#started = false
      this.#headIsDue = false
      this.#remaining = Number.POSITIVE_INFINITY
      this.#onError(error)
      return
    }
    const { status = 500, headers = {} } = error as { status?: number; headers?: Record<string, string> }
    response.statusCode = status
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    response.setHeader('Content-Type', 'text/plain; charset=utf-8')
    this.#native.end.call(response, messageOf(error))
    this.#ended = true
    this.#discards = true
    if (this.#needsDrain) response.emit('drain')
  }

  #release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (let i = 0; i < held.length; i++) {
      const [name, args] = held[i]!
      // The first call is the one that was committed for; the end after it may need a commit of its own.
      if (i > 0 && name === 'end' && this.#mustWait(name, args)) {
        continue
      }
      if (this.#held) (this.#held as typeof held).push(held[i]!)
      else {
        if (name === 'end') this.holdsEnd = false
        this.#native[name].apply(this.#response, args as [])
      }
    }
    if (!this.#held && this.#needsDrain) {
      this.#needsDrain = false
      this.#response.emit('drain')
    }
  }

  /** True if this chunk ends the body that `Content-Length` announced: the client won't wait for the end. */
  #completes(chunk: unknown, encoding: unknown): boolean {
    this.#remaining -=
      typeof chunk === 'string'
        ? Buffer.byteLength(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
        : ((chunk as Uint8Array | undefined)?.byteLength ?? 0)
    return this.#remaining <= 0
  }

  /**
   * Notes the head that the app has written; node will write it with the first byte of the body, which is when the session
   * has been stored, and its id is certain.
   */
  #keepHead([statusCode, ...rest]: Args): ServerResponse {
    const response = this.#response
    response.statusCode = statusCode
    if (typeof rest[0] === 'string') response.statusMessage = rest.shift()
    // As in node, headers are the third argument also where the message is given as undefined.
    const headers = rest[1] ?? rest[0] ?? {}
    if (Array.isArray(headers)) {
      const pairs = Array.isArray(headers[0]) ? headers : pairsOf(headers)
      for (const [name] of pairs) response.removeHeader(name)
      for (const [name, value] of pairs) response.appendHeader(name, value)
    } else {
      for (const name of Object.keys(headers)) response.setHeader(name, headers[name])
    }
    this.#native.showsHeld?.call(response, 'headersSent')
    this.keepsHead = true
    return response
  }
}

function pairsOf(flat: Args): Args[] {
  return flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]]] : []))
}

/** Adds the cookie to those of the app, in an array of our own: the app's may be one that all its responses share. */
function addCookie(response: ServerResponse, cookie: string): void {
  const cookies = response.getHeader('set-cookie')
  response.setHeader('Set-Cookie', cookies === undefined ? cookie : [cookies as string | string[], cookie].flat())
}
