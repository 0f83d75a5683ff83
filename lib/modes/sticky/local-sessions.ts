import type { StickySession } from './sticky-session.ts'

/** Entries looked at before other work gets its turn: well under a millisecond. */
const SLICE = 500
/** How many destroyed sessions are remembered, and for how long in milliseconds. */
const MAX_TOMBSTONES = 100_000
const TOMBSTONE_LIFETIME = 3_600_000
/** Milliseconds by which a store may be late with an expiry. */
const LATE = 2000

/**
 * The sessions this process holds, by the part of the id that never changes, so that a request that still has the id
 * of before a relocation or takeover finds its session.
 */
export class LocalSessions {
  readonly #sessions = new Map<string, StickySession>()
  readonly #destroyed = new Map<string, number>()
  /** Ids of expired sessions whose copy the store may still have, and until when. */
  readonly #expired = new Map<string, number>()
  /** The sessions that took the place of destroyed ones, for a few seconds. */
  readonly #successors = new Map<string, StickySession>()

  get size(): number {
    return this.#sessions.size
  }

  get(base: string): StickySession | undefined {
    return this.#sessions.get(base)
  }

  add(session: StickySession): void {
    this.#sessions.set(session.base, session)
  }

  /** Removes the session; if it was destroyed, a write that arrives late in the store won't bring it back here. */
  remove(session: StickySession, destroyed: boolean): void {
    if (this.#sessions.get(session.base) === session) this.#sessions.delete(session.base)
    if (!destroyed) return
    this.#destroyed.set(session.base, Date.now() + TOMBSTONE_LIFETIME)
    if (this.#destroyed.size > MAX_TOMBSTONES) {
      for (const oldest of this.#destroyed.keys()) {
        this.#destroyed.delete(oldest)
        break
      }
    }
  }

  /**
   * Removes a session that has expired. The store has its copy for one sweep more, which must not bring it back. If it has
   * one for longer, or under another id, then another process has used the session meanwhile.
   */
  expire(session: StickySession, sweepSeconds: number): void {
    this.remove(session, false)
    const now = Date.now()
    this.#expired.set(session.id, now + sweepSeconds * 1000 + LATE)
    for (const [id, until] of this.#expired) {
      if (until > now && this.#expired.size <= MAX_TOMBSTONES) break
      this.#expired.delete(id)
    }
  }

  /** True for the id of a session that has expired here and that no other process can have used since. */
  hasExpired(id: string): boolean {
    const until = this.#expired.get(id)
    return until !== undefined && until > Date.now()
  }

  /** Requests for the first session get the second one for some seconds. */
  alias(base: string, session: StickySession, seconds: number): void {
    this.#successors.set(base, session)
    setTimeout(() => this.#successors.delete(base), seconds * 1000).unref()
  }

  successorOf(base: string): StickySession | undefined {
    const session = this.#successors.get(base)
    return session?.isValid ? session : undefined
  }

  wasDestroyed(base: string): boolean {
    const until = this.#destroyed.get(base)
    if (until === undefined) return false
    if (until > Date.now()) return true
    this.#destroyed.delete(base)
    return false
  }

  values(): Iterable<StickySession> {
    return this.#sessions.values()
  }

  /**
   * Calls `visit` for every session, in slices with other work in between. At most `concurrency` of the promises it
   * returns are pending at a time. Sessions added meanwhile may be visited or not.
   */
  async visit(concurrency: number, visit: (session: StickySession) => Promise<unknown> | undefined): Promise<void> {
    const pending = new Set<Promise<unknown>>()
    let seen = 0
    for (const session of this.#sessions.values()) {
      const work = visit(session)
      if (work) {
        const tracked: Promise<unknown> = work.catch(() => {}).then(() => pending.delete(tracked))
        pending.add(tracked)
        if (pending.size >= concurrency) await Promise.race(pending)
      }
      if (++seen % SLICE === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(pending)
  }
}
