import { SessionManagerError } from '../../errors.ts'
import type { DestroyReason } from '../../events.ts'
import { matchesUriPattern } from '../../http/uri-pattern.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import type { SessionIdParts } from '../../ids/session-id-format.ts'
import { SessionLocks } from '../../locking/session-locks.ts'
import type { MaybePromise } from '../../maybe-promise.ts'
import type { Session } from '../../session/session.ts'
import type { SessionContext } from '../../session-context.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import { within } from '../../within.ts'
import type { SessionMode, SessionUse } from '../session-mode.ts'
import { LocalSessions } from './local-sessions.ts'
import { RemoteEnds } from './remote-ends.ts'
import { SessionBackup } from './session-backup.ts'
import { StickyBackground } from './sticky-background.ts'
import { StickySession } from './sticky-session.ts'
import { Takeover } from './takeover.ts'

/** Sticky mode: this process is the primary of its sessions, and the store has a backup of each. */
export class StickyMode implements SessionMode {
  readonly #context: SessionContext
  readonly #sessions = new LocalSessions()
  readonly #backup: SessionBackup
  readonly #takeover: Takeover
  readonly #background: StickyBackground
  readonly #locks: SessionLocks
  readonly #remoteEnds: RemoteEnds

  constructor(context: SessionContext) {
    this.#context = context
    this.#backup = new SessionBackup(context)
    this.#takeover = new Takeover(context)
    this.#locks = new SessionLocks(context, false)
    this.#remoteEnds = new RemoteEnds(context, (base) => {
      const session = this.#sessions.get(base)
      if (session) void this.remove(session, 'principal')
    })
    this.#background = new StickyBackground(context, this.#sessions, this.#backup, (session) => this.#expire(session))
  }

  get activeSessions(): number {
    return this.#sessions.size
  }

  start(): void {
    this.#background.start()
    this.#remoteEnds.start()
    const { monitor } = this.#context.nodes
    monitor.onOutage = (node) => void this.#background.leave(node)
    monitor.onRecovery = (node) => void this.#background.refill(node)
  }

  async stop(limit: number): Promise<void> {
    this.#background.stop()
    this.#remoteEnds.stop()
    await within(this.#backup.idle(), limit)
  }

  acquire(id: SessionIdParts, use: SessionUse): MaybePromise<StickySession | undefined> {
    return this.#needsLock(use) ? this.#acquireLocked(id, use) : this.#use(id)
  }

  async #acquireLocked(id: SessionIdParts, use: SessionUse): Promise<StickySession | undefined> {
    use.lock = await this.#locks.acquire(id.id)
    try {
      return await this.#use(id)
    } catch (error) {
      use.lock?.release()
      throw error
    }
  }

  #needsLock(use: SessionUse): boolean {
    const { kind, pattern } = this.#context.options.lockingMode
    return kind === 'all' || (kind === 'uriPattern' && matchesUriPattern(pattern!, use, use.url))
  }

  #use(id: SessionIdParts): MaybePromise<StickySession | undefined> {
    const { options, nodes } = this.#context
    const session = this.#sessions.get(id.base)
    if (session?.isExpired(Date.now())) {
      this.#expire(session)
    } else if (session) {
      if (options.enabled && this.#wasElsewhere(session, id)) return this.#bringBack(session, id)
      return this.#enter(session)
    }
    const successor = this.#sessions.successorOf(id.base)
    if (successor) return this.#enter(successor)
    const isComplete = nodes.config.encodesNodeId
      ? id.nodeId !== undefined && nodes.config.has(id.nodeId)
      : id.nodeId === undefined
    if (!options.enabled || !isComplete || this.#hasEnded(id)) return undefined
    return this.#takeover.load(id, (loaded) => this.#adopt(loaded)).then((loaded) => loaded && this.#enter(loaded))
  }

  find(id: SessionIdParts): MaybePromise<StickySession | undefined> {
    const session = this.#sessions.get(id.base)
    if (session?.isExpired(Date.now())) this.#expire(session)
    else if (session) return session
    return this.#context.options.enabled && !this.#sessions.hasExpired(id.id) ? this.#takeover.search(id) : undefined
  }

  peek(id: SessionIdParts): StickySession | undefined {
    const session = this.#sessions.get(id.base)
    return session && !session.isExpired(Date.now()) ? session : undefined
  }

  create(ownBase?: string): StickySession {
    const { options, ids, selector, statistics } = this.#context
    const limit = options.maxActiveSessions
    if (limit >= 0 && this.#sessions.size >= limit) {
      statistics.increment('rejectedSessions')
      throw new SessionManagerError(
        'ERR_MSM_TOO_MANY_SESSIONS',
        `This process has ${limit} sessions already, which is all that maxActiveSessions allows.`,
        { status: 503 },
      )
    }
    const base = ownBase ?? ids.generateBase()
    const id = ids.withBase(base, options.enabled ? selector.forNewSession() : undefined)
    const session = new StickySession(base, id, options.maxInactiveInterval, Date.now())
    session.limitLifetime(options.maxLifetimeSeconds)
    session.isFindable = false
    return session
  }

  commit(session: Session, { mayHaveChanged }: SessionUse): MaybePromise<void> {
    const own = session as StickySession
    const { options, attributes, statistics } = this.#context
    if (this.#sessions.get(own.base) !== own) this.#register(own)
    if (!options.enabled) return undefined
    const idChanged = own.storedId !== own.id
    if (!idChanged && !mayHaveChanged) {
      statistics.increment('numNoAttributesAccess')
      return undefined
    }
    let bytes: Buffer
    try {
      bytes = attributes.encode(own.attributes)
    } catch (error) {
      // The session stays in this process, and the store keeps what it has.
      this.#backup.failed(own, error)
      return undefined
    }
    if (!idChanged && own.storedBytes?.equals(bytes)) {
      statistics.increment('numNoSessionModification')
      return undefined
    }
    const start = performance.now()
    const isUnderWay = !idChanged && own.backup !== undefined && own.unsavedBytes?.equals(bytes) === true
    own.unsavedBytes = bytes
    const stored = isUnderWay ? (own.nextBackup ?? own.backup!) : this.#backup.store(own)
    // An id that a client is told must be found by whoever serves it next, should this process die now.
    if (!idChanged && options.sessionBackupAsync) return undefined
    return within(stored, options.sessionBackupTimeout).then(() =>
      statistics.record('effectiveBackup', performance.now() - start),
    )
  }

  async save(session: Session): Promise<void> {
    const own = session as StickySession
    if (this.#sessions.get(own.base) !== own) this.#register(own)
    if (!this.#context.options.enabled) return
    own.unsavedBytes = undefined
    if (!(await this.#backup.store(own))) {
      throw new SessionManagerError(
        'ERR_MSM_STORAGE_UNAVAILABLE',
        'The session is kept in this process, but no node took its backup.',
        { status: 503 },
      )
    }
  }

  release(_session: Session | undefined, use: SessionUse): void {
    use.lock?.release()
    use.lock = undefined
  }

  touch(id: SessionIdParts): void {
    const session = this.peek(id)
    session?.access(Date.now())
    session?.endAccess(Date.now())
  }

  async lock(session: Session, use: SessionUse): Promise<void> {
    if (!use.lock?.isHeld) use.lock = await this.#locks.acquire(session.id)
  }

  discard(session: Session): void {
    const own = session as StickySession
    const { attributes } = this.#context
    const bytes = own.unsavedBytes ?? own.storedBytes
    if (!bytes) return
    const committed = attributes.decode(bytes)
    // What is kept out of the store is in no bytes.
    for (const name of Object.keys(own.attributes)) {
      if (!attributes.isStored(name)) committed[name] = own.attributes[name]
    }
    own.attributes = committed
  }

  async reload(session: Session): Promise<Session> {
    // The process is the primary: what it holds is the session. Only a session that ended can't be reloaded.
    if (!session.isValid) throw new SessionManagerError('ERR_MSM_SESSION_INVALID', 'The session was destroyed.')
    return session
  }

  /** The store has the sessions of a process in non-sticky mode; each is loaded when it is asked for. */
  async takeIn(): Promise<void> {}

  async nodesChanged(removed: readonly StorageNode[], added: readonly StorageNode[]): Promise<void> {
    if (!this.#context.options.enabled) return
    for (const node of removed) await this.#background.leave(node)
    for (const node of added) await this.#background.refill(node)
  }

  get backlog(): number {
    return this.#backup.size
  }

  sessions(): Iterable<StickySession> {
    return this.#sessions.values()
  }

  async replace(former: Session, session: Session, seconds: number): Promise<void> {
    const own = session as StickySession
    this.#register(own)
    this.#sessions.alias((former as StickySession).base, own, seconds)
  }

  async remove(session: Session, reason: DestroyReason): Promise<void> {
    const own = session as StickySession
    if (!own.isValid) return
    own.isValid = false
    const forgotten = this.#context.principals.forget(own)
    const isOurs = this.#sessions.get(own.base) === own
    this.#sessions.remove(own, true)
    this.#context.events.emit('destroyed', { session: hashSessionId(own.id), reason })
    if (this.#context.options.enabled) {
      if (!isOurs) await this.#remoteEnds.tell(own)
      await this.#backup.remove(own)
    }
    await forgotten
  }

  #register(session: StickySession): void {
    this.#sessions.add(session)
    session.isFindable = true
    this.#context.statistics.increment('sessionsCreated')
    this.#context.events.emit('created', { session: hashSessionId(session.id) })
  }

  #enter(session: StickySession): StickySession {
    session.access(Date.now())
    this.#backup.relocate(session)
    return session
  }

  /** Makes a session of another process, or of this one before a restart, one of ours. */
  #adopt(session: StickySession): void {
    const { options, selector, statistics, events } = this.#context
    this.#sessions.add(session)
    // What the other clock says is no measure of idleness here; that the store still has it is.
    session.thisAccessedTime = Date.now()
    session.lastBackupTime = 0
    session.storedUntil = 1
    if (options.jvmRoute === undefined) return
    const id = selector.changeSessionIdForTakeover(session.id, options.jvmRoute)
    if (id === session.id) return
    session.changeId(id)
    statistics.increment('numTomcatFailover')
    events.emit('idChanged', { session: hashSessionId(id), reason: 'takeover' })
  }

  #wasElsewhere(session: StickySession, id: SessionIdParts): boolean {
    const { jvmRoute } = this.#context.options
    return jvmRoute !== undefined && id.jvmRoute !== jvmRoute && id.id !== session.id
  }

  /**
   * The client comes with an id that another process gave it. Either that process had the session meanwhile, then its
   * copy is the newest (GH153), or this is a request that was under way when this process took the session over: then
   * the copy is gone, or still the one that was taken over.
   */
  async #bringBack(session: StickySession, id: SessionIdParts): Promise<StickySession | undefined> {
    const copy = await this.#takeover.find(id)
    const current = this.#sessions.get(id.base)
    if (current !== session) return current && this.#enter(current)
    const known = session.takenOver
    if (!copy || (known?.id === id.id && copy.takenOver?.record.equals(known.record))) return this.#enter(session)
    this.#sessions.remove(session, false)
    session.isValid = false
    this.#adopt(copy)
    return this.#enter(copy)
  }

  #hasEnded(id: SessionIdParts): boolean {
    return this.#sessions.wasDestroyed(id.base) || this.#sessions.hasExpired(id.id)
  }

  #expire(session: StickySession): void {
    const { processExpiresFrequency, backgroundProcessorDelay } = this.#context.options
    this.#sessions.expire(session, processExpiresFrequency * backgroundProcessorDelay)
    session.isValid = false
    this.#context.statistics.increment('sessionsExpired')
    this.#context.events.emit('destroyed', { session: hashSessionId(session.id), reason: 'expired' })
  }
}
