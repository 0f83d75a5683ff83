import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest, RegisterOptions } from 'fastify'
import {
  BODY_HEADERS,
  type SessionMethods as CommonMethods,
  createSessionManager,
  EXCHANGE,
  exchangeOf,
  facadeTarget,
  hookResponse,
  type RegenerateOptions,
  type SessionCallback,
  type SessionData,
  type SessionExchange,
  SessionManager,
  SessionManagerError,
  type SessionManagerOptions,
  sessionApi,
  settle,
} from '../../lib/index.ts'

export { type SessionData, type SessionManagerOptions, withoutSessionId } from '../../lib/index.ts'

/** The methods and properties of `request.session`: those of every framework, and what Fastify's plugins call. */
export interface SessionMethods extends CommonMethods {
  /** The session id under the name that \@fastify/session gives it. */
  readonly sessionId: string
  /** The attribute, or undefined. The same as reading the property. */
  get<K extends keyof SessionData>(name: K): SessionData[K] | undefined
  get(name: string): unknown
  /** Sets the attribute, or removes it if `value` is undefined. */
  set<K extends keyof SessionData>(name: K, value: SessionData[K] | undefined): void
  set(name: string, value: unknown): void
  regenerate(callback?: SessionCallback): Promise<void>
  regenerate(options: RegenerateOptions, callback?: SessionCallback): Promise<void>
  /** As \@fastify/session has it: the new session is empty but for the attributes named in `keep`. */
  regenerate(keep: readonly string[], callback?: SessionCallback): Promise<void>
}

/** What a Fastify app sees as `request.session`. */
export type Session = SessionMethods & Partial<SessionData> & { [name: string]: unknown }

/** The options of a manager that the plugin makes, starts and stops, or a manager to share. */
export type SessionPluginOptions = (SessionManagerOptions & { readonly manager?: never }) | { manager: SessionManager }

declare module 'fastify' {
  interface FastifyInstance {
    /** The manager behind `request.session`, for `statistics`, events, or another framework's middleware. */
    sessionManager: SessionManager
  }
  interface FastifyRequest {
    /** Null after `destroy()`, and in a request that `requestUriIgnorePattern` takes out. */
    session: Session
    /** With `lazy: true`: loads the session, which is `request.session` from then on. */
    loadSession(): Promise<Session>
  }
  interface FastifyReply {
    /**
     * With `sessionTracking: ['url']`: the URL with the session id in its path, for clients without cookies. So that
     * routes match it, make the app with `rewriteUrl: (request) => withoutSessionId(request.url ?? '/', 'JSESSIONID')`.
     */
    encodeURL(url: string): string
  }
}

type Exchange = SessionExchange<FastifyRequest>

type OwnRequest = FastifyRequest & { [EXCHANGE]: Exchange | null }
type Bag = Record<string, unknown>

const api = {
  get sessionId(): string {
    return exchangeOf(this).sessionId
  },
  get(name: string): unknown {
    return (this as unknown as Bag)[name]
  },
  set(name: string, value: unknown): void {
    const bag = this as unknown as Bag
    if (value === undefined) delete bag[name]
    else bag[name] = value
  },
  regenerate(options?: RegenerateOptions | readonly string[] | SessionCallback, done?: SessionCallback): Promise<void> {
    const exchange = exchangeOf(this)
    if (typeof options === 'function') return settle(exchange.regenerate(), options)
    return settle(isNames(options) ? regenerateKeeping(exchange, options) : exchange.regenerate(options), done)
  },
}
Object.setPrototypeOf(api, sessionApi)

function isNames(value: unknown): value is readonly string[] {
  return Array.isArray(value)
}

async function regenerateKeeping(exchange: SessionExchange, names: readonly string[]): Promise<void> {
  const before = exchange.session as Bag
  const kept = names.filter((name) => Object.hasOwn(before, name)).map((name) => [name, before[name]] as const)
  await exchange.regenerate()
  const after = exchange.session as Bag
  for (const [name, value] of kept) after[name] = value
}

const binding = {
  facadeTarget: facadeTarget(api),
  url: (request: FastifyRequest): string => request.originalUrl,
  // With `trustProxy` it is what the proxy says.
  isSecure: (request: FastifyRequest): boolean => request.protocol === 'https',
}

const property = {
  getter(this: FastifyRequest): Session {
    return ((this as OwnRequest)[EXCHANGE]?.session ?? null) as Session
  },
  setter(this: FastifyRequest, value: unknown): void {
    const exchange = (this as OwnRequest)[EXCHANGE]
    if (typeof value !== 'object' || value === null) {
      throw new TypeError('request.session: must be an object; request.session.destroy() ends the session.')
    }
    if (!exchange) {
      throw new SessionManagerError('ERR_MSM_STATE', 'request.session: there is none yet; register the plugin earlier.')
    }
    if (!exchange.isIgnored && value !== exchange.session) exchange.replaceWith(value)
  },
}

async function loadSession(this: FastifyRequest): Promise<Session> {
  const exchange = (this as OwnRequest)[EXCHANGE]
  if (exchange && !exchange.isLoaded) await exchange.load()
  return this.session
}

function encodeURL(this: FastifyReply, url: string): string {
  return (this.request as OwnRequest)[EXCHANGE]?.encodeUrl(url) ?? url
}

async function plugin(app: FastifyInstance, options: SessionPluginOptions & RegisterOptions): Promise<void> {
  if (app.hasRequestDecorator('session')) {
    throw new SessionManagerError(
      'ERR_MSM_STATE',
      'There is a request.session already: sessions are registered twice, or beside another session plugin.',
    )
  }
  const manager = managerFor(app, options)
  app.decorate('sessionManager', manager)
  // Declared, so that all requests have one shape.
  app.decorateRequest(EXCHANGE, null)
  app.decorateRequest('session', property)
  app.decorateRequest('loadSession', loadSession)
  app.decorateReply('encodeURL', encodeURL)
  // Callback style: a request whose session is in this process does not wait for a tick.
  app.addHook('onRequest', (request, reply, done) => {
    const began = manager.begin(request, binding)
    if (began instanceof Promise) {
      began.then((exchange) => attach(exchange, reply)).then(() => done(), done)
      return
    }
    attach(began, reply)
    done()
  })
  app.addHook('onReady', () => manager.start())
  // Fastify calls it once no request is under way any more.
  if (options.manager === undefined) app.addHook('onClose', () => manager.stop())
}

function managerFor(app: FastifyInstance, options: SessionPluginOptions & RegisterOptions): SessionManager {
  const { manager, prefix: _prefix, logLevel: _level, logSerializers: _serializers, ...own } = options
  if (manager === undefined) return createSessionManager({ logger: app.log, ...own })
  if (!(manager instanceof SessionManager)) {
    throw new TypeError('manager is not valid. It must be a SessionManager, as createSessionManager returns it.')
  }
  const [other] = Object.keys(own)
  if (other !== undefined) throw new TypeError(`${other} is not valid beside manager, which has its own options.`)
  return manager
}

function attach(exchange: Exchange, reply: FastifyReply): void {
  ;(exchange.request as OwnRequest)[EXCHANGE] = exchange
  if (exchange.isIgnored) return
  hookResponse(reply.raw, exchange as never, undefined, (error) => answerWith(error, reply))
}

/** The session could not be stored: Fastify's error handling answers, in place of what was to be sent. */
function answerWith(error: unknown, reply: FastifyReply): void {
  for (const name of Object.keys(reply.getHeaders())) if (BODY_HEADERS.test(name)) reply.removeHeader(name)
  reply.send(error)
}

/**
 * Sessions for Fastify 5, in the context that registers it and those below.
 *
 * @example
 * await app.register(session, { memcachedNodes: 'n1:10.0.0.1:11211,n2:10.0.0.2:11211', jvmRoute: 't1' })
 * @throws TypeError for a wrong option, from `register` or `ready`
 */
export const session: FastifyPluginAsync<SessionPluginOptions> = Object.assign(plugin, {
  // As Fastify documents it for a plugin whose decorators and hooks are meant for the context that registers it.
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'memcached-session-manager',
  [Symbol.for('plugin-meta')]: { name: 'memcached-session-manager', fastify: '5.x' },
})
