import { lastBackupTimeOf } from '../records/session-record.ts'
import { isUnavailable, type StorageNode } from './storage-node.ts'

/** Keys to delete on a node once it is back; more than this are left to expire. */
const MAX_PENDING = 100_000

/** Deletes keys: now, or when their node is back. */
export class Deletions {
  readonly #pending = new Map<StorageNode, Map<string, number>>()
  readonly #running = new Set<Promise<void>>()

  /**
   * Begins to delete; failures are remembered. Resolves when the node has answered, or was found not to.
   * @param notNewerThan of a session record: one that was written later than this is left, as another process has gone on
   * with it that did not see the node fail
   */
  delete(node: StorageNode, key: string, notNewerThan: number = Number.POSITIVE_INFINITY): Promise<void> {
    if (!node.isAvailable) {
      this.#later(node, key, notNewerThan)
      return Promise.resolve()
    }
    const running = deleteFrom(node, key, notNewerThan)
      .catch((error) => {
        if (isUnavailable(error)) this.#later(node, key, notNewerThan)
      })
      .then(() => {
        this.#running.delete(running)
      })
    this.#running.add(running)
    return running
  }

  /** Deletes what could not be deleted while the node was down. */
  async recovered(node: StorageNode): Promise<void> {
    const keys = this.#pending.get(node)
    for (const [key, notNewerThan] of keys ?? []) {
      if (!node.isAvailable) return
      keys!.delete(key)
      await this.delete(node, key, notNewerThan)
    }
  }

  /** The key is wanted again. */
  cancel(node: StorageNode, key: string): void {
    this.#pending.get(node)?.delete(key)
  }

  /** Waits for what is under way. */
  async idle(): Promise<void> {
    await Promise.all([...this.#running])
  }

  #later(node: StorageNode, key: string, notNewerThan: number): void {
    let keys = this.#pending.get(node)
    if (!keys) {
      keys = new Map()
      this.#pending.set(node, keys)
    }
    if (keys.size < MAX_PENDING) keys.set(key, notNewerThan)
  }
}

async function deleteFrom(node: StorageNode, key: string, notNewerThan: number): Promise<void> {
  if (notNewerThan === Number.POSITIVE_INFINITY) {
    await node.delete(key)
    return
  }
  const item = await node.get(key)
  if (item && lastBackupTimeOf(item.value) <= notNewerThan) await node.deleteIfEquals(key, item.value)
}
