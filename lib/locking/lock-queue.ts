import type { MaybePromise } from '../maybe-promise.ts'

interface Waiter {
  resolve(granted: boolean): void
  timer: NodeJS.Timeout
}

/** First in, first out: whose turn it is, by key, among the requests of this process. Costs no store traffic. */
export class LockQueue {
  readonly #waiting = new Map<string, Waiter[]>()

  /** True when it is the caller's turn, at once if nobody has it; false after `timeout` milliseconds of waiting. */
  enter(key: string, timeout: number): MaybePromise<boolean> {
    const waiting = this.#waiting.get(key)
    if (!waiting) {
      this.#waiting.set(key, [])
      return true
    }
    return new Promise((resolve) => {
      const waiter: Waiter = {
        resolve,
        timer: setTimeout(() => {
          waiting.splice(waiting.indexOf(waiter), 1)
          resolve(false)
        }, timeout),
      }
      waiting.push(waiter)
    })
  }

  /** Ends a turn: the next in the queue has it now. Only for who was granted it. */
  leave(key: string): void {
    const waiting = this.#waiting.get(key)
    const next = waiting?.shift()
    if (!next) {
      this.#waiting.delete(key)
      return
    }
    clearTimeout(next.timer)
    next.resolve(true)
  }

  /** True if somebody waits for a turn. */
  hasWaiting(key: string): boolean {
    return (this.#waiting.get(key)?.length ?? 0) > 0
  }

  /** Number of keys somebody has a turn of. */
  get size(): number {
    return this.#waiting.size
  }
}
