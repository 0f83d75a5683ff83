import { expect } from 'vitest'
import { type AppOptions, AppProcess, type Special } from './app-process.ts'
import { type Answer, LedgerClient } from './ledger-client.ts'
import { type RawStore, rawMemcached, rawRedis } from './raw-stores.ts'
import { type Server, startMemcached, startRedis } from './servers.ts'
import { TcpProxy } from './tcp-proxy.ts'

export interface Setup {
  readonly name: string
  readonly store: 'memcached' | 'redis'
  readonly nodes: 1 | 2
  readonly sticky: boolean
}

export const SETUPS: readonly Setup[] = [
  { name: 'sticky', store: 'memcached', nodes: 2, sticky: true },
  { name: 'non-sticky memcached', store: 'memcached', nodes: 2, sticky: false },
  { name: 'non-sticky Redis, 2 nodes', store: 'redis', nodes: 2, sticky: false },
  { name: 'non-sticky Redis, 1 node', store: 'redis', nodes: 1, sticky: false },
]

/** operationTimeout of all processes, in milliseconds. */
export const T = 200

/** What a fault did to clients that went on sending requests. */
export interface Measured {
  /** Sessions and acknowledged changes that were not there afterwards. */
  readonly lost: number
  /** Changes that were acknowledged and are missing, of sessions that are there. */
  readonly lostChanges: number
  /** Milliseconds that the slowest request took longer than the slowest before the fault. */
  readonly worst: number
  /** The same from 2T after the beginning of the fault on, for 19 of 20 requests. */
  readonly later: number
  /** Statuses other than 200, and how often they were answered. */
  readonly statuses: ReadonlyMap<number, number>
  /** Milliseconds from the end of the fault until the last request that was not served as usual. */
  readonly recovery: number
}

/** Two processes of an app and the nodes they share, each behind a proxy that can break its connections. */
export class FaultWorld {
  readonly setup: Setup
  readonly servers: Server[] = []
  readonly proxies: TcpProxy[] = []
  readonly apps: AppProcess[] = []
  readonly stores: RawStore[] = []
  readonly #options: AppOptions

  private constructor(setup: Setup, options: AppOptions) {
    this.setup = setup
    this.#options = options
  }

  static async start(setup: Setup, options: AppOptions = {}): Promise<FaultWorld> {
    const world = new FaultWorld(setup, options)
    for (let i = 0; i < setup.nodes; i++) {
      const server = await (setup.store === 'redis' ? startRedis() : startMemcached())
      world.servers.push(server)
      world.stores.push(setup.store === 'redis' ? rawRedis(server) : rawMemcached(server))
      world.proxies.push(await TcpProxy.start(server))
    }
    for (const i of [0, 1]) world.apps.push(await world.startApp(i))
    return world
  }

  /** Another process of the app, with clock and options of its own. */
  async startApp(index: number, options: AppOptions = {}, special: Special = {}): Promise<AppProcess> {
    const { sticky } = this.setup
    const own: AppOptions = sticky ? { jvmRoute: `t${index + 1}`, failoverNodes: `n${index + 1}` } : {}
    return AppProcess.start(
      'express',
      { memcachedNodes: this.memcachedNodes, sticky, operationTimeout: T, ...own, ...this.#options, ...options },
      special,
    )
  }

  get memcachedNodes(): string {
    const scheme = this.setup.store === 'redis' ? 'redis://' : ''
    if (this.setup.nodes === 1) return `${scheme}127.0.0.1:${this.proxies[0]!.port}`
    return this.proxies.map(({ port }, i) => `n${i + 1}:${scheme}127.0.0.1:${port}`).join(',')
  }

  clients(count: number, apps: readonly AppProcess[] = this.apps, path?: string): LedgerClient[] {
    return Array.from({ length: count }, (_, i) => new LedgerClient(apps, i, this.setup.sticky, path))
  }

  async stop(): Promise<void> {
    for (const app of this.apps) await app.kill()
    for (const proxy of this.proxies) await proxy.stop()
    for (const server of this.servers) await server.stop()
  }

  /** Waits until all processes see all nodes up, and nothing is left to be written. */
  async isCalm(apps: readonly AppProcess[] = this.apps): Promise<void> {
    await expect
      .poll(async () => (await Promise.all(apps.map((app) => app.isCalm()))).every(Boolean), {
        timeout: 10_000,
        interval: 10,
      })
      .toBe(true)
  }

  /**
   * What clients see while `fault` is there, which lasts `lasts` ms after it has been made, and `heal` ends.
   */
  async measure(
    fault: () => Promise<void> | void,
    heal: () => Promise<void> | void,
    { lasts = 6 * T, clients = this.clients(8) }: { lasts?: number; clients?: LedgerClient[] } = {},
  ): Promise<Measured> {
    let isOver = false
    const load = Promise.all(clients.map((client) => client.run(() => isOver, clients.length)))
    await this.#acknowledged(clients, clients.length > 50 ? 3 : 15)
    // The copies of new sessions are on their way.
    await new Promise((resolve) => setTimeout(resolve, T))
    const begin = performance.now()
    const before = clients.flatMap(({ answers }) => answers.slice(2).map(({ ms }) => ms))
    const usual = median(before)
    await fault()
    await new Promise((resolve) => setTimeout(resolve, lasts))
    await heal()
    const healed = performance.now()
    await this.isCalm()
    await this.#acknowledged(clients, 3)
    isOver = true
    await load
    // As the next request of each finds it.
    for (const client of clients) await client.count()
    const during = clients.flatMap(({ answers }) =>
      answers.filter(({ sent, ms }) => sent + ms > begin && sent < healed),
    )
    const known = during.filter(({ sent }) => sent > begin + 2 * T)
    const after = clients.flatMap(({ answers }) => answers.filter(({ sent, ms }) => sent + ms > healed))
    const isUnusual = ({ ms, status }: Answer): boolean =>
      (status !== 200 && status !== undefined) || ms > usual + T / 2
    const statuses = new Map<number, number>()
    for (const { status } of [...during, ...after]) {
      if (status !== 200 && status !== undefined) statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    return {
      lost: sum(clients.map(({ lostSessions }) => lostSessions)),
      lostChanges: sum(clients.map(({ lostChanges }) => lostChanges)),
      worst: Math.max(0, Math.max(0, ...during.map(({ ms }) => ms)) - Math.max(...before)),
      later: Math.max(
        0,
        quantile(
          known.map(({ ms }) => ms),
          0.95,
        ) - quantile(before, 0.95),
      ),
      statuses,
      recovery: Math.max(0, ...after.filter(isUnusual).map(({ sent, ms }) => sent + ms - healed)),
    }
  }

  async #acknowledged(clients: readonly LedgerClient[], requests: number): Promise<void> {
    const served = (client: LedgerClient): number => client.answers.filter(({ status }) => status === 200).length
    const targets = clients.map((client) => served(client) + requests)
    await expect
      .poll(() => clients.every((client, i) => served(client) >= targets[i]!), { timeout: 15_000, interval: 5 })
      .toBe(true)
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

function quantile(numbers: readonly number[], part: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) * part)] ?? 0
}

const median = (numbers: readonly number[]): number => quantile(numbers, 0.5)
