import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'koa'
import {
  createSessionManager,
  EXCHANGE,
  exchangeOf,
  facadeTarget,
  hookResponse,
  type SessionCallback,
  type SessionData,
  type SessionExchange,
  SessionManager,
  type SessionManagerOptions,
  type SessionMethods,
  sessionApi,
  settle,
  withoutSessionId,
} from '../../lib/index.ts'

export type { SessionData, SessionManagerOptions, SessionMethods } from '../../lib/index.ts'

/** What koa-session gives a session beside that. */
export interface KoaSessionMethods extends SessionMethods {
  /** Milliseconds the cookie, and with it the session, is kept; `'session'`: until the browser is closed. */
  get maxAge(): number | 'session'
  set maxAge(value: number | 'session' | null)
  /** When the cookie ends, in epoch milliseconds; undefined: with the browser. */
  readonly expire: number | undefined
  /** The id in the store. */
  readonly externalKey: string
  /** Number of attributes. */
  readonly length: number
  readonly populated: boolean
  /** Stores what has changed: for `autoCommit: false`, and for a handler that goes on streaming. */
  manuallyCommit(callback?: SessionCallback): Promise<void>
}

/** What a Koa app sees as `ctx.session`. Assign null to end the session, an object to replace its content. */
export type Session = KoaSessionMethods & Partial<SessionData> & { [name: string]: unknown }

declare module 'koa' {
  interface DefaultContext {
    get session(): Session
    set session(value: Session | { [name: string]: unknown } | null)
    /** With `lazy: true`: loads the session, which is `ctx.session` from then on. */
    loadSession(): Promise<Session>
    /** With `sessionTracking: ['url']`: the URL with the session id in its path, for clients without cookies. */
    encodeURL(url: string): string
  }
}

/** The part of Koa's context that is needed here. */
interface Context {
  req: IncomingMessage
  res: ServerResponse
  url: string
  originalUrl: string
  secure: boolean
  method: string
  headers: IncomingMessage['headers']
  socket: unknown
  loadSession?: unknown
  encodeURL?: (url: string) => string
  onerror(error: unknown): void
}

export interface SessionMiddleware {
  // biome-ignore lint/suspicious/noExplicitAny: fits the contexts of all Koa versions and their state types
  (context: any, next: () => Promise<any>): Promise<void>
  /** The manager behind it, for `stop()`, `statistics`, events, or another framework's middleware. */
  readonly manager: SessionManager
}

type Exchange = SessionExchange<Context>
const ENDED: unique symbol = Symbol('session ended')
const ENDING: unique symbol = Symbol('session being destroyed')
type OwnContext = Context & { [EXCHANGE]?: Exchange; [ENDED]?: boolean; [ENDING]?: Promise<void> }

const api = Object.create(
  sessionApi,
  Object.getOwnPropertyDescriptors({
    get maxAge(): number | 'session' {
      return exchangeOf(this).cookie.maxAge ?? 'session'
    },
    set maxAge(value: number | 'session' | null) {
      exchangeOf(this).cookie.maxAge = value === 'session' ? null : value
    },
    get expire(): number | undefined {
      return exchangeOf(this).cookie.expires?.getTime()
    },
    get externalKey(): string {
      return exchangeOf(this).sessionId
    },
    get length(): number {
      return Object.keys(this).length
    },
    get populated(): boolean {
      return Object.keys(this).length > 0
    },
    manuallyCommit(callback?: SessionCallback): Promise<void> {
      return settle(exchangeOf(this).release(), callback)
    },
  }),
) as object

const binding = {
  facadeTarget: facadeTarget(api),
  url: (context: Context): string => context.originalUrl,
  isSecure: (context: Context): boolean => context.secure,
}

/** `ctx.session`, put once on the context that all requests of an app inherit from. */
const property: PropertyDescriptor = {
  configurable: true,
  get(this: OwnContext): unknown {
    const exchange = this[EXCHANGE]
    if (!exchange) return undefined
    return this[ENDED] ? null : exchange.session
  },
  set(this: OwnContext, value: unknown): void {
    const exchange = this[EXCHANGE]
    if (!exchange) return
    if (value === null || value === undefined) {
      this[ENDED] = true
      this[ENDING] = end(exchange)
      // The middleware tells of it, once the handler is done; until then it is no unhandled rejection.
      this[ENDING].catch(() => {})
      return
    }
    if (typeof value !== 'object') throw new TypeError('ctx.session: must be an object, or null to end the session.')
    this[ENDED] = false
    if (value !== exchange.session) exchange.replaceWith(value)
  },
}

/**
 * Sessions for Koa 2 and 3.
 *
 * @example
 * app.use(session({ memcachedNodes: 'n1:10.0.0.1:11211,n2:10.0.0.2:11211', jvmRoute: 't1' }))
 * @param options the options of a manager of its own, or a manager to share
 * @throws TypeError for a wrong option
 */
export function session(options?: SessionManagerOptions | SessionManager): SessionMiddleware {
  const manager = options instanceof SessionManager ? options : createSessionManager(options)
  async function middleware(context: OwnContext, next: () => Promise<unknown>): Promise<void> {
    // A second middleware on the way: the first one has the session.
    if (context[EXCHANGE]) {
      await next()
      return
    }
    const began = manager.begin(context, binding)
    attach(began instanceof Promise ? await began : began, context)
    try {
      await next()
    } finally {
      await context[ENDING]
      // Koa does not always end the response of a client that is gone, and at its end the last changes are stored.
      if (context.res.closed && !context.res.writableEnded) context.res.end()
    }
  }
  return Object.defineProperty(middleware, 'manager', { value: manager }) as SessionMiddleware
}

function attach(exchange: Exchange, context: OwnContext): void {
  const shared = Object.getPrototypeOf(context)
  if (!Object.hasOwn(shared, 'session')) Object.defineProperty(shared, 'session', property)
  context[EXCHANGE] = exchange
  if (exchange.isUrlTracked) {
    context.url = withoutSessionId(context.url, exchange.cookieName)
    context.encodeURL = (url) => exchange.encodeUrl(url)
  }
  if (!exchange.isLoaded) context.loadSession = loadSession
  if (!exchange.isIgnored) hookResponse(context.res, exchange as never, undefined, (error) => context.onerror(error))
}

async function end(exchange: Exchange): Promise<void> {
  if (!exchange.isLoaded) await exchange.load()
  await exchange.destroy()
}

async function loadSession(this: OwnContext): Promise<unknown> {
  const exchange = this[EXCHANGE]!
  if (!exchange.isLoaded) await exchange.load()
  return exchange.session
}
