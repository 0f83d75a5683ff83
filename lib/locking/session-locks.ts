import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf, SessionManagerError } from '../errors.ts'
import { hashSessionId } from '../ids/id-hash.ts'
import { extractBase } from '../ids/session-id-format.ts'
import type { SessionContext } from '../session-context.ts'
import { isUnavailable } from '../storage/storage-node.ts'
import { LockQueue } from './lock-queue.ts'
import type { SessionLock } from './session-lock.ts'
import { StorageLock } from './storage-lock.ts'

/** Milliseconds for which the requests of one process hand the lock on among themselves, if others may be waiting. */
const MAX_HOLD = 200
/** Milliseconds a process then leaves the lock to the others before it asks again. */
const YIELD = 40

/** The lock in the store that the requests of this process hand on to each other. */
interface Held {
  readonly lock: StorageLock
  readonly since: number
}

/**
 * The locks of sessions, exclusive for a request, in this process as across processes. The requests of one process
 * queue in memory, first in first out, and only the first of them talks to the store, if there is one (`inStore`).
 */
export class SessionLocks {
  readonly #context: SessionContext
  readonly #inStore: boolean
  readonly #queue = new LockQueue()
  readonly #held = new Map<string, Held>()
  readonly #releasing = new Set<Promise<unknown>>()
  readonly #yielding = new Map<string, number>()

  constructor(context: SessionContext, inStore: boolean) {
    this.#context = context
    this.#inStore = inStore
  }

  /**
   * Takes the lock of a session. Undefined if it was not to be had within `lockTimeoutMs`, or its node does not answer,
   * and the policy is to proceed.
   * @throws SessionManagerError ERR_MSM_LOCK_TIMEOUT with status 503 if the policy is to reject
   */
  async acquire(id: string): Promise<SessionLock | undefined> {
    const { options, statistics } = this.#context
    const start = performance.now()
    const base = extractBase(id)
    const lock = await this.#take(id, base, start, options.lockTimeoutMs)
    const waited = performance.now() - start
    if (lock) {
      statistics.record('nonStickyAcquireLock', waited)
      return lock
    }
    statistics.record('nonStickyAcquireLockFailure', waited)
    return this.#missed(id, waited)
  }

  /** Waits for the locks that are being given up. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#releasing])
  }

  async #take(id: string, base: string, start: number, timeout: number): Promise<SessionLock | undefined> {
    if (!(await this.#queue.enter(base, timeout))) return undefined
    if (!this.#inStore) return this.#grant(base, undefined)
    let held = this.#held.get(base)
    if (held && !held.lock.isHeld) {
      this.#held.delete(base)
      held = undefined
    }
    if (!held) {
      try {
        await this.#giveWay(base)
        held = await this.#takeInStore(id, timeout - (performance.now() - start))
      } catch (error) {
        this.#queue.leave(base)
        if (isUnavailable(error)) return undefined
        throw error
      }
      if (!held) {
        this.#queue.leave(base)
        return undefined
      }
      this.#held.set(base, held)
    }
    return this.#grant(base, held)
  }

  async #takeInStore(id: string, timeout: number): Promise<Held | undefined> {
    const { nodes, keys, options } = this.#context
    const node = nodes.ofSession(id)
    if (!node?.isAvailable) return undefined
    const session = hashSessionId(id)
    const lock = await StorageLock.take(node, keys.lock(id), options.lockExpiration, timeout, () =>
      this.#context.events.emit('lockLost', { session }),
    )
    return lock && { lock, since: performance.now() }
  }

  #grant(base: string, held: Held | undefined): SessionLock {
    let released = false
    return {
      get isHeld() {
        return !released && (held === undefined || held.lock.isHeld)
      },
      release: () => {
        if (released) return
        released = true
        if (held) this.#handOn(base, held)
        this.#queue.leave(base)
      },
    }
  }

  /** Keeps the lock for the next request in this process, unless others have waited long enough. */
  #handOn(base: string, held: Held): void {
    const isWaitedFor = this.#queue.hasWaiting(base)
    const isOverdue = performance.now() - held.since > MAX_HOLD
    if (isWaitedFor && held.lock.isHeld && !isOverdue) return
    this.#held.delete(base)
    const start = performance.now()
    const releasing = held.lock
      .release()
      .then(() => this.#context.statistics.record('nonStickyReleaseLock', performance.now() - start))
      .catch((error) => this.#context.logger.debug?.(`A lock is left to expire: ${messageOf(error)}`))
      .finally(() => this.#releasing.delete(releasing))
    this.#releasing.add(releasing)
    if (isWaitedFor && isOverdue) this.#yielding.set(base, performance.now() + YIELD * (0.5 + Math.random()))
  }

  async #giveWay(base: string): Promise<void> {
    const until = this.#yielding.get(base)
    if (until === undefined) return
    this.#yielding.delete(base)
    const left = until - performance.now()
    if (left > 0) await sleep(left)
  }

  #missed(id: string, waitedMs: number): undefined {
    const { events, logger, options } = this.#context
    const session = hashSessionId(id)
    const rejected = options.lockTimeoutPolicy === 'reject'
    events.emit('lockTimeout', { session, waitedMs: Math.round(waitedMs), rejected })
    const waited = `The lock of session ${session} was not to be had within ${Math.round(waitedMs)} ms`
    if (!rejected) {
      logger.debug?.(`${waited}; going on without it, changes are merged.`)
      return undefined
    }
    throw new SessionManagerError('ERR_MSM_LOCK_TIMEOUT', `${waited}. Another request of this session holds it.`, {
      status: 503,
      headers: { 'Retry-After': '1' },
    })
  }
}
