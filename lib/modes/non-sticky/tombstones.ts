import { SessionManagerError } from '../../errors.ts'
import type { SessionContext } from '../../session-context.ts'

const VALUE = Buffer.from('destroyed')
/** Seconds by which a leftover may be younger: who wrote it was stopped for a while, or its clock is ahead. */
const MARGIN = 60
/** Seconds. */
const MAX_LIFETIME = 86_400

/**
 * Says on every node that a session was destroyed, so that this is told from "lost with its node", and what a node that
 * was away still holds does not come back. It lasts as long as such a leftover counts as alive.
 */
export class Tombstones {
  readonly #context: SessionContext

  constructor(context: SessionContext) {
    this.#context = context
  }

  /** @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE if no node took it */
  async set(base: string, maxInactiveInterval: number): Promise<void> {
    const lifetime = maxInactiveInterval <= 0 ? MAX_LIFETIME : maxInactiveInterval
    const ttl = Math.min(MAX_LIFETIME, lifetime + MARGIN)
    const key = this.#context.keys.tombstone(base)
    const written = await Promise.allSettled(this.#available().map((node) => node.set(key, VALUE, ttl)))
    if (!written.some(({ status }) => status === 'fulfilled')) {
      throw new SessionManagerError('ERR_MSM_STORAGE_UNAVAILABLE', 'No node is there to end the session on.', {
        status: 503,
      })
    }
  }

  /** True if any node says so. */
  async has(base: string): Promise<boolean> {
    const key = this.#context.keys.tombstone(base)
    const answers = await Promise.all(this.#available().map((node) => node.get(key).catch(() => undefined)))
    return answers.some((item) => item !== undefined)
  }

  #available() {
    return [...this.#context.nodes.all()].filter((node) => node.isAvailable)
  }
}
