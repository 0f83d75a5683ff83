/** As MSM has them: long enough for a burst, too short to be noticed. */
const LIFETIME = 500
const MAX_IDS = 2000

/**
 * Ids that no node knew a moment ago. A storm of requests with one of them is answered without asking the store each
 * time. An id that was given out never becomes one: ids are random, and not used again.
 */
export class UnknownIds {
  readonly #until = new Map<string, number>()

  has(id: string): boolean {
    const until = this.#until.get(id)
    if (until === undefined) return false
    if (performance.now() < until) return true
    this.#until.delete(id)
    return false
  }

  add(id: string): void {
    this.#until.delete(id)
    this.#until.set(id, performance.now() + LIFETIME)
    if (this.#until.size <= MAX_IDS) return
    for (const oldest of this.#until.keys()) {
      this.#until.delete(oldest)
      break
    }
  }
}
