import { randomUUID } from 'node:crypto'
import { SessionManagerError } from '../../lib/errors.ts'
import type { StorageClient, StorageClientFactory, StoredItem, SwapResult } from '../../lib/ports.ts'

/** What an item takes besides its key and value; an estimate. */
const ITEM_OVERHEAD = 120
/** How many items each write looks at for expired ones: more than one, so that the sweep outruns the writers. */
const SWEEP_STEPS = 2

export interface MemoryStorageOptions {
  /** Number of items; beyond it the least recently used one goes. @default 100_000 */
  maxItems?: number
  /** Bytes of keys and values; beyond it the least recently used items go. @default 268_435_456 (256 MiB) */
  maxBytes?: number
}

interface Entry {
  readonly value: Buffer
  readonly version: number
  /** On the monotonic clock, in milliseconds. */
  expiresAt: number
}

/**
 * A store in the memory of the process that behaves as a memcached server does, with a bound on its size. Several
 * clients may share one; `stop` and `start` act a server that goes down and comes back.
 *
 * @throws TypeError for a bound that is not a positive whole number.
 */
export class MemoryStore {
  readonly #maxItems: number
  readonly #maxBytes: number
  /** In the order of use, the least recently used first. */
  readonly #entries = new Map<string, Entry>()
  #bytes = 0
  #lastVersion = 0
  #running = true
  #identity: string = randomUUID()
  #sweep: Iterator<[string, Entry]> = this.#entries.entries()

  constructor({ maxItems = 100_000, maxBytes = 256 * 1024 * 1024 }: MemoryStorageOptions = {}) {
    this.#maxItems = positiveInteger('maxItems', maxItems)
    this.#maxBytes = positiveInteger('maxBytes', maxBytes)
  }

  /** Number of items, expired ones that are not yet swept included. */
  get size(): number {
    return this.#entries.size
  }

  /** Changes whenever the store lost what it held. */
  get identity(): string {
    return this.#identity
  }

  get isRunning(): boolean {
    return this.#running
  }

  stop(): void {
    this.#running = false
  }

  /** Comes back as it was, or, if `empty`, as a server that was restarted. */
  start({ empty = false }: { empty?: boolean } = {}): void {
    if (empty) {
      this.#entries.clear()
      this.#bytes = 0
      this.#identity = randomUUID()
    }
    this.#running = true
  }

  /** The entry, which then is the most recently used one; undefined if there is none or it has expired. */
  find(key: string): Entry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    if (entry.expiresAt <= performance.now()) {
      this.#bytes -= sizeOf(key, entry.value)
      return undefined
    }
    this.#entries.set(key, entry)
    return entry
  }

  put(key: string, value: Buffer, ttl: number): void {
    const size = sizeOf(key, value)
    if (size > this.#maxBytes) {
      throw new SessionManagerError(
        'ERR_MSM_STORAGE_REFUSED',
        `The memory store holds ${this.#maxBytes} bytes at most, too few for a value of ${value.length} bytes.`,
      )
    }
    this.remove(key)
    // The caller may go on using its buffer.
    this.#entries.set(key, { value: Buffer.from(value), version: ++this.#lastVersion, expiresAt: expiry(ttl) })
    this.#bytes += size
    this.#removeExpired()
    while (this.#bytes > this.#maxBytes || this.#entries.size > this.#maxItems) {
      this.remove(this.#entries.keys().next().value!)
    }
  }

  remove(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    this.#bytes -= sizeOf(key, entry.value)
  }

  /** Goes on where the last write stopped, so that no timer is needed and no write walks the whole map. */
  #removeExpired(): void {
    const now = performance.now()
    for (let step = 0; step < SWEEP_STEPS; step++) {
      const { done, value } = this.#sweep.next()
      if (done) {
        this.#sweep = this.#entries.entries()
        return
      }
      if (value[1].expiresAt <= now) this.remove(value[0])
    }
  }
}

/** The StorageClient of a {@link MemoryStore}. Without `store` it has one of its own. */
export class MemoryStorageClient implements StorageClient {
  readonly #store: MemoryStore
  #closed = false

  constructor(options: MemoryStorageOptions & { store?: MemoryStore } = {}) {
    this.#store = options.store ?? new MemoryStore(options)
  }

  async get(key: string): Promise<StoredItem | undefined> {
    const entry = this.#open().find(key)
    // A copy, as what is decoded from it may be a view on it.
    return entry && { value: Buffer.from(entry.value), version: entry.version }
  }

  async set(key: string, value: Buffer, ttl: number): Promise<void> {
    this.#open().put(key, value, ttl)
  }

  async add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const store = this.#open()
    if (store.find(key)) return false
    store.put(key, value, ttl)
    return true
  }

  async replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const store = this.#open()
    if (!store.find(key)) return false
    store.put(key, value, ttl)
    return true
  }

  async compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const store = this.#open()
    const entry = store.find(key)
    if (!entry) return 'missing'
    if (entry.version !== version) return 'conflict'
    store.put(key, value, ttl)
    return 'stored'
  }

  async delete(key: string): Promise<boolean> {
    const store = this.#open()
    const found = store.find(key) !== undefined
    store.remove(key)
    return found
  }

  async deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    const store = this.#open()
    if (!store.find(key)?.value.equals(value)) return false
    store.remove(key)
    return true
  }

  async touch(key: string, ttl: number): Promise<boolean> {
    const entry = this.#open().find(key)
    if (!entry) return false
    entry.expiresAt = expiry(ttl)
    return true
  }

  async probe(): Promise<string> {
    return this.#open().identity
  }

  reset(): void {}

  async close(): Promise<void> {
    this.#closed = true
  }

  /** Acts a server that is down: every call rejects with `ERR_MSM_NODE_UNAVAILABLE` until `start`. */
  stop(): void {
    this.#store.stop()
  }

  /** Acts a server that comes back, with what it held or, if `empty`, restarted. */
  start(options?: { empty?: boolean }): void {
    this.#store.start(options)
  }

  #open(): MemoryStore {
    if (this.#closed) throw new SessionManagerError('ERR_MSM_STATE', 'This memory storage client is closed.')
    if (!this.#store.isRunning)
      throw new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', 'The memory store is stopped.')
    return this.#store
  }
}

/** Makes a store in the memory of the process, which dies with it. */
export const memoryStorage: StorageClientFactory = () => new MemoryStorageClient()

function sizeOf(key: string, value: Buffer): number {
  return key.length + value.length + ITEM_OVERHEAD
}

function expiry(ttl: number): number {
  return ttl === 0 ? Number.POSITIVE_INFINITY : performance.now() + ttl * 1000
}

function positiveInteger(name: string, value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) return value as number
  throw new TypeError(`${name}: ${String(value)} is not valid. It must be a whole number greater than 0.`)
}
