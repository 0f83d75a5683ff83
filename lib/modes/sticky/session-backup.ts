import { SessionManagerError } from '../../errors.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import { createNewSessionId, extractNodeId } from '../../ids/session-id-format.ts'
import { encodeSessionRecord } from '../../records/session-record.ts'
import type { SessionContext } from '../../session-context.ts'
import { stickyExpiration } from '../../storage/expiration.ts'
import { isUnavailable, type StorageNode } from '../../storage/storage-node.ts'
import type { StickySession } from './sticky-session.ts'

/** Keys to delete on a node once it is back; more than this are left to expire. */
const MAX_PENDING_DELETES = 10_000

/**
 * Writes the backups of sticky sessions. Backups of one session never overtake each other: one is under way, at most
 * one waits, and that one stores what the session holds when its turn comes.
 */
export class SessionBackup {
  readonly #context: SessionContext
  readonly #pendingDeletes = new Map<StorageNode, Set<string>>()
  /** Keys that are deleted once more, a moment after their node came back. */
  readonly #lateDeletes = new Map<StorageNode, Set<string>>()
  readonly #running = new Set<Promise<boolean>>()

  constructor(context: SessionContext) {
    this.#context = context
  }

  /** Stores the session as it is now, or as it is when backups under way have ended. True if a node took it. */
  store(session: StickySession): Promise<boolean> {
    if (session.nextBackup) {
      this.#context.statistics.increment('backupsCollapsed')
      return session.nextBackup
    }
    if (session.backup) {
      session.nextBackup = session.backup.then(() => {
        session.nextBackup = undefined
        return this.#begin(session)
      })
      return session.nextBackup
    }
    return this.#begin(session)
  }

  /** Moves the session off a node that is down, or onto a node if it has none yet. True if its id was changed. */
  relocate(session: StickySession): boolean {
    const { nodes, selector, options, statistics, events } = this.#context
    if (!nodes.config.encodesNodeId || !options.enabled) return false
    const from = extractNodeId(session.id)
    if (from !== undefined && nodes.isAvailable(from)) return false
    const to = from === undefined ? selector.forNewSession() : selector.next(from)
    if (to === undefined) return false
    session.changeId(createNewSessionId(session.id, to))
    statistics.increment('numMemcachedFailover')
    events.emit('idChanged', {
      session: hashSessionId(session.id),
      reason: 'relocation',
      ...(from === undefined ? {} : { fromNode: from }),
      toNode: to,
    })
    return true
  }

  /** Deletes every copy of the session, now or when its node is back. */
  async remove(session: StickySession): Promise<void> {
    const start = performance.now()
    if (session.backup) await session.backup
    session.leave(session.id)
    await this.#deleteStale(session)
    this.#context.statistics.record('sessionsDeletedFromMemcached', performance.now() - start)
  }

  /** Deletes what could not be deleted while the node was down. */
  async recovered(node: StorageNode): Promise<void> {
    const keys = this.#pendingDeletes.get(node)
    if (!keys) return
    this.#pendingDeletes.delete(node)
    for (const key of keys) await node.delete(key).catch(() => this.#deleteLater(node, key))
    // What was sent before the node went away may arrive only now.
    this.#lateDeletes.set(node, keys)
    setTimeout(() => void this.#deleteAgain(node, keys), this.#context.options.operationTimeout).unref()
  }

  async #deleteAgain(node: StorageNode, keys: Set<string>): Promise<void> {
    for (const key of keys) await node.delete(key).catch(() => {})
    if (this.#lateDeletes.get(node) === keys) this.#lateDeletes.delete(node)
  }

  /** Backups under way. */
  get size(): number {
    return this.#running.size
  }

  /** Waits for all backups under way. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled([...this.#running])
  }

  expirationOf(session: StickySession, now: number): number {
    const { processExpiresFrequency, backgroundProcessorDelay } = this.#context.options
    return stickyExpiration({
      maxInactiveInterval: session.maxInactiveInterval,
      idleSeconds: session.idleSeconds(now),
      sweepSeconds: processExpiresFrequency * backgroundProcessorDelay,
    })
  }

  #begin(session: StickySession): Promise<boolean> {
    const backup = this.#store(session).finally(() => {
      session.backup = undefined
      this.#running.delete(backup)
    })
    session.backup = backup
    this.#running.add(backup)
    return backup
  }

  async #store(session: StickySession): Promise<boolean> {
    const { nodes, attributes, statistics, keys } = this.#context
    const start = performance.now()
    let failure: unknown
    // Each failure takes a node out, so this ends after as many attempts as there are nodes.
    while (session.isValid) {
      this.relocate(session)
      const { id } = session
      const node = nodes.ofSession(id)
      if (!node?.isAvailable) break
      const now = Date.now()
      const ttl = this.expirationOf(session, now)
      let bytes: Buffer
      try {
        bytes = session.unsavedBytes ?? attributes.encode(session.attributes)
        const record = encodeSessionRecord(session.toRecord(attributes.seal(bytes, session.base), now))
        statistics.record('cachedDataSize', record.length)
        const key = keys.session(id)
        this.#pendingDeletes.get(node)?.delete(key)
        this.#lateDeletes.get(node)?.delete(key)
        await node.set(key, record, ttl)
      } catch (error) {
        failure = error
        if (!isUnavailable(error)) break
        // It may be stored all the same, now or when the node is back.
        session.leave(id)
        continue
      }
      statistics.record('memcachedUpdate', performance.now() - start)
      if (!session.isValid) break
      session.storedId = id
      session.storedBytes = bytes
      if (session.unsavedBytes === bytes) session.unsavedBytes = undefined
      session.storedUntil = ttl === 0 ? 0 : Math.floor(now / 1000) + ttl
      session.lastBackupTime = now
      if (session.id !== id) {
        // The id was changed while this was under way; whoever changed it asks for the next backup.
        session.leave(id)
        session.storedId = undefined
        return true
      }
      statistics.record('backup', performance.now() - start)
      if (session.staleIds) void this.#deleteStale(session)
      return true
    }
    if (session.isValid) this.failed(session, failure)
    return false
  }

  /** Counts and reports that the session could not be stored; its next commit tries again. */
  failed(session: StickySession, failure: unknown): void {
    const { statistics, events, logger, nodes } = this.#context
    session.storedId = undefined
    statistics.increment('numBackupFailures')
    const error = failure ?? new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', 'No node is available.')
    const hash = hashSessionId(session.id)
    const node = nodes.ofSession(session.id)?.address.label
    events.emit('backupFailed', { session: hash, error, ...(node === undefined ? {} : { node }) })
    // With all nodes down the outage itself has been logged, and the backups are written when a node is back.
    if (failure !== undefined && !isUnavailable(failure)) {
      logger.warn(`Could not store session ${hash} on ${node}: ${failure instanceof Error ? failure.message : failure}`)
    }
  }

  async #deleteStale(session: StickySession): Promise<void> {
    const { nodes, keys, logger } = this.#context
    const ids = session.staleIds ?? []
    session.staleIds = undefined
    for (const id of ids) {
      if (session.isValid && id === session.id) continue
      const node = nodes.ofSession(id)
      if (!node) continue
      const key = keys.session(id)
      try {
        await node.delete(key)
      } catch (error) {
        if (isUnavailable(error)) this.#deleteLater(node, key)
        else logger.warn(`Could not delete session ${hashSessionId(id)} from ${node.address.label}.`)
      }
      if (session.takenOver?.id === id) session.takenOver = undefined
    }
  }

  #deleteLater(node: StorageNode, key: string): void {
    let keys = this.#pendingDeletes.get(node)
    if (!keys) {
      keys = new Set()
      this.#pendingDeletes.set(node, keys)
    }
    if (keys.size < MAX_PENDING_DELETES) keys.add(key)
  }
}
