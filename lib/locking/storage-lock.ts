import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isUnavailable, type StorageNode } from '../storage/storage-node.ts'

/** Milliseconds between two attempts to take a lock: doubling from the first to the second, with full jitter. */
const FIRST_RETRY = 10
const LAST_RETRY = 500

/**
 * A lock in a store: an item that only one can add, which holds its owner's token and expires by itself. A lease is no
 * proof of exclusion, as its owner may be stopped for longer; what is written under it is fenced by versions besides.
 */
export class StorageLock {
  readonly #node: StorageNode
  readonly #key: string
  readonly #token: Buffer
  readonly #expiration: number
  readonly #onLost: () => void
  #renewal: NodeJS.Timeout | undefined
  #isHeld = true
  /** On the monotonic clock: until then nobody else can have it. */
  #leaseEnd: number

  private constructor(
    node: StorageNode,
    key: string,
    token: Buffer,
    expiration: number,
    asked: number,
    onLost: () => void,
  ) {
    this.#node = node
    this.#key = key
    this.#token = token
    this.#expiration = expiration
    this.#onLost = onLost
    this.#leaseEnd = asked + expiration * 1000
    this.#scheduleRenewal()
  }

  /**
   * Takes the lock, waiting for it for at most `timeout` milliseconds; undefined if it was not to be had.
   * @throws SessionManagerError if the node does not answer
   */
  static async take(
    node: StorageNode,
    key: string,
    expiration: number,
    timeout: number,
    onLost: () => void,
  ): Promise<StorageLock | undefined> {
    const token = Buffer.from(randomBytes(12).toString('base64url'))
    const start = performance.now()
    for (let delay = FIRST_RETRY; ; delay = Math.min(2 * delay, LAST_RETRY)) {
      const asked = performance.now()
      if (await add(node, key, token, expiration)) return new StorageLock(node, key, token, expiration, asked, onLost)
      const left = start + timeout - performance.now()
      if (left <= 0) return undefined
      await sleep(Math.min(left, 1 + Math.random() * delay))
    }
  }

  get isHeld(): boolean {
    return this.#isHeld && performance.now() < this.#leaseEnd
  }

  /** Gives the lock up, if it is still ours. */
  async release(): Promise<void> {
    clearTimeout(this.#renewal)
    if (!this.#isHeld) return
    this.#isHeld = false
    await this.#node.deleteIfEquals(this.#key, this.#token)
  }

  #scheduleRenewal(): void {
    this.#renewal = setTimeout(() => void this.#renew(), (this.#expiration * 1000) / 3)
    this.#renewal.unref()
  }

  async #renew(): Promise<void> {
    const asked = performance.now()
    try {
      const item = await this.#node.get(this.#key)
      if (!this.#isHeld) return
      const isOurs = item?.value.equals(this.#token) === true
      // A swap, not a touch: between the two somebody else may have got it.
      const result = isOurs
        ? await this.#node.compareAndSwap(this.#key, this.#token, this.#expiration, item.version)
        : 'missing'
      if (!this.#isHeld) return
      if (result !== 'stored') {
        this.#isHeld = false
        this.#onLost()
        return
      }
      this.#leaseEnd = asked + this.#expiration * 1000
    } catch {
      // The node is slow or gone; the lease lasts until its end, and the next renewal may get through.
    }
    if (this.#isHeld) this.#scheduleRenewal()
  }
}

/** Adds the lock; after an answer that did not come, looks whether it was added. */
async function add(node: StorageNode, key: string, token: Buffer, expiration: number): Promise<boolean> {
  try {
    return await node.add(key, token, expiration)
  } catch (error) {
    if (!isUnavailable(error) || !node.isAvailable) throw error
    return (await node.get(key))?.value.equals(token) === true
  }
}
