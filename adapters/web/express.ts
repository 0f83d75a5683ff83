import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  createSessionManager,
  facadeTarget,
  hookResponse,
  type SessionData,
  type SessionExchange,
  SessionManager,
  type SessionManagerOptions,
  type SessionMethods,
  sessionApi,
  withoutSessionId,
} from '../../lib/index.ts'

export type { SessionData, SessionManagerOptions, SessionMethods } from '../../lib/index.ts'

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
    interface Response {
      /** With `sessionTracking: ['url']`: the URL with the session id in its path, for clients without cookies. */
      encodeURL(url: string): string
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
type Response = ServerResponse & { encodeURL?: (url: string) => string }
type Exchange = SessionExchange<Request>
type Next = (error?: unknown) => void

export interface SessionMiddleware {
  (request: IncomingMessage, response: ServerResponse, next: Next): void
  /** The manager behind it, for `stop()`, `statistics`, events, or another framework's middleware. */
  readonly manager: SessionManager
}

const binding = {
  facadeTarget: facadeTarget(sessionApi),
  url: (request: Request): string => request.originalUrl ?? request.url ?? '/',
  isSecure: (request: Request): boolean =>
    request.secure === true || (request.socket as { encrypted?: boolean }).encrypted === true,
  show({ request, session, current }: Exchange): void {
    request.session = session
    Object.defineProperty(request, 'sessionID', current ? property(current.id) : lazySessionId)
  },
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
  function middleware(request: Request, response: Response, next: Next): void {
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

function attach(exchange: Exchange, request: Request, response: Response, next: Next): void {
  request[EXCHANGE] = exchange
  if (exchange.isUrlTracked) {
    request.url = withoutSessionId(request.url ?? '/', exchange.cookieName)
    response.encodeURL = (url) => exchange.encodeUrl(url)
  }
  if (!exchange.isLoaded) request.loadSession = loadSession
  else if (exchange.facade) show(exchange, request)
  if (exchange.isIgnored) return
  // A WebSocket's upgrade has no response that could be held, or tell a cookie.
  if (typeof response.on !== 'function') exchange.detach()
  else hookResponse(response, exchange as never, sync as never, next)
}

function show(exchange: Exchange, request: Request): void {
  const { facade } = exchange
  request.session = facade?.proxy
  // Of a new session the id is made when it is asked for: most requests without a session never get one.
  if (facade?.session) request.sessionID = facade.session.id
  else Object.defineProperty(request, 'sessionID', lazySessionId)
}

async function loadSession(this: Request): Promise<unknown> {
  const exchange = this[EXCHANGE]!
  if (!exchange.isLoaded) {
    await exchange.load()
    if (exchange.facade) show(exchange, this)
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
    Object.defineProperty(this, 'sessionID', property(value))
  },
}

function property(value: string): PropertyDescriptor {
  return { value, writable: true, configurable: true, enumerable: true }
}

/** Notices that the app assigned something else to `req.session`. */
function sync(exchange: Exchange): void {
  if (!exchange.isLoaded) return
  const { session: assigned } = exchange.request
  if (assigned === exchange.session) return
  if (assigned === undefined || assigned === null) exchange.unset()
  else if (typeof assigned === 'object') {
    exchange.replaceWith(assigned)
    binding.show(exchange)
  }
}
