import { messageOf } from '../../errors.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import { extractNodeId } from '../../ids/session-id-format.ts'
import { lastBackupTimeOf } from '../../records/session-record.ts'
import type { SessionContext } from '../../session-context.ts'
import type { Deletions } from '../../storage/deletions.ts'
import { isUnavailable, type StorageNode } from '../../storage/storage-node.ts'

/** Milliseconds after which a copy counts as late: another process may have written a newer one meanwhile. */
const LATE = 100

/** The bytes of a session and of its validity info, with their expiries in seconds. */
export interface CopiedItems {
  readonly id: string
  readonly record: Buffer
  readonly recordTtl: number
  readonly validity: Buffer
  readonly validityTtl: number
}

/** The copies of sessions on the node after their own. They are written after the session, and no response waits for them. */
export class SecondCopies {
  readonly #context: SessionContext
  readonly #deletions: Deletions
  readonly #running = new Set<Promise<void>>()

  constructor(context: SessionContext, deletions: Deletions) {
    this.#context = context
    this.#deletions = deletions
  }

  /** The node that should have the copies of this session, undefined if there is no second one up. */
  nodeFor(id: string): StorageNode | undefined {
    const { nodes, selector } = this.#context
    const own = nodes.config.encodesNodeId ? extractNodeId(id) : undefined
    if (own === undefined) return undefined
    const next = selector.nextForCopy(own)
    return next === undefined ? undefined : nodes.get(next)
  }

  /** @param since when the session itself was sent, by `performance.now()` */
  write(items: CopiedItems, since: number): void {
    this.run(this.#write(items, since))
  }

  /** Work on copies, that `idle` waits for. */
  run(work: Promise<void>): void {
    const running = work
      .catch((error) => this.#context.logger.debug?.(`Work on a second copy failed: ${messageOf(error)}`))
      .then(() => {
        this.#running.delete(running)
      })
    this.#running.add(running)
  }

  /** Deletes the copies made under this id, wherever they may be. */
  async remove(id: string): Promise<void> {
    const { nodes, keys } = this.#context
    const own = nodes.ofSession(id)
    const deleted: Promise<void>[] = []
    if (!nodes.config.encodesNodeId) return
    for (const node of nodes.all()) {
      if (node === own) continue
      deleted.push(this.#deletions.delete(node, keys.backup(id)), this.#deletions.delete(node, keys.validityBackup(id)))
    }
    await Promise.all(deleted)
  }

  /** Pieces of work under way. */
  get size(): number {
    return this.#running.size
  }

  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all([...this.#running])
  }

  async #write(items: CopiedItems, since: number): Promise<void> {
    const { keys, logger } = this.#context
    // Each failure takes a node out, so this ends.
    for (let node = this.nodeFor(items.id); node; node = this.nodeFor(items.id)) {
      const key = keys.backup(items.id)
      const validityKey = keys.validityBackup(items.id)
      this.#deletions.cancel(node, key)
      this.#deletions.cancel(node, validityKey)
      try {
        const isLate = performance.now() - since > LATE
        await Promise.all([
          isLate ? putIfNewer(node, key, items.record, items.recordTtl) : node.set(key, items.record, items.recordTtl),
          node.set(validityKey, items.validity, items.validityTtl),
        ])
        return
      } catch (error) {
        if (isUnavailable(error)) continue
        logger.info(`Could not store secondary backup of session ${hashSessionId(items.id)}: ${messageOf(error)}`)
        return
      }
    }
  }
}

/** Stores a record unless a newer one of the same session is there. */
export async function putIfNewer(node: StorageNode, key: string, record: Buffer, ttl: number): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const there = await node.get(key)
    if (there && lastBackupTimeOf(there.value) >= lastBackupTimeOf(record)) return
    if (there) {
      const result = await node.compareAndSwap(key, record, ttl, there.version)
      if (result === 'stored') return
    } else if (await node.add(key, record, ttl)) return
  }
}
