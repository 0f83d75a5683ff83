import type { ServerResponse } from 'node:http'
import type { SessionExchange } from '../session/session-exchange.ts'
import { frameworkPrototype } from './framework-prototype.ts'
import { type Args, type Callback, type NativeResponse, ResponseHook } from './response-hook.ts'

/** Where a request keeps its exchange. */
export const EXCHANGE: unique symbol = Symbol('session exchange')
const HOOK: unique symbol = Symbol('session response hook')
type Hooked = ServerResponse & { [HOOK]?: ResponseHook | undefined }
type HookOf = (response: ServerResponse) => ResponseHook | undefined
const NAMES = ['writeHead', 'write', 'end', 'flushHeaders'] as const
/** Milliseconds in which a request that began before the prototype of its response was extended has come here. */
const TRANSITION = 60_000

/**
 * Ties an exchange to node's response, whatever writes it (`res.json`, a redirect, a stream, `sendFile`, an error
 * page): the cookie is set before the head is sent, and no first and no last byte leaves before the session is stored,
 * as far as it has to be.
 *
 * If the session can't be stored and that is to be an error, the answer that is held gives way to the framework's error
 * handling (`onError`), or to a plain one.
 *
 * A framework that gives its responses a prototype of its own, as Express does, has it extended, once; else the functions
 * are put on the response. The former is for speed: V8 makes a hidden class for each property of each object whose
 * prototype was changed, which costs more than all else of a session that is in memory.
 */
export function hookResponse(
  response: ServerResponse,
  exchange: SessionExchange,
  sync?: (exchange: SessionExchange) => void,
  onError?: (error: unknown) => void,
): void {
  const prototype = exchangeOfRequest(response) === exchange ? extendedPrototype(response) : undefined
  let hook: ResponseHook
  if (prototype) {
    hook = new ResponseHook(response, prototype, exchange, sync, onError)
    exchange.responseHook = hook
  } else {
    const { writeHead, write, end, flushHeaders } = response
    const native = { writeHead, write, end, flushHeaders, showsHeld } as NativeResponse
    hook = new ResponseHook(response, native, exchange, sync, onError)
    ;(response as Hooked)[HOOK] = hook
    response.writeHead = own.writeHead as never
    response.write = own.write as never
    response.end = own.end as never
    response.flushHeaders = own.flushHeaders
  }
  const close = (): void => hook.close()
  response.on('close', close)
  // Its client is gone already, and nobody will tell again.
  if (response.closed) close()
}

function exchangeOfRequest(response: ServerResponse): SessionExchange | undefined {
  return (response.req as { [EXCHANGE]?: SessionExchange } | undefined)?.[EXCHANGE]
}

interface ExtendedPrototype extends NativeResponse {
  /** When it was extended, in milliseconds of the monotonic clock. */
  readonly since: number
}

/** By the prototype that was extended, and by those that inherit from it, of the apps. */
const extended = new WeakMap<object, ExtendedPrototype>()

/** The framework's prototype of this response, extended now if need be; undefined if it is not to be used. */
function extendedPrototype(response: ServerResponse): ExtendedPrototype | undefined {
  const ofApp = Object.getPrototypeOf(response)
  let found = extended.get(ofApp)
  if (!found) {
    const prototype = frameworkPrototype(response, 'assignSocket')
    if (!prototype) return undefined
    found = extended.get(prototype) ?? extend(prototype)
    extended.set(ofApp, found)
  }
  // A middleware before this one has put a function on the response, which may call the one of before.
  return isWrapped(response) && performance.now() - found.since < TRANSITION ? undefined : found
}

function isWrapped(response: ServerResponse): boolean {
  return NAMES.some((name) => Object.hasOwn(response, name))
}

function extend(prototype: object): ExtendedPrototype {
  const node: ServerResponse = Object.getPrototypeOf(prototype)
  const hookOf: HookOf = (response) => {
    const hook = exchangeOfRequest(response)?.responseHook
    return hook?.isOf(response) ? hook : undefined
  }
  // Looked up with each call: whoever replaces node's own functions later is to be heard.
  const native: ExtendedPrototype = {
    since: performance.now(),
    writeHead(...args: Args) {
      return node.writeHead.apply(this, args as [number])
    },
    write(...args: Args) {
      return node.write.apply(this, args as [string, BufferEncoding])
    },
    end(...args: Args) {
      return node.end.apply(this, args as [string, BufferEncoding])
    },
    flushHeaders() {
      node.flushHeaders.call(this)
    },
  }
  const functions = functionsFor(hookOf, native)
  for (const name of NAMES) {
    Object.defineProperty(prototype, name, { value: functions[name], writable: true, configurable: true })
  }
  Object.defineProperties(
    prototype,
    propertiesFor(hookOf, () => node),
  )
  extended.set(prototype, native)
  return native
}

function functionsFor(hookOf: HookOf, native?: NativeResponse) {
  return {
    writeHead(this: ServerResponse, ...args: Args): unknown {
      const hook = hookOf(this)
      return hook ? hook.writeHead(args) : native!.writeHead.apply(this, args)
    },
    write(this: ServerResponse, chunk: unknown, encoding?: BufferEncoding | Callback, callback?: Callback): boolean {
      const hook = hookOf(this)
      return hook ? hook.write(chunk, encoding, callback) : native!.write.call(this, chunk, encoding, callback)
    },
    end(this: ServerResponse, ...args: Args): unknown {
      const hook = hookOf(this)
      return hook ? hook.end(args) : native!.end.apply(this, args)
    },
    flushHeaders(this: ServerResponse): void {
      const hook = hookOf(this)
      if (hook) hook.flushHeaders()
      else native!.flushHeaders.call(this)
    },
  }
}

/** What a response says of itself while an answer is held: what it would say had it been sent. */
function propertiesFor(
  hookOf: HookOf,
  parentOf: (response: ServerResponse) => object,
): Record<'headersSent' | 'writableEnded', PropertyDescriptor> {
  return {
    headersSent: {
      configurable: true,
      get(this: ServerResponse): boolean {
        return hookOf(this)?.keepsHead === true || Reflect.get(parentOf(this), 'headersSent', this)
      },
    },
    writableEnded: {
      configurable: true,
      get(this: ServerResponse): boolean {
        return hookOf(this)?.holdsEnd === true || Reflect.get(parentOf(this), 'writableEnded', this)
      },
    },
  }
}

const ownHook: HookOf = (response) => (response as Hooked)[HOOK]
const own = functionsFor(ownHook)
const ownProperties = propertiesFor(ownHook, (response) => Object.getPrototypeOf(response))

function showsHeld(this: ServerResponse, name: 'headersSent' | 'writableEnded'): void {
  if (!Object.hasOwn(this, name)) Object.defineProperty(this, name, ownProperties[name]!)
}
