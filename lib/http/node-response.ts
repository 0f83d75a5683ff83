import type { ServerResponse } from 'node:http'
import { messageOf } from '../errors.ts'
import { isPromise } from '../maybe-promise.ts'
import type { SessionExchange } from '../session/session-exchange.ts'

const HOOK: unique symbol = Symbol('session response hook')
type Hooked = ServerResponse & { [HOOK]: ResponseHook }
const ENDED: PropertyDescriptor = { value: true, configurable: true }
type Callback = (error?: Error | null) => void
// biome-ignore lint/suspicious/noExplicitAny: the overloads of node:http's ServerResponse
type Args = any[]

/**
 * Ties an exchange to node's response, whatever writes it (`res.json`, a redirect, a stream, `sendFile`, an error
 * page): the cookie is set before the head is sent, and no first and no last byte leaves before the session is stored,
 * as far as it has to be.
 *
 * If the session can't be stored and that is to be an error, the answer that is held gives way to the framework's error
 * handling (`onError`), or to a plain one.
 *
 * The functions put on the response are shared by all responses; what belongs to one is in its hook.
 */
export function hookResponse(
  response: ServerResponse,
  exchange: SessionExchange,
  sync?: (exchange: SessionExchange) => void,
  onError?: (error: unknown) => void,
): void {
  const hooked = response as Hooked
  hooked[HOOK] = new ResponseHook(hooked, exchange, sync, onError)
  hooked.writeHead = writeHead as never
  hooked.write = write as never
  hooked.end = end as never
  hooked.flushHeaders = flushHeaders
  hooked.on('close', close)
  // Its client is gone already, and nobody will tell again.
  if (hooked.closed) close.call(hooked)
}

/** What an answer that is not to be sent has said about its body. */
export const BODY_HEADERS: RegExp = /^(?:content-|etag$|last-modified$|location$|transfer-encoding$|trailer$)/

class ResponseHook {
  readonly exchange: SessionExchange
  /** Brings what the app did to its session property into the exchange. */
  readonly sync: ((exchange: SessionExchange) => void) | undefined
  /** Hands the request to the error handling of the framework. */
  readonly onError: ((error: unknown) => void) | undefined
  readonly writeHead: (...args: Args) => unknown
  readonly write: (...args: Args) => boolean
  readonly end: (...args: Args) => unknown
  readonly flushHeaders: (...args: Args) => unknown
  /** Calls that wait for a commit; undefined while none is under way. */
  held: [name: 'write' | 'end' | 'flushHeaders', args: Args][] | undefined
  needsDrain = false
  ended = false
  started = false
  /** True once the answer was replaced by an error: what is still written of it goes nowhere. */
  discards = false
  /** True once there is a body, or the end: a head that is written now is sent with it. */
  headIsDue = false
  /** True while a head that the app has written is kept open, as storing the session may still add a cookie to it. */
  keepsHead = false
  /** Bytes still missing for the announced `Content-Length`. */
  remaining = Number.POSITIVE_INFINITY

  constructor(
    response: ServerResponse,
    exchange: SessionExchange,
    sync: ((exchange: SessionExchange) => void) | undefined,
    onError: ((error: unknown) => void) | undefined,
  ) {
    this.exchange = exchange
    this.sync = sync
    this.onError = onError
    this.writeHead = response.writeHead
    this.write = response.write
    this.end = response.end
    this.flushHeaders = response.flushHeaders
  }

  /** Commits; true if the call has to wait. */
  mustWait(response: Hooked, name: 'write' | 'end' | 'flushHeaders', args: Args): boolean {
    if (this.held) {
      this.held.push([name, args])
      return true
    }
    this.sync?.(this.exchange)
    const pending = this.commit(name)
    if (!pending) return false
    this.held = [[name, args]]
    const { statusCode } = response
    // HTTP/2 has none, and node warns of whoever asks.
    const statusMessage = response.req.httpVersionMajor < 2 ? response.statusMessage : undefined
    const headers = this.isHeadSent(response) ? undefined : { ...response.getHeaders() }
    const resume = (): void => {
      // An error handler may have tried to answer what was answered already: the first answer stands.
      if (headers && this.ended && !this.isHeadSent(response)) {
        response.statusCode = statusCode
        if (statusMessage !== undefined) response.statusMessage = statusMessage
        for (const key of response.getHeaderNames()) if (!(key in headers)) response.removeHeader(key)
        for (const key in headers) response.setHeader(key, headers[key] as string)
      }
      this.release(response)
    }
    pending.then(resume, (error) => (this.isHeadSent(response) ? resume() : this.fail(response, error)))
    return true
  }

  isHeadSent(response: Hooked): boolean {
    return response.headersSent && !this.keepsHead
  }

  commit(name: 'write' | 'end' | 'flushHeaders'): Promise<void> | undefined {
    try {
      const pending = name === 'end' ? this.exchange.finish(true) : this.exchange.commit()
      return isPromise(pending) ? pending : undefined
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Answers with an error in place of the answer that is held, of which nothing has been sent. */
  fail(response: Hooked, error: unknown): void {
    this.exchange.abandon()
    const isWhole = this.held?.length === 1 && this.held[0]![0] === 'end'
    this.held = undefined
    this.keepsHead = false
    Reflect.deleteProperty(response, 'writableEnded')
    for (const name of response.getHeaderNames()) if (BODY_HEADERS.test(name)) response.removeHeader(name)
    response.statusCode = 200
    if (response.req.httpVersionMajor < 2) response.statusMessage = ''
    if (isWhole && this.onError) {
      this.ended = false
      this.started = false
      this.headIsDue = false
      this.remaining = Number.POSITIVE_INFINITY
      this.onError(error)
      return
    }
    const { status = 500, headers = {} } = error as { status?: number; headers?: Record<string, string> }
    response.statusCode = status
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    response.setHeader('Content-Type', 'text/plain; charset=utf-8')
    this.end.call(response, messageOf(error))
    this.ended = true
    this.discards = true
    if (this.needsDrain) response.emit('drain')
  }

  release(response: Hooked): void {
    const held = this.held ?? []
    this.held = undefined
    for (let i = 0; i < held.length; i++) {
      const [name, args] = held[i]!
      // The first call is the one that was committed for; the end after it may need a commit of its own.
      if (i > 0 && name === 'end' && this.mustWait(response, name, args)) {
        continue
      }
      if (this.held) (this.held as typeof held).push(held[i]!)
      else {
        if (name === 'end') Reflect.deleteProperty(response, 'writableEnded')
        this[name].apply(response, args)
      }
    }
    if (!this.held && this.needsDrain) {
      this.needsDrain = false
      response.emit('drain')
    }
  }

  /** True if this chunk ends the body that `Content-Length` announced: the client won't wait for the end. */
  completes(chunk: unknown, encoding: unknown): boolean {
    this.remaining -=
      typeof chunk === 'string'
        ? Buffer.byteLength(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
        : ((chunk as Uint8Array | undefined)?.byteLength ?? 0)
    return this.remaining <= 0
  }
}

function writeHead(this: Hooked, ...args: Args): unknown {
  const hook = this[HOOK]
  if (hook.held || (hook.keepsHead && !hook.headIsDue)) {
    throw Object.assign(new Error('Cannot write headers after they are sent to the client'), {
      code: 'ERR_HTTP_HEADERS_SENT',
    })
  }
  hook.sync?.(hook.exchange)
  const isOpen = !hook.headIsDue && !this.headersSent && hook.exchange.facade !== undefined
  if (isOpen && args[0] >= 100 && args[0] <= 999) return keepHead(this, args)
  hook.keepsHead = false
  const cookie = hook.exchange.head()
  if (cookie !== undefined) addCookie(this, cookie)
  const { idHeader } = hook.exchange
  if (idHeader) this.setHeader(...idHeader)
  return hook.writeHead.apply(this, args)
}

/**
 * Notes the head that the app has written; node will write it with the first byte of the body, which is when the session
 * has been stored, and its id is certain.
 */
function keepHead(response: Hooked, [statusCode, ...rest]: Args): Hooked {
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
  response[HOOK].keepsHead = true
  Object.defineProperty(response, 'headersSent', headersSent)
  return response
}

const headersSent: PropertyDescriptor = {
  configurable: true,
  get(this: Hooked): boolean {
    return this[HOOK].keepsHead || Reflect.get(Object.getPrototypeOf(this), 'headersSent', this)
  },
}

function pairsOf(flat: Args): Args[] {
  return flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]]] : []))
}

function write(this: Hooked, chunk: unknown, encoding?: BufferEncoding | Callback, callback?: Callback): boolean {
  const hook = this[HOOK]
  if (hook.discards) return true
  if (hook.ended) return hook.write.call(this, chunk, encoding, callback)
  hook.headIsDue = true
  const first = !hook.started
  if (first) {
    hook.started = true
    const length = this.getHeader('content-length')
    if (length !== undefined) hook.remaining = Number(length)
  }
  const gated = hook.completes(chunk, encoding) || first
  if (hook.held || gated) {
    if (hook.mustWait(this, 'write', [chunk, encoding, callback])) {
      hook.needsDrain = true
      return false
    }
  }
  return hook.write.call(this, chunk, encoding, callback)
}

function flushHeaders(this: Hooked): void {
  const hook = this[HOOK]
  hook.headIsDue = true
  if (!hook.started && hook.mustWait(this, 'flushHeaders', [])) return
  hook.flushHeaders.call(this)
}

function end(this: Hooked, ...args: Args): unknown {
  const hook = this[HOOK]
  if (hook.discards) return this
  if (hook.ended) return hook.held ? this : hook.end.apply(this, args)
  hook.ended = true
  hook.headIsDue = true
  if (!hook.mustWait(this, 'end', args)) return hook.end.apply(this, args)
  // Who asks whether there is an answer already, as Fastify does, is told what node would say: `end` was called.
  Object.defineProperty(this, 'writableEnded', ENDED)
  return this
}

/** The client is gone, or has everything. What the handler has changed until here is saved in either case. */
function close(this: Hooked): void {
  const hook = this[HOOK]
  hook.sync?.(hook.exchange)
  try {
    const pending = hook.exchange.finish(hook.ended)
    if (isPromise(pending)) pending.catch(() => {})
  } catch {
    // There is nobody left to tell; it was counted and told as an event.
  }
}

/** Adds the cookie to those of the app, in an array of our own: the app's may be one that all its responses share. */
function addCookie(response: ServerResponse, cookie: string): void {
  const cookies = response.getHeader('set-cookie')
  response.setHeader('Set-Cookie', cookies === undefined ? cookie : [cookies as string | string[], cookie].flat())
}
