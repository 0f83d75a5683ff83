import { decodeValidityInfo } from '../../records/validity-info.ts'
import type { SessionContext } from '../../session-context.ts'
import { sessionExpiration, validityExpiration } from '../../storage/expiration.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import type { SecondCopies } from './second-copies.ts'

/** Ids remembered, about 150 bytes each; beyond it the session that was not used for longest goes. */
const MAX_REMEMBERED = 100_000
/** Sessions that are copied at a time: a bound on what a recovery costs a node. */
const CONCURRENCY = 16

/**
 * Gives a node that came back the copies it should have. A restarted node is empty, and until the next request of a
 * session, which may come too late, nobody else would write its copy. For that each process remembers the ids of the
 * sessions it has served, nothing more of them.
 */
export class CopyRefill {
  readonly #context: SessionContext
  readonly #copies: SecondCopies
  /** When each was last served, in epoch milliseconds; the least recently served first. */
  readonly #served = new Map<string, number>()

  constructor(context: SessionContext, copies: SecondCopies) {
    this.#context = context
    this.#copies = copies
  }

  /** Remembers a session that was served. */
  served(id: string): void {
    if (this.#context.nodes.config.nodeIds.length < 2) return
    this.#served.delete(id)
    this.#served.set(id, Date.now())
    if (this.#served.size <= MAX_REMEMBERED) return
    for (const oldest of this.#served.keys()) {
      this.#served.delete(oldest)
      break
    }
  }

  forget(id: string): void {
    this.#served.delete(id)
  }

  /** Writes the copies that a node which is back does not have, a few at a time. */
  async refill(node: StorageNode): Promise<void> {
    const pending = new Set<Promise<void>>()
    for (const [id, at] of this.#served) {
      const { maxInactiveInterval } = this.#context.options
      if (maxInactiveInterval > 0 && Date.now() - at > maxInactiveInterval * 1000) {
        this.#served.delete(id)
        continue
      }
      if (!node.isAvailable) return
      if (this.#copies.nodeFor(id) !== node) continue
      const copying = this.#copy(node, id)
        .catch(() => {})
        .then(() => {
          pending.delete(copying)
        })
      pending.add(copying)
      if (pending.size >= CONCURRENCY) await Promise.race(pending)
    }
    await Promise.all(pending)
  }

  async #copy(node: StorageNode, id: string): Promise<void> {
    const { nodes, keys } = this.#context
    const own = nodes.ofSession(id)
    if (!own?.isAvailable) return
    const [record, validity, copy] = await Promise.all([
      own.get(keys.session(id)),
      own.get(keys.validity(id)),
      node.get(keys.backup(id)),
    ])
    if (!record || !validity || copy?.value.equals(record.value)) return
    const { maxInactiveInterval } = decodeValidityInfo(validity.value)
    // Only what is missing or old: who serves the session at this moment writes its copy by itself.
    const ttl = sessionExpiration(maxInactiveInterval)
    if (copy) await node.compareAndSwap(keys.backup(id), record.value, ttl, copy.version)
    else await node.add(keys.backup(id), record.value, ttl)
    await node.set(keys.validityBackup(id), validity.value, validityExpiration(maxInactiveInterval))
  }
}
