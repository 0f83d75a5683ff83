export interface ReadOnlyRequestsLimits {
  readonly maxReadOnly: number
  readonly maxModifying: number
  /** Milliseconds. */
  readonly lifetime: number
}

/** As MSM has them. */
const DEFAULTS: ReadOnlyRequestsLimits = { maxReadOnly: 1000, maxModifying: 50_000, lifetime: 6 * 60 * 60 * 1000 }

/** Keys with the time of their last use; the least recently used goes first, and all go after their lifetime. */
class RecentKeys {
  readonly #used = new Map<string, number>()
  readonly #limit: number
  readonly #lifetime: number

  constructor(limit: number, lifetime: number) {
    this.#limit = limit
    this.#lifetime = lifetime
  }

  has(key: string): boolean {
    const at = this.#used.get(key)
    if (at === undefined) return false
    if (performance.now() - at < this.#lifetime) return true
    this.#used.delete(key)
    return false
  }

  add(key: string): void {
    this.#used.delete(key)
    this.#used.set(key, performance.now())
    if (this.#used.size <= this.#limit) return
    for (const oldest of this.#used.keys()) {
      this.#used.delete(oldest)
      break
    }
  }

  delete(key: string): void {
    this.#used.delete(key)
  }
}

/**
 * What `lockingMode: 'auto'` has learned: which requests, by method and path, were seen to leave the session as it is.
 * One that changed it even once counts as modifying from then on (ReadOnlyRequestsCacheTest).
 */
export class ReadOnlyRequests {
  readonly #readOnly: RecentKeys
  readonly #modifying: RecentKeys

  constructor({ maxReadOnly, maxModifying, lifetime }: ReadOnlyRequestsLimits = DEFAULTS) {
    this.#readOnly = new RecentKeys(maxReadOnly, lifetime)
    this.#modifying = new RecentKeys(maxModifying, lifetime)
  }

  isReadOnly(method: string, url: string): boolean {
    return this.#readOnly.has(keyOf(method, url))
  }

  learn(method: string, url: string, modified: boolean): void {
    const key = keyOf(method, url)
    if (modified) {
      this.#modifying.add(key)
      this.#readOnly.delete(key)
    } else if (!this.#modifying.has(key)) {
      this.#readOnly.add(key)
    }
  }
}

/** The query is left out: it is a client's to vary, and so could fill what is remembered. */
function keyOf(method: string, url: string): string {
  const query = url.indexOf('?')
  return `${method} ${query < 0 ? url : url.slice(0, query)}`
}
