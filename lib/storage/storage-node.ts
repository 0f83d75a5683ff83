import { messageOf, SessionManagerError } from '../errors.ts'
import type { NodeAddress, StorageClient, StoredItem, SwapResult } from '../ports.ts'

const MAX_KEY_BYTES = 250
/** Printable ASCII without space: all that memcached allows in a key, and all that MSM writes. */
const KEY = /^[\x21-\x7e]+$/

/** Milliseconds by which a timer is late only if this process did not run meanwhile. */
const STOPPED = 100
/** Milliseconds in which answers that came meanwhile are read then. */
const GRACE = 250

export interface StorageNodeOptions {
  /** Milliseconds; read for every operation, so that it can change at run time. */
  operationTimeout: number
  /** Bytes; a larger value is refused before it is sent, as an oversize `set` makes memcached drop the old value. */
  maxItemSize: number
}

/** Told about every operation that ended, and about the node's state. */
export interface StorageNodeObserver {
  operation(node: StorageNode, failed: boolean, timedOut: boolean): void
  down(node: StorageNode, error: unknown): void
}

/**
 * The guard around the StorageClient of one node: every operation has a deadline of `operationTimeout` whatever the
 * client does, bad keys, values and expiries never reach the client, and a node that is known to be down is not asked.
 */
export class StorageNode {
  readonly address: NodeAddress
  readonly #client: StorageClient
  readonly #options: StorageNodeOptions
  readonly #observer: StorageNodeObserver
  #available = true
  #since = Date.now()
  #operations = 0
  #underWay = 0
  #onIdle: (() => void)[] = []
  #failures = 0

  constructor(address: NodeAddress, client: StorageClient, options: StorageNodeOptions, observer: StorageNodeObserver) {
    this.address = address
    this.#client = client
    this.#options = options
    this.#observer = observer
  }

  get id(): string | undefined {
    return this.address.nodeId
  }

  get isAvailable(): boolean {
    return this.#available
  }

  /** Epoch milliseconds of the last change of state. */
  get since(): number {
    return this.#since
  }

  get operations(): number {
    return this.#operations
  }

  get failures(): number {
    return this.#failures
  }

  get(key: string): Promise<StoredItem | undefined> {
    const refused = this.#check(key)
    return refused ?? this.#guard(this.#client.get(key))
  }

  /** The items under several keys of one session, in their order. */
  getMany(keys: readonly string[]): Promise<(StoredItem | undefined)[]> {
    if (!this.#client.getMany) return Promise.all(keys.map((key) => this.get(key)))
    for (const key of keys) {
      const refused = this.#check(key)
      if (refused) return refused
    }
    return this.#guard(this.#client.getMany(keys))
  }

  set(key: string, value: Buffer, ttl: number): Promise<void> {
    const refused = this.#check(key, value, ttl)
    return refused ?? this.#guard(this.#client.set(key, value, ttl))
  }

  add(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const refused = this.#check(key, value, ttl)
    return refused ?? this.#guard(this.#client.add(key, value, ttl))
  }

  replace(key: string, value: Buffer, ttl: number): Promise<boolean> {
    const refused = this.#check(key, value, ttl)
    return refused ?? this.#guard(this.#client.replace(key, value, ttl))
  }

  compareAndSwap(key: string, value: Buffer, ttl: number, version: unknown): Promise<SwapResult> {
    const refused = this.#check(key, value, ttl)
    return refused ?? this.#guard(this.#client.compareAndSwap(key, value, ttl, version))
  }

  delete(key: string): Promise<boolean> {
    const refused = this.#check(key)
    return refused ?? this.#guard(this.#client.delete(key))
  }

  deleteIfEquals(key: string, value: Buffer): Promise<boolean> {
    const refused = this.#check(key, value)
    return refused ?? this.#guard(this.#client.deleteIfEquals(key, value))
  }

  touch(key: string, ttl: number): Promise<boolean> {
    const refused = this.#check(key, undefined, ttl)
    return refused ?? this.#guard(this.#client.touch(key, ttl))
  }

  /** Asks for a sign of life, also while the node counts as down. Does not change its state but for a failure. */
  probe(): Promise<string> {
    return this.#guard(this.#client.probe())
  }

  markUp(): void {
    if (this.#available) return
    this.#available = true
    this.#since = Date.now()
  }

  markDown(error: unknown): void {
    if (!this.#available) return
    this.#available = false
    this.#since = Date.now()
    this.#observer.down(this, error)
  }

  /** Closes the client when what is under way has ended, which takes no longer than `operationTimeout`. */
  async close(): Promise<void> {
    if (this.#underWay > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve))
    await this.#client.close()
  }

  /** A rejected promise if the operation must not be sent, undefined if it may. */
  #check(key: string, value?: Buffer, ttl?: number): Promise<never> | undefined {
    if (!this.#available) {
      return Promise.reject(
        new SessionManagerError('ERR_MSM_NODE_UNAVAILABLE', `The node ${this.address.label} is down.`),
      )
    }
    let problem: string | undefined
    if (key.length === 0 || key.length > MAX_KEY_BYTES || !KEY.test(key)) {
      problem = `a key must be 1 to ${MAX_KEY_BYTES} printable ASCII characters without spaces`
    } else if (value && value.length > this.#options.maxItemSize) {
      problem = `the value has ${value.length} bytes, more than an item may have (${this.#options.maxItemSize})`
    } else if (ttl !== undefined && !(Number.isSafeInteger(ttl) && ttl >= 0)) {
      problem = `the expiry must be a whole number of seconds, 0 or more, not ${ttl}`
    }
    if (problem === undefined) return undefined
    return Promise.reject(
      new SessionManagerError('ERR_MSM_INVALID_ITEM', `Not sent to ${this.address.label}: ${problem}.`),
    )
  }

  #guard<T>(operation: Promise<T>): Promise<T> {
    this.#operations++
    this.#underWay++
    return new Promise<T>((resolve, reject) => {
      const timeout = this.#options.operationTimeout
      const start = performance.now()
      let settled = false
      let timer: NodeJS.Timeout
      const wasStopped = (): boolean => performance.now() - start > timeout + STOPPED
      const onTimeout = (): void => {
        if (settled) return
        settled = true
        this.#ended()
        const error = new SessionManagerError(
          'ERR_MSM_TIMEOUT',
          `The node ${this.address.label} did not answer within operationTimeout (${timeout} ms).`,
        )
        this.#failed(error, true)
        // The late reply would be taken for the answer to a later request: that connection is never used again.
        this.#client.reset()
        reject(error)
      }
      timer = setTimeout(() => {
        // It was this process that did not run (SIGSTOP, a long garbage collection): the answer may be there to be read.
        if (wasStopped()) timer = setTimeout(onTimeout, Math.min(timeout, GRACE))
        else onTimeout()
      }, timeout)
      operation.then(
        (value) => {
          if (settled) return
          settled = true
          clearTimeout(timer)
          this.#ended()
          this.#observer.operation(this, false, false)
          resolve(value)
        },
        (error) => {
          if (settled) return
          settled = true
          clearTimeout(timer)
          this.#ended()
          // After a stop the client may have given up by itself. That says nothing of the node: the next probe will.
          this.#failed(error, false, wasStopped())
          reject(error)
        },
      )
    })
  }

  #ended(): void {
    this.#underWay--
    if (this.#underWay > 0 || this.#onIdle.length === 0) return
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  #failed(error: unknown, timedOut: boolean, wasStopped = false): void {
    this.#failures++
    this.#observer.operation(this, true, timedOut)
    const refused = error instanceof SessionManagerError && error.code === 'ERR_MSM_STORAGE_REFUSED'
    if (!refused && !wasStopped) this.markDown(error)
  }
}

/** True if an operation failed because its node can't be reached, rather than because the node refused it. */
export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof SessionManagerError)) return true
  return error.code === 'ERR_MSM_TIMEOUT' || error.code === 'ERR_MSM_NODE_UNAVAILABLE'
}

export function describeFailure(node: StorageNode, error: unknown): string {
  return `${node.address.label}: ${messageOf(error)}`
}
