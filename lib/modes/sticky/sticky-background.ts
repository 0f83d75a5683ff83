import { hashSessionId } from '../../ids/id-hash.ts'
import { extractNodeId } from '../../ids/session-id-format.ts'
import type { SessionContext } from '../../session-context.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import type { LocalSessions } from './local-sessions.ts'
import type { SessionBackup } from './session-backup.ts'
import type { StickySession } from './sticky-session.ts'

/** Storage operations of background work that are under way at a time: a bound on what a recovery costs a node. */
const CONCURRENCY = 16

/** What happens to sticky sessions between requests: expiry, refreshed expiries in the store, moves off and onto nodes. */
export class StickyBackground {
  readonly #context: SessionContext
  readonly #sessions: LocalSessions
  readonly #backup: SessionBackup
  readonly #expire: (session: StickySession) => void
  #timer: NodeJS.Timeout | undefined
  #runs = 0
  #running = false

  constructor(
    context: SessionContext,
    sessions: LocalSessions,
    backup: SessionBackup,
    expire: (session: StickySession) => void,
  ) {
    this.#context = context
    this.#sessions = sessions
    this.#backup = backup
    this.#expire = expire
  }

  start(): void {
    const { backgroundProcessorDelay } = this.#context.options
    this.#timer = setInterval(() => void this.#run(), backgroundProcessorDelay * 1000)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Stores the sessions of a node that went down on the nodes that are left, before their next request comes. */
  async leave(node: StorageNode): Promise<void> {
    await this.#sessions.visit(CONCURRENCY, (session) => {
      if (extractNodeId(session.id) !== node.id || this.#context.nodes.isAvailable(node.id ?? '')) return undefined
      if (!this.#backup.relocate(session)) session.storedId = undefined
      else return this.#backup.store(session)
      return undefined
    })
  }

  /** Stores on a node that is back what it should have: it may have come back empty. */
  async refill(node: StorageNode): Promise<void> {
    await this.#backup.recovered(node)
    await this.#sessions.visit(CONCURRENCY, (session) => {
      const nodeId = extractNodeId(session.id)
      if (nodeId !== undefined && nodeId !== node.id && session.storedId !== undefined) return undefined
      if (nodeId === undefined && node.id !== undefined) return this.#backup.store(session)
      if (nodeId === node.id && session.storedId === session.id) return this.#addIfMissing(node, session)
      return this.#backup.store(session)
    })
  }

  async #addIfMissing(node: StorageNode, session: StickySession): Promise<void> {
    const { keys } = this.#context
    const there = await node.touch(keys.session(session.id), this.#backup.expirationOf(session, Date.now()))
    if (!there) await this.#backup.store(session)
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    const { processExpiresFrequency, backgroundProcessorDelay, enabled } = this.#context.options
    this.#runs = (this.#runs + 1) % processExpiresFrequency
    const expires = this.#runs === 0
    const now = Date.now()
    try {
      await this.#sessions.visit(CONCURRENCY, (session) => {
        if (expires && session.isExpired(now)) {
          this.#expire(session)
          return undefined
        }
        if (now - session.thisAccessedTime > backgroundProcessorDelay * 1000) session.compact()
        return enabled && this.#needsRefresh(session, now) ? this.#refresh(session) : undefined
      })
    } finally {
      this.#running = false
    }
  }

  /** True if the session was used since it was stored, and its copy would expire before the run after next. */
  #needsRefresh(session: StickySession, now: number): boolean {
    if (session.storedId === undefined || session.storedUntil === 0 || session.backup) return false
    if (session.isExpired(now)) return false
    const { backgroundProcessorDelay, processExpiresFrequency } = this.#context.options
    const left = session.storedUntil - Math.floor(now / 1000)
    const sweep = processExpiresFrequency * backgroundProcessorDelay
    return session.thisAccessedTime > session.lastBackupTime && left <= sweep + 2 * backgroundProcessorDelay
  }

  async #refresh(session: StickySession): Promise<void> {
    const { nodes, keys, logger } = this.#context
    const node = nodes.ofSession(session.id)
    if (!node?.isAvailable) return
    const now = Date.now()
    const ttl = this.#backup.expirationOf(session, now)
    const there = await node.touch(keys.session(session.id), ttl)
    if (there) session.storedUntil = ttl === 0 ? 0 : Math.floor(now / 1000) + ttl
    else if (session.isValid) {
      logger.debug?.(`The backup of session ${hashSessionId(session.id)} is gone, it is stored again.`)
      await this.#backup.store(session)
    }
  }
}
