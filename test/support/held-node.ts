import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import type { StorageClient } from '../../lib/ports.ts'

/** A node in memory that notes what it is asked, and whose `set` can be held back. */
export class HeldNode {
  readonly operations: string[] = []
  readonly client: StorageClient
  #gate: Promise<void> | undefined
  #open: () => void = () => {}

  constructor() {
    const memory = new MemoryStorageClient()
    const record = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
      this.operations.push(name)
      if (name === 'set') await this.#gate
      return run()
    }
    this.client = {
      get: (key) => record('get', () => memory.get(key)),
      set: (key, value, ttl) => record('set', () => memory.set(key, value, ttl)),
      add: (key, value, ttl) => record('add', () => memory.add(key, value, ttl)),
      replace: (key, value, ttl) => record('replace', () => memory.replace(key, value, ttl)),
      compareAndSwap: (key, value, ttl, version) =>
        record('compareAndSwap', () => memory.compareAndSwap(key, value, ttl, version)),
      delete: (key) => record('delete', () => memory.delete(key)),
      deleteIfEquals: (key, value) => record('deleteIfEquals', () => memory.deleteIfEquals(key, value)),
      touch: (key, ttl) => record('touch', () => memory.touch(key, ttl)),
      probe: () => memory.probe(),
      reset: () => memory.reset(),
      close: () => memory.close(),
    }
  }

  hold(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve
    })
  }

  release(): void {
    this.#gate = undefined
    this.#open()
  }
}
