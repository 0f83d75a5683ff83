import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SoakedProcess } from './soaked-process.ts'

/** Milliseconds between two requests of a client. */
const PAUSE = 50
/** The same between two logins: the processes remember ids for a while, which is not to be taken for a leak. */
const LOGIN_PAUSE = 500
/** Milliseconds after which a request counts as hanging. */
const PATIENCE = 15_000
/** How long an ended session is looked for, in milliseconds, and how many of them are remembered. */
const WATCH = 60_000
const WATCHED = 200
/** No fault is in force. */
export const CALM = 'none'

/** What all clients of a group have seen. */
export class Ledger {
  requests = 0
  acknowledged = 0
  logouts = 0
  madeUp = 0
  /** Requests without an answer: their process was killed or is not there. */
  unanswered = 0
  slowest = 0
  lostUpdates = 0
  /** The same of clients that send two requests at the same time. */
  lostTogether = 0
  lostSessions = 0
  foreignSessions = 0
  /** Sessions that were there after their logout. */
  revived = 0
  /** Made-up ids that became a session's. */
  adopted = 0
  hanging = 0
  /** Those of the answers with an error that were for made-up ids. */
  refusedMadeUp = 0
  /** Answers other than 200 by the fault that was in force. */
  readonly refused: Map<string, number> = new Map()
  /** What was wrong, with its circumstances. */
  readonly notes: string[] = []
}

type Wrong = 'lostUpdates' | 'lostTogether' | 'lostSessions' | 'foreignSessions' | 'revived' | 'adopted' | 'hanging'

interface Answer {
  readonly count: number | null
  readonly owner: string | null
  readonly id: string
}

/** Two processes that share their sessions, and their clients. */
export class Group {
  readonly name: string
  readonly apps: readonly SoakedProcess[]
  readonly ledger: Ledger = new Ledger()
  readonly isSticky: boolean
  /** The fault in force. */
  fault: string = CALM
  isOver = false
  readonly #owners = new Map<string, string>()

  constructor(name: string, apps: readonly SoakedProcess[], isSticky: boolean) {
    this.name = name
    this.apps = apps
    this.isSticky = isSticky
  }

  async run(clients: number): Promise<void> {
    const counting = Array.from({ length: clients }, (_, i) => this.#count(`${this.name} ${i}`, i))
    await Promise.all([...counting, this.#logOut(), this.#makeUp()])
  }

  /** A client that counts up two counters of its session. */
  async #count(owner: string, first: number): Promise<void> {
    const browser = new Browser(this, first)
    // A balancer with stickiness may send two requests to two processes when one of them goes away.
    const sendsTwo = !this.isSticky && first % 2 === 1
    const counters = { a: { known: 0, sent: 0, at: '' }, b: { known: 0, sent: 0, at: '' } }
    let base: string | undefined
    const count = async (name: 'a' | 'b'): Promise<void> => {
      const counter = counters[name]
      const answer = await browser.get(`/count?name=${name}&owner=${encodeURIComponent(owner)}`, () => counter.sent++)
      if (!answer) return
      const own = answer.id.slice(0, 32)
      const before = `a was ${counters.a.known} (${counters.a.at}), b was ${counters.b.known} (${counters.b.at})`
      const saw = `${owner}: ${name} is ${answer.count} in ${answer.id}, ${counter.sent} sent; ${before}`
      this.#check(answer.owner === owner && (this.#owners.get(own) ?? owner) === owner, 'foreignSessions', saw)
      this.#owners.set(own, owner)
      const isKept = base === undefined || own === base
      this.#check(isKept, 'lostSessions', saw)
      const isCounted = answer.count! > counter.known && answer.count! <= counter.sent
      if (isKept) this.#check(isCounted, sendsTwo ? 'lostTogether' : 'lostUpdates', saw)
      if (!isKept) for (const each of Object.values(counters)) each.sent = 0
      base = own
      counter.known = answer.count!
      counter.at = `${answer.id.slice(33)} at ${new Date().toISOString().slice(17, 23)}`
      counter.sent = Math.max(counter.sent, counter.known)
      this.ledger.acknowledged++
    }
    for (let turn = 0; !this.isOver; turn++) {
      if (base !== undefined && sendsTwo && turn % 3 === 0) await Promise.all([count('a'), count('b')])
      else await count(turn % 2 === 0 || base === undefined ? 'a' : 'b')
      await sleep(PAUSE)
    }
  }

  /** A client that logs in and out, and looks for its old sessions. */
  async #logOut(): Promise<void> {
    const ended: { id: string; at: number }[] = []
    for (let turn = 0; !this.isOver; turn++) {
      const browser = new Browser(this, turn)
      const answer = await browser.get(`/count?name=a&owner=out-${turn}`)
      if (answer) {
        await browser.get(`/count?name=a&owner=out-${turn}`)
        const id = browser.id!
        if (await browser.get('/logout')) {
          this.ledger.logouts++
          ended.push({ id, at: Date.now() })
        }
      }
      while (ended.length > WATCHED || (ended[0] && Date.now() - ended[0].at > WATCH)) ended.shift()
      for (const old of [ended.at(-1), ended[Math.floor(Math.random() * ended.length)]]) {
        if (!old) continue
        for (const app of this.apps) {
          const found = await this.ask(app, '/read', old.id)
          const age = `${Date.now() - old.at} ms after its logout`
          this.#check((found?.answer?.count ?? null) === null, 'revived', `${old.id} is back at ${app.name} ${age}`)
        }
      }
      await sleep(LOGIN_PAUSE)
    }
  }

  /** A client that has never had a session, and pretends. */
  async #makeUp(): Promise<void> {
    const nodeIds = this.isSticky ? ['-m1.t1', '-m2.t2'] : ['-m1', '-m2']
    for (let turn = 0; !this.isOver; turn++) {
      const base = randomBytes(16).toString('hex').toUpperCase()
      const app = this.apps[turn % this.apps.length]!
      const found = await this.ask(app, '/read', base + nodeIds[(turn >> 1) % 2]!)
      this.ledger.madeUp++
      if (found && !found.answer) this.ledger.refusedMadeUp++
      const answer = found?.answer
      this.#check(!answer || (answer.count === null && !answer.id?.startsWith(base)), 'adopted', `${base} was adopted`)
      await sleep(PAUSE)
    }
  }

  #check(isRight: boolean, wrong: Wrong, note: string): void {
    if (isRight) return
    this.ledger[wrong]++
    if (this.ledger.notes.length < 50) {
      this.ledger.notes.push(`${new Date().toISOString()} ${this.name}, ${wrong}: ${note} (fault: ${this.fault})`)
    }
  }

  /** One request. Undefined if nobody answers; without `answer` if it was answered with an error. */
  async ask(
    app: SoakedProcess,
    path: string,
    id: string | undefined,
  ): Promise<{ answer?: Answer; announced?: string } | undefined> {
    const { ledger } = this
    ledger.requests++
    const start = performance.now()
    const before = this.fault
    try {
      const headers: Record<string, string> = id === undefined ? {} : { cookie: `JSESSIONID=${id}` }
      const response = await fetch(app.url + path, { headers, signal: AbortSignal.timeout(PATIENCE) })
      const body = await response.text()
      ledger.slowest = Math.max(ledger.slowest, performance.now() - start)
      if (response.status !== 200) {
        const fault = before === CALM ? this.fault : before
        ledger.refused.set(fault, (ledger.refused.get(fault) ?? 0) + 1)
        if (fault === CALM && ledger.notes.length < 50) {
          ledger.notes.push(
            `${new Date().toISOString()} ${this.name}: ${path} was answered ${response.status} at peace`,
          )
        }
        return {}
      }
      const announced = /JSESSIONID=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1]
      return { answer: JSON.parse(body), ...(announced === undefined ? {} : { announced }) }
    } catch (error) {
      ledger.unanswered++
      this.#check((error as Error).name !== 'TimeoutError', 'hanging', `${path} at ${app.name}`)
      return undefined
    }
  }
}

/** A browser with one cookie, behind a balancer that knows which process is down. */
class Browser {
  id: string | undefined
  readonly #group: Group
  #turn: number

  constructor(group: Group, turn: number) {
    this.#group = group
    this.#turn = turn
  }

  /** Undefined if there is no good answer. */
  async get(path: string, onSend: () => void = () => {}): Promise<Answer | undefined> {
    const { apps, isSticky } = this.#group
    const route = isSticky ? /\.t(\d)$/.exec(this.id ?? '')?.[1] : undefined
    const chosen = route === undefined ? this.#turn++ : Number(route) - 1
    const first = apps[chosen % apps.length]!
    const other = apps[(chosen + 1) % apps.length]!
    const ask = (app: SoakedProcess): ReturnType<Group['ask']> => {
      onSend()
      return this.#group.ask(app, path, this.id)
    }
    const result = (await ask(first)) ?? (await ask(other))
    if (result?.announced !== undefined) this.id = result.announced
    return result?.answer
  }
}
