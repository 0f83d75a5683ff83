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
  sync?: () => void,
  onError?: (error: unknown) => void,
): void {
  const hooked = response as Hooked
  hooked[HOOK] = new ResponseHook(hooked, exchange, sync, onError)
  Object.assign(hooked, { writeHead, write, end, flushHeaders })
  hooked.on('close', close)
  // Its client is gone already, and nobody will tell again.
  if (hooked.closed) close.call(hooked)
}

/** What an answer that is not to be sent has said about its body. */
export const BODY_HEADERS: RegExp = /^(?:content-|etag$|last-modified$|location$|transfer-encoding$|trailer$)/

class ResponseHook {
  readonly exchange: SessionExchange
  /** Brings what the app did to its session property into the exchange. */
  readonly sync: (() => void) | undefined
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
  /** Bytes still missing for the announced `Content-Length`. */
  remaining = Number.POSITIVE_INFINITY

  constructor(
    response: ServerResponse,
    exchange: SessionExchange,
    sync: (() => void) | undefined,
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
    this.sync?.()
    const pending = this.commit(name)
    if (!pending) return false
    this.held = [[name, args]]
    const { statusCode, statusMessage } = response
    const headers = response.headersSent ? undefined : { ...response.getHeaders() }
    const resume = (): void => {
      // An error handler may have tried to answer what was answered already: the first answer stands.
      if (headers && this.ended && !response.headersSent) {
        response.statusCode = statusCode
        response.statusMessage = statusMessage
        for (const key of response.getHeaderNames()) if (!(key in headers)) response.removeHeader(key)
        for (const key in headers) response.setHeader(key, headers[key] as string)
      }
      this.release(response)
    }
    pending.then(resume, (error) => (response.headersSent ? resume() : this.fail(response, error)))
    return true
  }

  commit(name: 'write' | 'end' | 'flushHeaders'): Promise<void> | undefined {
    try {
      const pending = name === 'end' ? this.exchange.finish() : this.exchange.commit()
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
    Reflect.deleteProperty(response, 'writableEnded')
    for (const name of response.getHeaderNames()) if (BODY_HEADERS.test(name)) response.removeHeader(name)
    response.statusCode = 200
    response.statusMessage = ''
    if (isWhole && this.onError) {
      this.ended = false
      this.started = false
      this.remaining = Number.POSITIVE_INFINITY
      this.onError(error)
      return
    }
    const { status = 503, headers = {} } = error as { status?: number; headers?: Record<string, string> }
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
    if (this.ended) Reflect.deleteProperty(response, 'writableEnded')
    for (let i = 0; i < held.length; i++) {
      const [name, args] = held[i]!
      // The first call is the one that was committed for; the end after it may need a commit of its own.
      if (i > 0 && name === 'end' && this.mustWait(response, name, args)) {
        continue
      }
      if (this.held) (this.held as typeof held).push(held[i]!)
      else this[name].apply(response, args)
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
  hook.sync?.()
  const cookie = hook.exchange.head()
  if (cookie !== undefined) addCookie(this, args, cookie)
  return hook.writeHead.apply(this, args)
}

function write(this: Hooked, chunk: unknown, encoding?: BufferEncoding | Callback, callback?: Callback): boolean {
  const hook = this[HOOK]
  if (hook.discards) return true
  if (hook.ended) return hook.write.call(this, chunk, encoding, callback)
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
  if (!hook.started && hook.mustWait(this, 'flushHeaders', [])) return
  hook.flushHeaders.call(this)
}

function end(this: Hooked, ...args: Args): unknown {
  const hook = this[HOOK]
  if (hook.discards) return this
  if (hook.ended) return hook.held ? this : hook.end.apply(this, args)
  hook.ended = true
  if (!hook.mustWait(this, 'end', args)) return hook.end.apply(this, args)
  // Who asks whether there is an answer already, as Fastify does, is told what node would say: `end` was called.
  Object.defineProperty(this, 'writableEnded', ENDED)
  return this
}

/** The client is gone, or has everything. What the handler has changed until here is saved in either case. */
function close(this: Hooked): void {
  const hook = this[HOOK]
  hook.sync?.()
  hook.commit('end')?.catch(() => {})
}

/** Adds the cookie to those the app sets, whichever of writeHead's forms it uses. */
function addCookie(response: ServerResponse, args: Args, cookie: string): void {
  const headers = args[args.length - 1]
  if (Array.isArray(headers)) {
    if (Array.isArray(headers[0])) headers.push(['Set-Cookie', cookie])
    else headers.push('Set-Cookie', cookie)
    return
  }
  if (args.length > 1 && typeof headers === 'object' && headers !== null) {
    const name = Object.keys(headers).find((key) => key.toLowerCase() === 'set-cookie')
    if (name !== undefined) {
      args[args.length - 1] = { ...headers, [name]: [headers[name], cookie].flat() }
      return
    }
  }
  response.appendHeader('Set-Cookie', cookie)
}
