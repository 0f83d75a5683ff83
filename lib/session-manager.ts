import { SessionManagerError } from './errors.ts'
import { EventHub, type SessionManagerEventName, type SessionManagerListener } from './events.ts'
import { type Health, healthOf } from './health.ts'
import { presentedId } from './http/session-tracking.ts'
import { matchesUriPattern } from './http/uri-pattern.ts'
import { hashSessionId } from './ids/id-hash.ts'
import { extractBase, SessionIdFormat, type SessionIdParts } from './ids/session-id-format.ts'
import { StorageKeyFormat } from './ids/storage-key-format.ts'
import { isPromise, type MaybePromise } from './maybe-promise.ts'
import { NonStickyMode } from './modes/non-sticky/non-sticky-mode.ts'
import type { SessionMode } from './modes/session-mode.ts'
import { StickyMode } from './modes/sticky/sticky-mode.ts'
import { NodeSelector } from './nodes/node-selector.ts'
import { type ResolvedOptions, resolveOptions, type SessionManagerOptions } from './options.ts'
import type { CookieCodec, SessionTranscoder, StorageClientFactory, StorageClientOptions } from './ports.ts'
import { PrincipalIndex, type PrincipalSession } from './principals/principal-index.ts'
import { RequestsUnderWay } from './requests-under-way.ts'
import { AttributeCodec } from './session/attribute-codec.ts'
import { AttributeSealing } from './session/attribute-sealing.ts'
import { DETACHED, type DetachedRequest, type DetachedSession, openDetached } from './session/detached-session.ts'
import { SessionExchange, type SessionRequest, type WebBinding } from './session/session-exchange.ts'
import type { SessionContext } from './session-context.ts'
import { startBlock } from './start-block.ts'
import { Statistics, type StatisticsSnapshot } from './statistics.ts'
import { type NodeState, StorageNodes } from './storage/storage-nodes.ts'
import { within } from './within.ts'

/** Milliseconds `stop()` gives to backups under way. */
const STOP_LIMIT = 10_000
/** Milliseconds a change between sticky and non-sticky mode waits for requests under way. */
const MODE_CHANGE_LIMIT = 5_000

/** The adapters a manager works with; `lib/index.ts` wires the defaults. */
export interface SessionManagerAdapters {
  readonly createClient: StorageClientFactory
  /** The first one writes, all of them read. */
  readonly transcoders: readonly [SessionTranscoder, ...SessionTranscoder[]]
  readonly cookies: CookieCodec
}

/** What `reconfigure` can change while requests are served. */
const RECONFIGURABLE = [
  'memcachedNodes',
  'failoverNodes',
  'sticky',
  'lockingMode',
  'lockExpiration',
  'operationTimeout',
  'enabled',
  'maxInactiveInterval',
  'sessionBackupAsync',
] as const
export type ReconfigurableOptions = Pick<SessionManagerOptions, (typeof RECONFIGURABLE)[number]>

/** Manages the sessions of one process. Made by `createSessionManager`. */
export class SessionManager {
  readonly #context: SessionContext
  readonly #statistics: Statistics
  readonly #transcoderName: string
  #mode: SessionMode
  #started: Promise<void> | undefined
  #isDraining = false
  readonly #onSignal = (): void => void this.#drain()
  #state: 'new' | 'starting' | 'started' | 'stopped' = 'new'
  /** While the configuration changes, new requests wait for it. */
  #changing: Promise<void> | undefined

  constructor(options: ResolvedOptions, adapters: SessionManagerAdapters) {
    const { logger } = options
    const events = new EventHub(logger)
    const statistics = new Statistics(options.enableStatistics)
    const nodes = new StorageNodes(options.nodes, adapters.createClient, clientOptionsOf(options), events, statistics)
    this.#statistics = statistics
    this.#transcoderName = adapters.transcoders[0].name
    const context: Omit<SessionContext, 'principals'> = {
      options,
      logger,
      events,
      statistics,
      ids: idFormatOf(options),
      keys: new StorageKeyFormat(options.keyPrefix),
      nodes,
      selector: new NodeSelector(options.nodes, (id) => nodes.isAvailable(id)),
      attributes: new AttributeCodec(
        adapters.transcoders,
        new AttributeSealing(options.compression, options.encryption),
        options.attributeFilter,
        statistics,
        logger,
      ),
      cookies: adapters.cookies,
      requests: new RequestsUnderWay(),
      warned: { droppedCookie: false },
    }
    this.#context = Object.assign(context, {
      principals: new PrincipalIndex(context as SessionContext, () => this.#mode),
    })
    this.#mode = modeFor(this.#context)
    for (const warning of options.warnings) logger.warn(warning)
  }

  /** The options in force. Holds passwords: don't log it. */
  get options(): ResolvedOptions {
    return this.#context.options
  }

  /** What was counted and measured so far, under MSM's names, as a frozen copy. */
  get statistics(): StatisticsSnapshot & { readonly activeSessions: number } {
    return Object.freeze({ ...this.#statistics.snapshot(), activeSessions: this.#mode.activeSessions })
  }

  /** Each node's state, and since when. */
  get nodes(): NodeState[] {
    return this.#context.nodes.states()
  }

  /** For a load balancer or an orchestrator: whether this process can serve sessions, and how well. Asks no node. */
  health(): Health {
    return healthOf(this.#context, this.#mode, this.#state === 'started' && !this.#isDraining)
  }

  on<E extends SessionManagerEventName>(event: E, listener: SessionManagerListener<E>): this {
    this.#context.events.on(event, listener)
    return this
  }

  off<E extends SessionManagerEventName>(event: E, listener: SessionManagerListener<E>): this {
    this.#context.events.off(event, listener)
    return this
  }

  /**
   * Finds out which nodes are up and starts the background work. Called by the first request if nobody did before. A
   * node that is down is no error.
   * @throws SessionManagerError ERR_MSM_STATE after `stop()`
   */
  start(): Promise<void> {
    if (this.#state === 'stopped') {
      return Promise.reject(
        new SessionManagerError('ERR_MSM_STATE', 'This session manager was stopped; make a new one.'),
      )
    }
    this.#started ??= this.#start()
    return this.#started
  }

  /** Stores what is still to be stored, for at most 10 s, and closes everything. Nothing keeps the process alive then. */
  async stop(): Promise<void> {
    if (this.#state === 'stopped') return
    this.#state = 'stopped'
    process.off('SIGTERM', this.#onSignal)
    await this.#started
    this.#context.logger.info('Stopping services.')
    await this.#mode.stop(STOP_LIMIT)
    await this.#context.nodes.close()
  }

  /**
   * Changes options while requests are served: `memcachedNodes`, `failoverNodes`, `sticky`, `lockingMode`,
   * `lockExpiration`, `operationTimeout`, `enabled`, `maxInactiveInterval` (of new sessions) and `sessionBackupAsync`. A
   * change of `sticky` waits for requests under way, for at most 5 s, and takes the sessions along. What was in force
   * stays so if the options are wrong. Do it in every process.
   * @throws TypeError for a wrong option, or one that can't be changed
   * @throws SessionManagerError ERR_MSM_STATE after `stop()`
   */
  async reconfigure(changes: ReconfigurableOptions): Promise<void> {
    const fixed = Object.keys(changes).find((name) => !(RECONFIGURABLE as readonly string[]).includes(name))
    if (fixed !== undefined) {
      throw new TypeError(`${fixed}: can't be changed at run time. It must be one of ${RECONFIGURABLE.join(', ')}.`)
    }
    await this.start()
    while (this.#changing) await this.#changing
    const options = resolveOptions({ ...this.#context.options.raw, ...changes })
    const change = this.#change(options)
    this.#changing = change.then(
      () => undefined,
      () => undefined,
    )
    try {
      await change
    } finally {
      this.#changing = undefined
    }
  }

  /**
   * Begins a request: finds its session. Synchronous if the session is in this process, so that a request that needs no
   * store does not wait for a tick.
   * @param isIgnored what `ignores` says, if that was asked before
   * @throws SessionManagerError with an HTTP status: 503 if no node can be asked, or the lock is not to be had in time
   */
  begin<R extends SessionRequest>(
    request: R,
    binding: WebBinding<R>,
    isIgnored: boolean = this.ignores(request, binding),
  ): MaybePromise<SessionExchange<R>> {
    if (this.#state !== 'started') return this.start().then(() => this.begin(request, binding, isIgnored))
    if (this.#changing) return this.#changing.then(() => this.begin(request, binding, isIgnored))
    const id = presentedId(request, binding, this.#context)
    const exchange = new SessionExchange(request, binding, this.#context, this.#mode, id, isIgnored)
    if (this.#context.options.lazy && !isIgnored) return exchange
    const loading = exchange.load()
    return isPromise(loading) ? loading.then(() => exchange) : exchange
  }

  /** True if `requestUriIgnorePattern` takes this request out. */
  ignores<R extends SessionRequest>(request: R, binding: WebBinding<R>): boolean {
    const { ignorePattern } = this.#context.options
    return ignorePattern !== undefined && matchesUriPattern(ignorePattern, request, binding.url(request))
  }

  /**
   * The session of a request that gets no response from a framework, such as a WebSocket's upgrade: undefined if it has
   * none. What is changed is stored by its `save()`; its `reload()` shows what others have changed.
   * @throws SessionManagerError with status 503 if no node can be asked
   */
  fromRequest(request: DetachedRequest): Promise<DetachedSession | undefined> {
    return this.#open(request, presentedId(request, DETACHED, this.#context))
  }

  /**
   * The session with this id, for a job; undefined if there is none. What is changed is stored by its `save()`.
   * @throws SessionManagerError with status 503 if no node can be asked
   */
  get(id: string): Promise<DetachedSession | undefined> {
    return this.#open({ headers: {} }, this.#context.ids.parse(id))
  }

  /** Ends the session with this id. True if there was one. @throws SessionManagerError with status 503 */
  async destroy(id: string): Promise<boolean> {
    const session = await this.get(id)
    await session?.destroy()
    return session !== undefined
  }

  /** Counts as a use of the session with this id. True if there is one. @throws SessionManagerError with status 503 */
  async touch(id: string): Promise<boolean> {
    return (await this.get(id)) !== undefined
  }

  /**
   * The live sessions whose `principal` is this one, of all processes.
   * @throws SessionManagerError with status 503 if no node answers
   */
  async findByPrincipal(name: string): Promise<PrincipalSession[]> {
    await this.start()
    const sessions = await this.#context.principals.find(name)
    return sessions.map(({ id, creationTime, lastAccessedTime }) => ({
      id,
      creationTime: new Date(creationTime),
      lastAccessedTime: new Date(lastAccessedTime),
    }))
  }

  /**
   * Ends all sessions of a principal, but for the one with the id `except`, in all processes. How many there were.
   * @throws SessionManagerError with status 503 if no node answers
   */
  async destroyByPrincipal(name: string, { except }: { except?: string | undefined } = {}): Promise<number> {
    await this.start()
    const kept = except === undefined ? undefined : extractBase(except)
    const sessions = (await this.#context.principals.find(name)).filter(({ id }) => extractBase(id) !== kept)
    for (const session of sessions) await this.#mode.remove(session, 'principal')
    return sessions.length
  }

  /** The hash under which logs and events speak of a session. */
  hashOf(sessionId: string): string {
    return hashSessionId(sessionId)
  }

  async #open(request: DetachedRequest, id: SessionIdParts | undefined): Promise<DetachedSession | undefined> {
    await this.start()
    while (this.#changing) await this.#changing
    return id && openDetached(this.#context, this.#mode, request, id)
  }

  async #start(): Promise<void> {
    this.#state = 'starting'
    const { options, nodes } = this.#context
    if (options.enabled) await nodes.monitor.start()
    if (this.#state !== 'starting') return
    this.#mode.start()
    this.#state = 'started'
    if (options.drainOnSignal) process.once('SIGTERM', this.#onSignal)
    this.#context.logger.info(startBlock(this.#context.options, this.#transcoderName))
  }

  async #change(options: ResolvedOptions): Promise<void> {
    const context = this.#context
    const { nodes, logger, requests, options: former } = context
    const changesMode = options.sticky !== former.sticky
    if (changesMode) await within(requests.none(), MODE_CHANGE_LIMIT)
    context.options = options
    context.ids = idFormatOf(options)
    context.selector = new NodeSelector(options.nodes, (id) => nodes.isAvailable(id))
    const before = new Set(nodes.all())
    const removed = nodes.reconfigure(options.nodes, clientOptionsOf(options))
    if (options.enabled) await (former.enabled ? nodes.monitor.probeNew() : nodes.monitor.start())
    else nodes.monitor.stop()
    for (const warning of options.warnings) logger.warn(warning)
    if (changesMode) {
      const mode = this.#mode
      await mode.stop(STOP_LIMIT)
      this.#mode = modeFor(context)
      this.#mode.start()
      await this.#mode.takeIn(mode)
    }
    const added = [...nodes.all()].filter((node) => !before.has(node))
    await this.#mode.nodesChanged(removed, options.enabled && !former.enabled ? [...nodes.all()] : added)
    await Promise.allSettled(removed.map((node) => node.close()))
    logger.info('Finished reloading configuration.')
    this.#context.logger.info(startBlock(this.#context.options, this.#transcoderName))
  }

  /** The process is to end: `health` says so, what is under way ends, all is stored; then the signal takes its course. */
  async #drain(): Promise<void> {
    this.#isDraining = true
    this.#context.logger.info('SIGTERM: draining sessions.')
    await within(this.#context.requests.none(), STOP_LIMIT)
    await this.stop()
    // Whoever else listens to the signal ends the process by itself.
    if (process.listenerCount('SIGTERM') === 0) process.kill(process.pid, 'SIGTERM')
  }
}

function modeFor(context: SessionContext): SessionMode {
  return context.options.sticky ? new StickyMode(context) : new NonStickyMode(context)
}

function idFormatOf(options: ResolvedOptions): SessionIdFormat {
  return new SessionIdFormat({ ...options, hasCustomIds: options.genid !== undefined, nodeIds: options.nodes.nodeIds })
}

function clientOptionsOf(options: ResolvedOptions): StorageClientOptions {
  const { operationTimeout, username, password, tls, logger } = options
  return {
    operationTimeout,
    logger,
    ...(username === undefined || password === undefined ? {} : { username, password }),
    ...(tls === undefined ? {} : { tls }),
  }
}
