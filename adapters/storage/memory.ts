import { SessionManagerError } from '../../lib/errors.ts'
import type { NodeAddress, StorageClient, StorageClientOptions, StoredItem, SwapResult } from '../../lib/ports.ts'

export interface MemoryStorageOptions {
  /** Items kept at most; the least recently used go first. @default 100000 */
  maxItems?: number
  /** Bytes of keys and values kept at most; the least recently used go first. @default 268435456 (256 MiB) */
  maxBytes?: number
}

interface Item {
  readonly value: Buffer
  readonly version: number
  /** Epoch milliseconds; Infinity for an item that never expires. */
  expires: number
}

/**
 * A node in the memory of this process: for development, for tests, and for apps of a single process. It can be stopped
 * and started like a server, with or without its content.
 */
export class MemoryStorageClient implements StorageClient {
  readonly #maxItems: number
  readonly #maxBytes: number
  readonly #items = new Map<string, Item>()
  #bytes = 0
  #versions = 0
  #running = true
  #starts = 1
  #closed = false

  /** @throws TypeError for a limit that is not a whole number, 1 or more */
  constructor(options: MemoryStorageOptions = {}) {
    this.#maxItems = limit('maxItems', options.maxItems ?? 100_000)
    this.#maxBytes = limit('maxBytes', options.maxBytes ?? 268_435_456)
  }

  get size(): number {
    return this.#items.size
  }

  /** From now on every operation fails as it does with a server that is down. */
  stop(): void {
    this.#running = false
  }

  /** Ends a `stop()`. The content is still there unless `empty` is set, as after the restart of a server. */
  start(options: { empty?: boolean } = {}): void {
    this.#running = true
    if (!options.empty) return
    this.#starts++
    this.#items.clear()
    this.#bytes = 0
  }

  async get(key: string): Promise<StoredItem | undefined> {
    const item = this.#find(key)
    return item && { value: Buffer.from(item.value), version: item.version }
  }

  async set(key: string, value: Buffer, ttl: number): Promise<void> {
    this.#check()
    this.#put(key, value, ttl)
  }

  async add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    if (this.#find(key)) return false
    this.#put(key, value, ttl)
    return true
  }

  async replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    if (!this.#find(key)) return false
    this.#put(key, value, ttl)
    return true
  }

  async compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const item = this.#find(key)
    if (!item) return 'missing'
    if (item.version !== version) return 'conflict'
    this.#put(key, value, ttl)
    return 'stored'
  }

  async delete(key: string): Promise<boolean> {
    const item = this.#find(key)
    if (item) this.#drop(key, item)
    return item !== undefined
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    const item = this.#find(key)
    if (!item?.value.equals(value)) return false
    this.#drop(key, item)
    return true
  }

  async touch(key: string, ttl: number): Promise<boolean> {
    const item = this.#find(key)
    if (item) item.expires = expiresAt(ttl)
    return item !== undefined
  }

  async probe(): Promise<string> {
    this.#check()
    return `memory ${this.#starts}`
  }

  reset(): void {}

  async close(): Promise<void> {
    this.#closed = true
    this.#items.clear()
    this.#bytes = 0
  }

  #check(): void {
    if (this.#closed) throw new SessionManagerError('ERR_MSM_STATE', 'This memory store was closed.')
    if (!this.#running) throw new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', 'This memory store was stopped.')
  }

  #find(key: string): Item | undefined {
    this.#check()
    const item = this.#items.get(key)
    if (!item) return undefined
    if (item.expires <= Date.now()) {
      this.#drop(key, item)
      return undefined
    }
    // The map's order is that of use: the first is the least recently used.
    this.#items.delete(key)
    this.#items.set(key, item)
    return item
  }

  #put(key: string, value: Buffer, ttl: number): void {
    const old = this.#items.get(key)
    if (old) this.#drop(key, old)
    this.#items.set(key, { value: Buffer.from(value), version: ++this.#versions, expires: expiresAt(ttl) })
    this.#bytes += key.length + value.length
    for (const [oldest, item] of this.#items) {
      if (this.#items.size <= this.#maxItems && this.#bytes <= this.#maxBytes) break
      this.#drop(oldest, item)
    }
  }

  #drop(key: string, item: Item): void {
    this.#items.delete(key)
    this.#bytes -= key.length + item.value.length
  }
}

/** Makes the in-process store of a node. */
export function memoryStorage(_address?: NodeAddress, _options?: StorageClientOptions): MemoryStorageClient {
  return new MemoryStorageClient()
}

function expiresAt(ttl: number): number {
  return ttl === 0 ? Number.POSITIVE_INFINITY : Date.now() + ttl * 1000
}

function limit(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new TypeError(`${name}: ${value} is not valid. It must be a whole number, 1 or more.`)
}
