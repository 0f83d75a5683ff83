import { messageOf, SessionManagerError } from '../../errors.ts'
import type { DestroyReason } from '../../events.ts'
import { matchesUriPattern } from '../../http/uri-pattern.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import { createNewSessionId, type SessionIdParts } from '../../ids/session-id-format.ts'
import { LockQueue } from '../../locking/lock-queue.ts'
import { ReadOnlyRequests } from '../../locking/read-only-requests.ts'
import { SessionLocks } from '../../locking/session-locks.ts'
import { isPromise, type MaybePromise } from '../../maybe-promise.ts'
import type { Session } from '../../session/session.ts'
import type { SessionContext } from '../../session-context.ts'
import { Deletions } from '../../storage/deletions.ts'
import { isUnavailable, type StorageNode } from '../../storage/storage-node.ts'
import { within } from '../../within.ts'
import type { SessionMode, SessionUse } from '../session-mode.ts'
import { CopyRefill } from './copy-refill.ts'
import { IdleTime } from './idle-time.ts'
import { NonStickySession } from './non-sticky-session.ts'
import { SecondCopies } from './second-copies.ts'
import { SessionLoader } from './session-loader.ts'
import { SessionWriter } from './session-writer.ts'
import { Tombstones } from './tombstones.ts'
import { UnknownIds } from './unknown-ids.ts'

/** Milliseconds after trouble with a node in which a session may have been moved unnoticed by a request under way. */
const MOVED_AFTER_TROUBLE = 1_800_000

/** Sessions stored at a time when they are taken in from sticky mode. */
const CONCURRENCY = 16
const NOTHING = Buffer.alloc(0)
/** For writing a session that no request uses. */
const NO_REQUEST: SessionUse = { method: '', url: '', lock: undefined, canChangeId: true, mayHaveChanged: true }

/**
 * Non-sticky mode: the store has the sessions, each request has a copy of its own, and nothing stays in the process after
 * the request.
 */
export class NonStickyMode implements SessionMode {
  readonly #context: SessionContext
  readonly #deletions = new Deletions()
  readonly #copies: SecondCopies
  readonly #tombstones: Tombstones
  readonly #loader: SessionLoader
  readonly #writer: SessionWriter
  readonly #idleTime: IdleTime
  readonly #refill: CopyRefill
  readonly #locks: SessionLocks
  readonly #writes = new LockQueue()
  readonly #unknownIds = new UnknownIds()
  readonly #readOnly = new ReadOnlyRequests()
  /** Nodes that were configured once: their sessions are looked for on the others. */
  readonly #formerNodeIds = new Set<string>()
  readonly #storing = new Set<Promise<void>>()
  /** Of sessions destroyed a moment ago. */
  readonly #secondDeletions = new Set<NodeJS.Timeout>()
  /** Sessions are held by the store, not by this process. */
  readonly activeSessions = 0

  constructor(context: SessionContext) {
    this.#context = context
    this.#copies = new SecondCopies(context, this.#deletions)
    this.#tombstones = new Tombstones(context)
    this.#loader = new SessionLoader(context, this.#copies, this.#tombstones, this.#deletions)
    this.#idleTime = new IdleTime(context, this.#copies)
    this.#refill = new CopyRefill(context, this.#copies)
    this.#locks = new SessionLocks(context, true)
    this.#writer = new SessionWriter(context, this.#loader, this.#copies, this.#tombstones, this.#locks)
  }

  start(): void {
    const { monitor } = this.#context.nodes
    monitor.onOutage = () => {
      for (const node of this.#context.nodes.all()) if (node.isAvailable) void this.#refill.refill(node)
    }
    monitor.onRecovery = (node) => {
      void this.#deletions.recovered(node).then(() => this.#refill.refill(node))
    }
  }

  async stop(limit: number): Promise<void> {
    for (const timer of this.#secondDeletions) clearTimeout(timer)
    await within(this.#idle(), limit)
  }

  async acquire(id: SessionIdParts, use: SessionUse): Promise<NonStickySession | undefined> {
    const { nodes } = this.#context
    if (nodes.config.encodesNodeId !== (id.nodeId !== undefined)) return undefined
    if (id.nodeId !== undefined && !nodes.knows(id.nodeId) && !this.#formerNodeIds.has(id.nodeId)) return undefined
    if (this.#unknownIds.has(id.id)) return undefined
    if (this.#needsLock(use)) use.lock = await this.#locks.acquire(this.#idToLock(id))
    try {
      const session = (await this.#loader.load(id)) ?? (await this.#loadSuccessor(id))
      session?.access(Date.now())
      if (!session) {
        this.#unknownIds.add(id.id)
        this.#unlock(use)
      }
      return session
    } catch (error) {
      this.#unlock(use)
      throw error
    }
  }

  find(id: SessionIdParts): Promise<NonStickySession | undefined> {
    return this.#loader.load(id)
  }

  peek(): undefined {
    return undefined
  }

  create(ownBase?: string): NonStickySession {
    const { ids, selector, options } = this.#context
    const base = ownBase ?? ids.generateBase()
    const id = ids.withBase(base, selector.forNewSession())
    const session = new NonStickySession(base, id, options.maxInactiveInterval, Date.now())
    session.limitLifetime(options.maxLifetimeSeconds)
    return session
  }

  commit(session: Session, use: SessionUse): MaybePromise<void> {
    const own = session as NonStickySession
    if (own.committing) {
      const again = (): MaybePromise<void> => this.commit(session, use)
      return own.committing.then(again, again)
    }
    const { attributes, statistics, options } = this.#context
    const { stored } = own
    if (stored && !use.mayHaveChanged) {
      statistics.increment('numNoAttributesAccess')
      if (own.needsCopy) this.#writer.copy(own, performance.now())
      return undefined
    }
    let bytes: Buffer
    try {
      bytes = attributes.encode(own.attributes)
    } catch (error) {
      return this.#failed(own, error)
    }
    if (stored?.attributes.equals(bytes)) {
      statistics.increment('numNoSessionModification')
      if (own.needsCopy) this.#writer.copy(own, performance.now())
      return undefined
    }
    const storing = this.#store(own, bytes, use)
    // A response that announces an id waits: whoever serves the client next must find it.
    if (!stored || !options.sessionBackupAsync) return storing
    storing.catch(() => {})
    return undefined
  }

  release(session: Session | undefined, use: SessionUse): void {
    const own = session as NonStickySession | undefined
    const { lockingMode } = this.#context.options
    if (own && lockingMode.kind === 'auto') this.#readOnly.learn(use.method, use.url, own.wasModified)
    this.#unlock(use)
    if (!own?.isValid || !own.stored) return
    this.#refill.served(own.id)
    if (own.isNoted) {
      own.isNoted = false
      return
    }
    const now = own.thisAccessedTime
    const before = own.validity
    const { maxInactiveInterval, lastAccessedTime } = own
    if (before?.maxInactiveInterval === maxInactiveInterval && this.#idleTime.isFresh(before, now)) return
    own.validity = { maxInactiveInterval, lastAccessedTime, thisAccessedTime: now }
    this.#idleTime.note({ id: own.id, before, now: own.validity, isCopied: own.wasModified })
  }

  touch(id: SessionIdParts): void {
    this.#idleTime.touch(id.id)
  }

  async save(session: Session, use: SessionUse): Promise<void> {
    const own = session as NonStickySession
    if (own.committing) await own.committing.catch(() => {})
    const bytes = this.#context.attributes.encode(own.attributes)
    if (own.stored?.attributes.equals(bytes)) return
    await this.#tracked(own, this.#write(own, bytes, use))
  }

  /** The request's own copy goes with it. */
  discard(): void {}

  async reload(session: Session): Promise<NonStickySession> {
    const { ids } = this.#context
    const parts = ids.parse(session.id)
    const fresh = session.isValid && parts ? await this.#loader.load(parts) : undefined
    if (!fresh) throw new SessionManagerError('ERR_MSM_SESSION_INVALID', 'The session was destroyed, or has expired.')
    fresh.access(Date.now())
    return fresh
  }

  async lock(session: Session, use: SessionUse): Promise<void> {
    if (use.lock?.isHeld) return
    use.lock = await this.#locks.acquire(session.id)
    const own = session as NonStickySession
    // What was loaded before the lock may be old by now.
    if (own.stored) await this.#writer.refresh(own)
  }

  /** Stores what a process in sticky mode held. */
  async takeIn(former: SessionMode): Promise<void> {
    const { attributes } = this.#context
    const storing: Promise<unknown>[] = []
    for (const session of former.sessions()) {
      if (!session.isValid) continue
      const parts = this.#context.ids.parse(session.id)
      if (!parts) continue
      const own = new NonStickySession(parts.base, session.id, session.maxInactiveInterval, session.creationTime)
      own.restore(session.toRecord(NOTHING, session.lastBackupTime))
      own.attributes = session.attributes
      storing.push(this.#writer.write(own, attributes.encode(own.attributes), NO_REQUEST))
      if (storing.length >= CONCURRENCY) await Promise.allSettled(storing.splice(0))
    }
    await Promise.allSettled(storing)
  }

  async nodesChanged(removed: readonly StorageNode[]): Promise<void> {
    for (const { id } of removed) if (id !== undefined) this.#formerNodeIds.add(id)
  }

  get backlog(): number {
    return this.#storing.size + this.#copies.size
  }

  sessions(): Iterable<Session> {
    return []
  }

  async replace(former: Session, session: Session, seconds: number): Promise<void> {
    const { nodes, keys, attributes } = this.#context
    const own = session as NonStickySession
    await this.#tracked(own, this.#writer.write(own, attributes.encode(own.attributes), NO_REQUEST))
    this.#created(own)
    const node = nodes.ofSession(former.id)
    const successor = Buffer.from(own.id)
    if (node?.isAvailable) await node.set(keys.successor((former as NonStickySession).base), successor, seconds)
  }

  /** The session that took the place of the one with this id a moment ago. */
  async #loadSuccessor(id: SessionIdParts): Promise<NonStickySession | undefined> {
    const { options, nodes, keys, ids } = this.#context
    const node = nodes.ofSession(id.id)
    if (options.regenerateGraceSeconds === 0 || !node?.isAvailable) return undefined
    const item = await node.get(keys.successor(id.base))
    const successor = item && ids.parse(item.value.toString())
    return successor && this.#loader.load(successor)
  }

  async remove(session: Session, reason: DestroyReason): Promise<void> {
    const own = session as NonStickySession
    if (!own.isValid) return
    own.isValid = false
    if (own.committing) await own.committing.catch(() => {})
    if (!own.stored) return
    try {
      await this.#tombstones.set(own.base, own.maxInactiveInterval)
    } catch (error) {
      // It is there still; who wants it ended has to be told, and may try again.
      own.isValid = true
      throw error
    }
    await Promise.all([this.#delete(own), this.#context.principals.forget(own)])
    this.#context.events.emit('destroyed', { session: hashSessionId(own.id), reason })
  }

  async #delete({ id }: NonStickySession): Promise<void> {
    const { keys, nodes, statistics } = this.#context
    const start = performance.now()
    this.#refill.forget(id)
    const deleted: Promise<unknown>[] = [this.#copies.remove(id)]
    const ids = new Set([id])
    // A request that was under way when a node went down may have moved it.
    for (const node of nodes.all()) if (node.id !== undefined) ids.add(createNewSessionId(id, node.id))
    for (const other of ids) {
      const node = nodes.ofSession(other)
      if (!node || (other !== id && !nodes.hadTrouble(MOVED_AFTER_TROUBLE))) continue
      deleted.push(
        this.#deletions.delete(node, keys.session(other)),
        this.#deletions.delete(node, keys.validity(other)),
      )
    }
    await Promise.all(deleted)
    this.#deleteCopiesAgain(id)
    statistics.record('sessionsDeletedFromMemcached', performance.now() - start)
    statistics.record('nonStickyAfterDeleteFromMemcached', performance.now() - start)
  }

  /** Whoever was about to write a copy when the session was destroyed has done so by then, after it was deleted. */
  #deleteCopiesAgain(id: string): void {
    const { nodes, options } = this.#context
    if (nodes.config.nodeIds.length < 2) return
    const timer = setTimeout(() => {
      this.#secondDeletions.delete(timer)
      this.#copies.run(this.#copies.remove(id))
    }, options.operationTimeout)
    timer.unref()
    this.#secondDeletions.add(timer)
  }

  #needsLock(use: SessionUse): boolean {
    const { lockingMode } = this.#context.options
    const { kind, pattern } = lockingMode
    if (kind === 'all') return true
    let isReadOnly: boolean
    if (kind === 'auto') isReadOnly = this.#readOnly.isReadOnly(use.method, use.url)
    else if (kind === 'uriPattern') isReadOnly = !matchesUriPattern(pattern!, use, use.url)
    else return false
    if (isReadOnly) this.#context.statistics.increment('numNonStickySessionsReadOnlyRequest')
    return !isReadOnly
  }

  /** The id under which all processes lock the session: if its node is down, that of the node it will move to. */
  #idToLock(id: SessionIdParts): string {
    const { nodes, selector } = this.#context
    if (nodes.ofSession(id.id)?.isAvailable || id.nodeId === undefined) return id.id
    const next = selector.next(id.nodeId)
    return next === undefined ? id.id : createNewSessionId(id.id, next)
  }

  #unlock(use: SessionUse): void {
    use.lock?.release()
    use.lock = undefined
  }

  async #store(session: NonStickySession, bytes: Buffer, use: SessionUse): Promise<void> {
    const { statistics } = this.#context
    const isNew = session.stored === undefined
    const start = performance.now()
    try {
      await this.#tracked(session, this.#write(session, bytes, use))
    } catch (error) {
      return this.#failed(session, error)
    }
    if (isNew) this.#created(session)
    statistics.record('backup', performance.now() - start)
    statistics.record('effectiveBackup', performance.now() - start)
  }

  /**
   * Writes of one session by this process follow one another: at the same time they would only be refused by the store,
   * again and again.
   */
  async #write(session: NonStickySession, bytes: Buffer, use: SessionUse): Promise<void> {
    const turn = this.#writes.enter(session.base, this.#context.options.operationTimeout)
    const hasWaited = isPromise(turn)
    const isGranted = hasWaited ? await turn : turn
    try {
      // What was loaded is old by now; asking for the new version first saves an attempt that can't succeed.
      if (hasWaited && session.stored) session.stored = { ...session.stored, version: undefined }
      await this.#writer.write(session, bytes, use)
    } finally {
      if (isGranted) this.#writes.leave(session.base)
    }
  }

  #tracked(session: NonStickySession, work: Promise<void>): Promise<void> {
    const tracked = work.finally(() => {
      session.committing = undefined
      this.#storing.delete(tracked)
    })
    session.committing = tracked
    this.#storing.add(tracked)
    return tracked
  }

  #created(session: NonStickySession): void {
    this.#context.statistics.increment('sessionsCreated')
    this.#context.events.emit('created', { session: hashSessionId(session.id) })
  }

  /** Counts and reports a failed write. @throws the error, if the response has to be one */
  #failed(session: NonStickySession, error: unknown): undefined {
    const { statistics, events, logger, nodes, options } = this.#context
    const hash = hashSessionId(session.id)
    const node = nodes.ofSession(session.id)?.address.label
    if (error instanceof SessionManagerError && error.code === 'ERR_MSM_CONFLICT') {
      throw error
    }
    if (error instanceof SessionManagerError && error.code === 'ERR_MSM_SESSION_INVALID') {
      // Destroyed by another request: that is final, and no failure.
      session.isValid = false
      logger.debug?.(`Session ${hash} is gone; what a request changed in it is not stored.`)
      return undefined
    }
    statistics.increment('numBackupFailures')
    events.emit('backupFailed', { session: hash, error, ...(node === undefined ? {} : { node }) })
    if (!isUnavailable(error)) logger.warn(`Could not store session ${hash} on ${node}: ${messageOf(error)}`)
    if (options.commitFailurePolicy === 'error') throw asAnswer(error)
    return undefined
  }

  async #idle(): Promise<void> {
    while (this.#storing.size > 0) await Promise.allSettled([...this.#storing])
    await this.#copies.idle()
    await this.#deletions.idle()
    await this.#locks.idle()
  }
}

function asAnswer(error: unknown): SessionManagerError {
  if (error instanceof SessionManagerError && error.status !== undefined) return error
  const message = `The session could not be stored: ${messageOf(error)}`
  // A session too large, or of what can't be encoded, is not stored by trying again.
  if (
    error instanceof SessionManagerError &&
    (error.code === 'ERR_MSM_INVALID_ITEM' || error.code === 'ERR_MSM_ENCODE')
  ) {
    return new SessionManagerError(error.code, message, { status: 500, cause: error })
  }
  return new SessionManagerError('ERR_MSM_STORAGE_UNAVAILABLE', message, { status: 503, cause: error })
}
