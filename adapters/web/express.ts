import type { IncomingMessage, ServerResponse } from 'node:http'
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

/** The methods and properties of `req.session`, as express-session documents them. */
export interface SessionMethods {
  /** The session id, with node id and route. */
  readonly id: string
  /** True until the client has sent the session's id back. */
  readonly isNew: boolean
  /** Ends this session and puts an empty one with a new id in its place: do this at login. */
  regenerate(callback?: SessionCallback): Promise<void>
  /** Ends this session, here and in the store. `req.session` is undefined afterwards. */
  destroy(callback?: SessionCallback): Promise<void>
  /** Takes the session as it is stored in place of what this request changed. */
  reload(callback?: SessionCallback): Promise<void>
  /** Stores the session now and waits for it. Only needed before work that must find it stored. */
  save(callback?: SessionCallback): Promise<void>
  /** Counts as a use of the session; every request does. Here for express-session's sake. */
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

/** What an Express app sees as `req.session`. */
export type Session = SessionMethods & Partial<SessionData> & { [name: string]: unknown }

declare global {
  namespace Express {
    interface Request {
      session: Session
      sessionID: string
      /** With `lazy: true`: loads the session, which is `req.session` from then on. */
      loadSession(): Promise<Session>
    }
  }
}

const EXCHANGE: unique symbol = Symbol('session exchange')

/** A request of Express, or of any connect-style server. */
type Request = IncomingMessage & {
  originalUrl?: string
  secure?: boolean
  session?: unknown
  sessionID?: string
  loadSession?: unknown
  [EXCHANGE]?: Exchange
}

type Next = (error?: unknown) => void

export interface SessionMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  /** The manager behind it, for `stop()`, `statistics`, events, or another framework's middleware. */
  readonly manager: SessionManager
}

type Exchange = SessionExchange<Request>

/** Shows the exchange's session as `req.session`, as after `regenerate` or `destroy`. */
function expose(exchange: Exchange): void {
  const { request } = exchange
  request.session = exchange.session
  request.sessionID = exchange.current?.id ?? ''
}

const api = {
  get id(): string {
    return exchangeOf(this).sessionId
  },
  get isNew(): boolean {
    return exchangeOf(this).isNew
  },
  regenerate(callback?: SessionCallback): Promise<void> {
    const exchange = exchangeOf(this) as Exchange
    const done = exchange.regenerate().then(() => expose(exchange))
    return settle(done, callback)
  },
  destroy(callback?: SessionCallback): Promise<void> {
    const exchange = exchangeOf(this) as Exchange
    const done = exchange.destroy().then(() => expose(exchange))
    return settle(done, callback)
  },
  reload(callback?: SessionCallback): Promise<void> {
    const exchange = exchangeOf(this) as Exchange
    const done = exchange.reload().then(() => expose(exchange))
    return settle(done, callback)
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
  url: (request: Request): string => request.originalUrl ?? request.url ?? '/',
  isSecure: (request: Request): boolean =>
    request.secure === true || (request.socket as { encrypted?: boolean }).encrypted === true,
}

/**
 * Sessions for Express 4 and 5, and any connect-style server.
 *
 * @example
 * app.use(session({ memcachedNodes: 'n1:10.0.0.1:11211,n2:10.0.0.2:11211', jvmRoute: 't1' }))
 * @param options the options of a manager of its own, or a manager to share
 * @throws TypeError for a wrong option
 */
export function session(options?: SessionManagerOptions | SessionManager): SessionMiddleware {
  const manager = options instanceof SessionManager ? options : createSessionManager(options)
  function middleware(request: Request, response: ServerResponse, next: Next): void {
    // A second middleware on the way, a router's own perhaps: the first one has the session.
    if (request[EXCHANGE]) {
      next()
      return
    }
    const began = manager.begin(request, binding)
    if (began instanceof Promise) {
      began.then((exchange) => attach(exchange, request, response, next)).then(() => next(), next)
      return
    }
    attach(began, request, response, next)
    next()
  }
  return Object.defineProperty(middleware, 'manager', { value: manager }) as SessionMiddleware
}

function attach(exchange: Exchange, request: Request, response: ServerResponse, next: Next): void {
  Object.defineProperty(request, EXCHANGE, { value: exchange })
  if (exchange.isLoaded) show(exchange, request)
  else request.loadSession = loadSession
  if (!exchange.isIgnored) hookResponse(response, exchange as never, () => sync(exchange), next)
}

function show(exchange: Exchange, request: Request): void {
  const { facade } = exchange
  if (!facade) return
  request.session = facade.proxy
  // Of a new session the id is made when it is asked for: most requests without a session never get one.
  if (facade.session) request.sessionID = facade.session.id
  else Object.defineProperty(request, 'sessionID', lazySessionId)
}

async function loadSession(this: Request): Promise<unknown> {
  const exchange = this[EXCHANGE]!
  if (!exchange.isLoaded) {
    await exchange.load()
    show(exchange, this)
  }
  return this.session
}

const lazySessionId: PropertyDescriptor = {
  configurable: true,
  get(this: Request): string {
    const bag = this.session as { id?: string } | undefined
    return bag?.id ?? ''
  },
  set(this: Request, value: string): void {
    Object.defineProperty(this, 'sessionID', { value, writable: true, configurable: true, enumerable: true })
  },
}

/** Notices that the app assigned something else to `req.session`. */
function sync(exchange: Exchange): void {
  const { session: assigned } = exchange.request
  if (assigned === exchange.session || assigned === undefined || assigned === null) return
  if (typeof assigned === 'object') {
    exchange.replaceWith(assigned)
    expose(exchange)
  }
}
