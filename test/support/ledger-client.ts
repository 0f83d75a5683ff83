import { setTimeout as pause } from 'node:timers/promises'
import type { AppProcess } from './app-process.ts'

export interface Answer {
  /** Monotonic milliseconds at which the request was sent. */
  readonly sent: number
  readonly ms: number
  /** Undefined if the connection failed: that process is down, which is the balancer's business. */
  readonly status: number | undefined
}

const PATIENCE = 10_000

/**
 * A client that counts up in its session and keeps a ledger of what was acknowledged. It goes to one process as long as
 * that answers (`isPinned`), or to each in turn.
 */
export class LedgerClient {
  readonly answers: Answer[] = []
  /** The count that was answered last. */
  acknowledged = 0
  /** Answers that show less than was acknowledged before. */
  lostChanges = 0
  lostSessions = 0
  cookie: string | undefined
  readonly #apps: readonly AppProcess[]
  readonly #isPinned: boolean
  #turn: number
  #base: string | undefined
  #path: string

  constructor(apps: readonly AppProcess[], turn: number, isPinned: boolean, path = '/count') {
    this.#apps = apps
    this.#turn = turn
    this.#isPinned = isPinned
    this.#path = path
  }

  get base(): string | undefined {
    return this.#base
  }

  /** @param ms milliseconds between two requests */
  async run(isOver: () => boolean, ms = 5): Promise<void> {
    while (!isOver()) {
      await this.count()
      await pause(ms)
    }
  }

  /** One request; undefined if the process could not be reached. */
  async count(path: string = this.#path): Promise<number | undefined> {
    const sent = performance.now()
    const app = this.#apps[this.#turn % this.#apps.length]!
    if (!this.#isPinned) this.#turn++
    const headers: Record<string, string> = this.cookie ? { cookie: `JSESSIONID=${this.cookie}` } : {}
    let status: number | undefined
    try {
      const response = await fetch(app.url + path, { headers, signal: AbortSignal.timeout(PATIENCE) })
      const text = await response.text()
      status = response.status
      if (status === 200) this.#note(response, JSON.parse(text))
    } catch {
      status = undefined
      if (this.#isPinned) this.#turn++
    }
    this.answers.push({ sent, ms: performance.now() - sent, status })
    return status
  }

  #note(response: Response, { count, id }: { count: number; id: string }): void {
    const cookie = /JSESSIONID=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1]
    if (cookie !== undefined) this.cookie = cookie
    const base = id.slice(0, 32)
    if (this.#base !== undefined && base !== this.#base) this.lostSessions++
    else if (count <= this.acknowledged) this.lostChanges++
    this.#base = base
    this.acknowledged = count
  }
}
