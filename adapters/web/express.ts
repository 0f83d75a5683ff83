import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  createSessionManager,
  EXCHANGE,
  facadeTarget,
  frameworkPrototype,
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

/** The managers whose middleware an app uses, on the prototype of its requests. */
const MANAGERS: unique symbol = Symbol('session managers')

/** A request of Express, or of any connect-style server. */
type Request = IncomingMessage & {
  originalUrl?: string
  secure?: boolean
  [EXCHANGE]?: Exchange
  [MANAGERS]?: SessionManager[]
}
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
  show(exchange: Exchange): void {
    exchange.shown = exchange.session
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
  /** An app that ends sessions by `delete req.session` can only do so if that is a property of the request itself. */
  const isOwn = manager.options.unset === 'destroy'
  /** The app whose prototypes were prepared last, which is nearly always that of the next request, too. */
  let prepared: object | undefined
  function middleware(request: Request, response: ServerResponse, next: Next): void {
    const isIgnored = manager.ignores(request, binding)
    const ofApp = Object.getPrototypeOf(request)
    if (ofApp !== prepared && prepare(request, response, manager)) prepared = ofApp
    // The session of a request that is ignored is looked for when the app asks for it. And a second middleware on the way, a
    // router's own perhaps, finds that the first one has the session.
    if ((isIgnored && ofApp === prepared) || request[EXCHANGE]) {
      next()
      return
    }
    const began = manager.begin(request, binding, isIgnored)
    if (began instanceof Promise) {
      began.then((exchange) => attach(exchange, response, next, isOwn)).then(() => next(), next)
      return
    }
    attach(began, response, next, isOwn)
    next()
  }
  return Object.defineProperty(middleware, 'manager', { value: manager }) as SessionMiddleware
}

function attach(exchange: Exchange, response: ServerResponse, next: Next, isOwn: boolean): void {
  const { request } = exchange
  request[EXCHANGE] = exchange
  exchange.shown = exchange.session
  if (isOwn) Object.defineProperty(request, 'session', requestProperties.session!)
  if (exchange.isUrlTracked) request.url = withoutSessionId(request.url ?? '/', exchange.cookieName)
  if (exchange.isIgnored) return
  // A WebSocket's upgrade has no response that could be held, or tell a cookie.
  if (typeof response.on !== 'function') exchange.detach()
  else hookResponse(response, exchange as never, (isOwn ? syncOwn : sync) as never, next)
}

/**
 * Gives request and response what an app sees of its session: by the prototypes of all requests and responses of
 * Express, once, else by themselves.
 * @returns true if the former
 */
function prepare(request: Request, response: ServerResponse, manager: SessionManager): boolean {
  const requests = frameworkPrototype(request, '_read')
  const responses = frameworkPrototype(response, 'assignSocket')
  if (!requests || !responses) {
    if (Object.hasOwn(request, EXCHANGE)) return false
    Object.defineProperties(request, requestProperties)
    Object.defineProperties(response, responseProperties)
    return false
  }
  if (!Object.hasOwn(requests, EXCHANGE)) Object.defineProperties(requests, requestProperties)
  if (!Object.hasOwn(responses, 'encodeURL')) Object.defineProperties(responses, responseProperties)
  const ofApp: Request = Object.getPrototypeOf(request)
  if (!Object.hasOwn(ofApp, MANAGERS)) ofApp[MANAGERS] = [manager]
  else if (!ofApp[MANAGERS]!.includes(manager)) ofApp[MANAGERS]!.push(manager)
  return true
}

/** The exchange of a request, made now for one that a manager of its app ignores. */
function exchangeOf(request: Request): Exchange | undefined {
  const exchange = request[EXCHANGE]
  if (exchange) return exchange
  for (const manager of request[MANAGERS] ?? []) {
    if (!manager.ignores(request, binding)) continue
    const began = manager.begin(request, binding, true)
    if (began instanceof Promise) continue
    began.shown = began.session
    request[EXCHANGE] = began
    return began
  }
  return undefined
}

const requestProperties: PropertyDescriptorMap = {
  // Found there, most requests are spared a search through all of node's prototypes.
  [EXCHANGE]: dataProperty(undefined),
  session: {
    configurable: true,
    get(this: Request): unknown {
      return exchangeOf(this)?.shown
    },
    set(this: Request, value: unknown): void {
      const exchange = exchangeOf(this)
      if (exchange) exchange.shown = value
      else Object.defineProperty(this, 'session', dataProperty(value))
    },
  },
  sessionID: {
    configurable: true,
    get(this: Request): string | undefined {
      const exchange = exchangeOf(this)
      // Of a new session the id is made when it is asked for: most requests without a session never get one.
      return exchange && ((exchange.shown as { id?: string } | null | undefined)?.id ?? '')
    },
    set(this: Request, value: string): void {
      Object.defineProperty(this, 'sessionID', dataProperty(value))
    },
  },
  loadSession: {
    configurable: true,
    writable: true,
    async value(this: Request): Promise<unknown> {
      const exchange = exchangeOf(this)
      if (exchange && !exchange.isLoaded) {
        await exchange.load()
        exchange.shown = exchange.session
      }
      return exchange?.shown
    },
  },
}

const responseProperties: PropertyDescriptorMap = {
  encodeURL: {
    configurable: true,
    writable: true,
    value(this: ServerResponse, url: string): string {
      return exchangeOf(this.req)?.encodeUrl(url) ?? url
    },
  },
}

function dataProperty(value: unknown): PropertyDescriptor {
  return { value, writable: true, configurable: true, enumerable: true }
}

/** Notices that the app assigned something else to `req.session`. */
function sync(exchange: Exchange): void {
  if (!exchange.isLoaded) return
  const { shown } = exchange
  if (shown === exchange.session) return
  if (shown === undefined || shown === null) exchange.unset()
  else if (typeof shown === 'object') {
    exchange.replaceWith(shown)
    exchange.shown = exchange.session
  }
}

/** Notices that the app deleted `req.session`, too. */
function syncOwn(exchange: Exchange): void {
  if (!Object.hasOwn(exchange.request, 'session')) exchange.shown = undefined
  sync(exchange)
}
