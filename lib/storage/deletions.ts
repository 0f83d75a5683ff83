import { isUnavailable, type StorageNode } from './storage-node.ts'

/** Keys to delete on a node once it is back; more than this are left to expire. */
const MAX_PENDING = 100_000

/** Deletes keys: now, or when their node is back. */
export class Deletions {
  readonly #pending = new Map<StorageNode, Set<string>>()
  readonly #running = new Set<Promise<void>>()

  /** Begins to delete; failures are remembered. Resolves when the node has answered, or was found not to. */
  delete(node: StorageNode, key: string): Promise<void> {
    if (!node.isAvailable) {
      this.#later(node, key)
      return Promise.resolve()
    }
    const running = node
      .delete(key)
      .catch((error) => {
        if (isUnavailable(error)) this.#later(node, key)
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
    for (const key of keys ?? []) {
      if (!node.isAvailable) return
      keys!.delete(key)
      await this.delete(node, key)
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

  #later(node: StorageNode, key: string): void {
    let keys = this.#pending.get(node)
    if (!keys) {
      keys = new Set()
      this.#pending.set(node, keys)
    }
    if (keys.size < MAX_PENDING) keys.add(key)
  }
}
