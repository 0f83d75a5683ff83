import type { IncomingMessage, ServerResponse } from 'node:http'
import type {} from 'koa'
import {
  createSessionManager,
  facadeTarget,
  hookResponse,
  type SessionData,
  type SessionExchange,
  SessionManager,
  type SessionManagerOptions,
} from '../../lib/index.ts'
import { exchangeOf, type SessionCallback, settle } from './session-api.ts'

export type { SessionData, SessionManagerOptions } from '../../lib/index.ts'

/** The methods and properties of `ctx.session`. */
export interface SessionMethods {
  /** The session id, with node id and route. */
  readonly id: string
  /** True until the client has sent the session's id back. */
  readonly isNew: boolean
  /** Ends this session and puts an empty one with a new id in its place: do this at login. */
  regenerate(callback?: SessionCallback): Promise<void>
  /** Ends this session, as `ctx.session = null` does, and waits for it. */
  destroy(callback?: SessionCallback): Promise<void>
  /** Takes the session as it is stored in place of what this request changed. */
  reload(callback?: SessionCallback): Promise<void>
  /** Stores the session now and waits for it. */
  save(callback?: SessionCallback): Promise<void>
  /** Counts as a use of the session; every request does. */
  touch(): this
  /**
   * With `lockingMode: 'app'`: waits until no other request of this session has the lock, and takes it; what others have
   * stored meanwhile is in the session then. Released by `unlock`, `commit`, or the end of the response.
   */
  lock(callback?: SessionCallback): Promise<void>
  /** Stores what has changed and releases the lock. */
  unlock(callback?: SessionCallback): Promise<void>
  /** Stores what has changed and releases the lock: for a handler that goes on streaming. */
  commit(callback?: SessionCallback): Promise<void>
}

/** What a Koa app sees as `ctx.session`. Assign null to end the session, an object to replace its content. */
export type Session = SessionMethods & Partial<SessionData> & { [name: string]: unknown }

declare module 'koa' {
  interface DefaultContext {
    get session(): Session
    set session(value: Session | { [name: string]: unknown } | null)
    /** With `lazy: true`: loads the session, which is `ctx.session` from then on. */
    loadSession(): Promise<Session>
  }
}

/** The part of Koa's context that is needed here. */
interface Context {
  req: IncomingMessage
  res: ServerResponse
  originalUrl: string
  secure: boolean
  method: string
  headers: IncomingMessage['headers']
  loadSession?: unknown
  onerror(error: unknown): void
}

export interface SessionMiddleware {
  // biome-ignore lint/suspicious/noExplicitAny: fits the contexts of all Koa versions and their state types
  (context: any, next: () => Promise<any>): Promise<void>
  /** The manager behind it, for `stop()`, `statistics`, events, or another framework's middleware. */
  readonly manager: SessionManager
}

type Exchange = SessionExchange<Context>
const EXCHANGE: unique symbol = Symbol('session exchange')
const ENDING: unique symbol = Symbol('session being destroyed')
type OwnContext = Context & { [EXCHANGE]?: Exchange | undefined; [ENDING]?: Promise<void> | undefined }

const api = {
  get id(): string {
    return exchangeOf(this).sessionId
  },
  get isNew(): boolean {
    return exchangeOf(this).isNew
  },
  regenerate(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).regenerate(), callback)
  },
  destroy(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).destroy(), callback)
  },
  reload(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).reload(), callback)
  },
  save(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).save(), callback)
  },
  touch(): unknown {
    return this
  },
  lock(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).acquireLock(), callback)
  },
  unlock(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).release(), callback)
  },
  commit(callback?: SessionCallback): Promise<void> {
    return settle(exchangeOf(this).release(), callback)
  },
}

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
    return this[ENDING] ? null : exchange.session
  },
  set(this: OwnContext, value: unknown): void {
    const exchange = this[EXCHANGE]
    if (!exchange) return
    if (value === null || value === undefined) {
      this[ENDING] = exchange.destroy()
      return
    }
    if (typeof value !== 'object') throw new TypeError('ctx.session: must be an object, or null to end the session.')
    this[ENDING] = undefined
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
    if (context[EXCHANGE]) {
      await next()
      return
    }
    const shared = Object.getPrototypeOf(context)
    if (!Object.hasOwn(shared, 'session')) Object.defineProperty(shared, 'session', property)
    const exchange = await manager.begin(context, binding)
    context[EXCHANGE] = exchange
    if (!exchange.isLoaded) context.loadSession = loadSession
    if (!exchange.isIgnored) hookResponse(context.res, exchange as never, undefined, (error) => context.onerror(error))
    try {
      await next()
    } finally {
      await context[ENDING]
    }
  }
  return Object.defineProperty(middleware, 'manager', { value: manager }) as SessionMiddleware
}

async function loadSession(this: OwnContext): Promise<unknown> {
  const exchange = this[EXCHANGE]!
  if (!exchange.isLoaded) await exchange.load()
  return exchange.session
}
