import { messageOf } from '../../errors.ts'
import { decodeValidityInfo, encodeValidityInfo, type ValidityInfo } from '../../records/validity-info.ts'
import type { SessionContext } from '../../session-context.ts'
import { sessionExpiration, validityExpiration } from '../../storage/expiration.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import type { SecondCopies } from './second-copies.ts'

/** Milliseconds for which it is checked after trouble with a node that session and copy are where they should be. */
const CHECK_AFTER_TROUBLE = 1_800_000
/** Parts of the idle time in each of which the first request makes sure that the record outlives the session. */
const PARTS = 4

/** The use of a session that has to be noted in the store. */
export interface NotedUse {
  readonly id: string
  /** As it was before this request; undefined if the store had none. */
  readonly before: ValidityInfo | undefined
  readonly now: ValidityInfo
  /** True if the request has written the copies, which say so already. */
  readonly isCopied: boolean
}

/**
 * Keeps sessions alive that are used but not changed: refreshes the validity info, and from time to time the expiry of
 * the record and its copy. Nothing is created by it that was not there, so that no destroyed session comes back.
 */
export class IdleTime {
  readonly #context: SessionContext
  readonly #copies: SecondCopies

  constructor(context: SessionContext, copies: SecondCopies) {
    this.#context = context
    this.#copies = copies
  }

  /** True if it was noted so recently that it need not be noted again, and no copy can have been lost since. */
  isFresh(before: ValidityInfo | undefined, now: number): boolean {
    if (!before || this.#context.nodes.monitor.lastTrouble > before.thisAccessedTime) return false
    const { touchAfterSeconds } = this.#context.options
    const limit =
      before.maxInactiveInterval > 0 ? Math.min(touchAfterSeconds, before.maxInactiveInterval / 10) : touchAfterSeconds
    return Math.abs(now - before.thisAccessedTime) < limit * 1000
  }

  /** Notes a use of a session, in the background. */
  note(use: NotedUse): void {
    this.#copies.run(this.#note(use))
  }

  /** Notes the use of a session whose record nobody asked for. */
  touch(id: string): void {
    const node = this.#context.nodes.ofSession(id)
    if (node?.isAvailable) this.#copies.run(this.#touch(node, id))
  }

  async #touch(node: StorageNode, id: string): Promise<void> {
    const { keys, statistics } = this.#context
    const start = performance.now()
    const item = await node.get(keys.validity(id))
    if (!item) return
    const before = decodeValidityInfo(item.value)
    const now = Date.now()
    if (this.isFresh(before, now)) return
    const { maxInactiveInterval, thisAccessedTime } = before
    await this.#note({
      id,
      before,
      now: { maxInactiveInterval, lastAccessedTime: thisAccessedTime, thisAccessedTime: now },
      isCopied: false,
    })
    statistics.record('nonStickyOnBackupWithoutLoadedSession', performance.now() - start)
  }

  async #note(use: NotedUse): Promise<void> {
    const { nodes, keys, statistics, logger } = this.#context
    const { id, now } = use
    const start = performance.now()
    const node = nodes.ofSession(id)
    if (!node?.isAvailable) return
    const validity = encodeValidityInfo(now)
    const ttl = validityExpiration(now.maxInactiveInterval)
    const recordTtl = sessionExpiration(now.maxInactiveInterval)
    const copyNode = this.#copies.nodeFor(id)
    const isDue = this.#isDue(use)
    try {
      const isThere = await node.replace(keys.validity(id), validity, ttl)
      if (!isThere || isDue) {
        if (!(await node.touch(keys.session(id), recordTtl))) {
          statistics.increment('numNonStickySessionsPingFailed')
          return
        }
        if (!isThere) await node.set(keys.validity(id), validity, ttl)
      }
    } catch (error) {
      // The next request finds the copy, or the node back.
      logger.debug?.(`Could not note the use of a session: ${messageOf(error)}`)
    }
    if (!copyNode || (use.isCopied && !isDue)) return
    await copyNode.set(keys.validityBackup(id), validity, ttl)
    if (isDue && !(await copyNode.touch(keys.backup(id), recordTtl))) {
      const item = await node.get(keys.session(id))
      if (item) await copyNode.add(keys.backup(id), item.value, recordTtl)
    }
    statistics.record('nonStickyAfterBackup', performance.now() - start)
  }

  /**
   * True for the first request in each part of the idle time: a record lives for twice the idle time, so it never
   * expires under a session in use; and after trouble with a node, as session or copy may be missing there.
   */
  #isDue({ before, now }: NotedUse): boolean {
    const { nodes } = this.#context
    if (before?.maxInactiveInterval !== now.maxInactiveInterval) return true
    const part = (now.maxInactiveInterval * 1000) / PARTS
    if (part > 0 && Math.floor(before.thisAccessedTime / part) !== Math.floor(now.thisAccessedTime / part)) return true
    if (nodes.config.nodeIds.length < 2) return false
    return nodes.hadTrouble(CHECK_AFTER_TROUBLE)
  }
}
