import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { AppProcess } from '../support/app-process.ts'
import { FaultWorld, type Measured, SETUPS, type Setup, T } from '../support/fault-world.ts'
import type { LedgerClient } from '../support/ledger-client.ts'
import type { RawStore } from '../support/raw-stores.ts'
import { askRedis } from '../support/redis-groups.ts'

/** All of it, with what was measured printed as a table: npm run test:faults. */
const IS_FULL = process.env.MSM_FAULTS === 'full'
/** Milliseconds that this machine may be busy with other tests. */
const SLACK = 400
const RECOVERY = 2000

/** What the clients may see, and by how many milliseconds a request may take longer. */
interface Limit {
  readonly worst: number
  /** From 2T after the beginning on. */
  readonly later?: number
  /** 503 may be answered while the fault lasts. */
  readonly unavailable?: boolean
  /** Changes of each client that may be missing. */
  readonly lostChanges?: number
}

interface Fault {
  readonly name: string
  /** Part of `npm test`. */
  readonly isQuick?: boolean
  /** Undefined: the fault can't happen in this setup. */
  limit(setup: Setup): Limit | undefined
  run(world: FaultWorld): Promise<Measured>
}

const serves = (worst: number, later?: number): Limit => (later === undefined ? { worst } : { worst, later })
const single = (setup: Setup): boolean => setup.nodes === 1
const unavailable: Limit = { worst: 2 * T, unavailable: true }
const nothing = (): void => {}

const down = (setup: Setup): Limit => (single(setup) ? unavailable : setup.sticky ? serves(5, 5) : serves(50, 10))
const silent = (setup: Setup): Limit => (single(setup) ? unavailable : setup.sticky ? serves(T, 5) : serves(2 * T, 10))

async function nodesDown(world: FaultWorld, index: number): Promise<void> {
  world.proxies[index]!.reset()
  await sleep(3 * T)
  await world.proxies[index]!.heal()
  await world.isCalm()
}

const faults: Fault[] = [
  {
    name: 'node down, connections reset',
    isQuick: true,
    limit: down,
    run: (world) =>
      world.measure(
        () => world.proxies[0]!.reset(),
        () => world.proxies[0]!.heal(),
      ),
  },
  {
    name: 'node killed, restarts empty',
    limit: down,
    run: (world) => {
      // A single Redis that saves nothing has nothing after that.
      const server = world.servers.at(-1)!
      return world.measure(
        () => server.kill(),
        async () => void (await server.start()),
      )
    },
  },
  {
    name: 'silent: connections are held',
    isQuick: true,
    limit: silent,
    run: (world) =>
      world.measure(
        () => world.proxies[0]!.silent(),
        () => world.proxies[0]!.heal(),
      ),
  },
  {
    name: 'silent: what is sent is lost',
    limit: silent,
    run: (world) =>
      world.measure(
        () => world.proxies[0]!.blackhole(),
        () => world.proxies[0]!.heal(),
      ),
  },
  {
    name: 'silent: node stopped (SIGSTOP)',
    limit: silent,
    run: (world) =>
      world.measure(
        () => world.servers[0]!.pause(),
        () => world.servers[0]!.resume(),
      ),
  },
  {
    name: 'replies cut in the middle, again and again',
    isQuick: true,
    limit: silent,
    run: async (world) => {
      const [proxy] = world.proxies
      const timer = setInterval(() => proxy!.cutAfter(30), 50)
      onTestFinished(() => clearInterval(timer))
      return world.measure(nothing, () => {
        clearInterval(timer)
        return proxy!.heal()
      })
    },
  },
  {
    name: 'replies in pieces of 3 bytes',
    limit: () => serves(T),
    run: (world) =>
      world.measure(
        () => world.proxies[0]!.slice(3),
        () => world.proxies[0]!.heal(),
      ),
  },
  {
    name: 'connections closed in good order, again and again',
    limit: silent,
    run: async (world) => {
      const [proxy] = world.proxies
      const timer = setInterval(() => proxy!.closeGracefully(), 50)
      onTestFinished(() => clearInterval(timer))
      return world.measure(nothing, () => clearInterval(timer))
    },
  },
  {
    name: `latency of T / 4`,
    // A change waits two round trips.
    limit: (setup) => serves(setup.sticky ? 5 : 2.5 * (T / 4)),
    run: (world) =>
      world.measure(
        () => {
          for (const proxy of world.proxies) proxy.delay(T / 4)
        },
        async () => {
          for (const proxy of world.proxies) await proxy.heal()
        },
      ),
  },
  {
    name: 'n1 down and up again, then n2 down',
    limit: (setup) => (single(setup) ? undefined : down(setup)),
    run: (world) =>
      world.measure(
        async () => {
          await nodesDown(world, 0)
          world.proxies[1]!.reset()
        },
        () => world.proxies[1]!.heal(),
      ),
  },
  {
    name: 'all nodes down',
    isQuick: true,
    limit: (setup) => (setup.sticky ? serves(5, 5) : unavailable),
    run: (world) =>
      world.measure(
        () => {
          for (const proxy of world.proxies) proxy.reset()
        },
        async () => {
          for (const proxy of world.proxies) await proxy.heal()
        },
      ),
  },
  {
    name: 'records evicted',
    isQuick: true,
    limit: (setup) => (single(setup) ? undefined : serves(setup.sticky ? 5 : 50)),
    run: (world) => {
      const clients = world.clients(8)
      return world.measure(() => eachRecord(world, clients, (store, key) => store.delete(key)), nothing, { clients })
    },
  },
  {
    name: 'records overwritten with what is none',
    limit: (setup) => (single(setup) ? undefined : serves(setup.sticky ? 5 : 50)),
    run: (world) => {
      const clients = world.clients(8)
      const garbage = Buffer.from('\x00\x02no record')
      return world.measure(() => eachRecord(world, clients, (store, key) => store.set(key, garbage, 60)), nothing, {
        clients,
      })
    },
  },
  {
    name: 'out of memory: writes are refused',
    limit: (setup) => (setup.store === 'redis' ? unavailable : undefined),
    run: (world) => {
      const limitMemory = async (bytes: string): Promise<void> => {
        for (const server of world.servers) await askRedis(server, 'CONFIG', 'SET', 'maxmemory', bytes)
      }
      return world.measure(
        () => limitMemory('1'),
        () => limitMemory('0'),
      )
    },
  },
  {
    name: 'app process killed (SIGKILL)',
    limit: (setup) => ({ worst: setup.sticky ? T : 50, lostChanges: setup.sticky ? 1 : 0 }),
    run: (world) =>
      world.measure(
        () => void world.apps[0]!.kill('SIGKILL'),
        () => world.apps[0]!.start(),
      ),
  },
  {
    name: 'rolling deploy (SIGTERM, one after the other)',
    isQuick: true,
    limit: () => serves(2 * T),
    run: (world) =>
      world.measure(
        async () => {
          for (const app of world.apps) {
            await app.kill('SIGTERM')
            await app.start()
          }
        },
        nothing,
        { lasts: T },
      ),
  },
  {
    name: 'clocks of the processes two hours apart',
    limit: () => serves(T),
    run: async (world) => {
      const apps = [
        await world.startApp(0, {}, { clock: -3_600_000 }),
        await world.startApp(1, {}, { clock: 3_600_000 }),
      ]
      onTestFinished(() => stopAll(apps))
      const clients = world.clients(8, apps)
      if (!world.setup.sticky) return world.measure(nothing, nothing, { clients })
      // Half of the clients are handed over from one process to the other.
      return world.measure(
        () => void apps[0]!.kill('SIGTERM'),
        () => apps[0]!.start(),
        { clients },
      )
    },
  },
  {
    name: '100 clients at recovery',
    limit: (setup) => (setup.sticky ? serves(T) : { ...down(setup), worst: 2 * T }),
    run: async (world) => {
      const [proxy] = world.proxies
      let before = 0
      const measured = await world.measure(
        () => proxy!.reset(),
        async () => {
          before = proxy!.connections
          await proxy!.heal()
        },
        { clients: world.clients(100) },
      )
      // One for each process, and one more if the first was made while the proxy was about to listen.
      expect(proxy!.connections - before).toBeLessThanOrEqual(2 * world.apps.length)
      return measured
    },
  },
]

/** Does something to the record of each client, on the node that it belongs on. */
async function eachRecord(
  world: FaultWorld,
  clients: readonly LedgerClient[],
  action: (store: RawStore, key: string) => Promise<void>,
): Promise<void> {
  for (const { cookie } of clients) {
    const index = /-n(\d)/.exec(cookie!)![1] === '2' ? 1 : 0
    await action(world.stores[index]!, cookie!)
  }
}

async function stopAll(apps: readonly AppProcess[]): Promise<void> {
  for (const app of apps) await app.kill()
}

const cells = new Map<string, string>()

describe.each(SETUPS.map((setup) => [setup.name, setup] as const))('%s', (_name, setup) => {
  let world: FaultWorld
  beforeAll(async () => {
    world = await FaultWorld.start(setup)
    return () => world.stop()
  })

  for (const fault of faults) {
    const limit = fault.limit(setup)
    if (!limit || !(IS_FULL || fault.isQuick)) continue
    // A node without copies that has forgotten everything.
    const forgets = single(setup) && fault.name === 'node killed, restarts empty'
    it(fault.name, { timeout: 60_000 }, async () => {
      const measured = await fault.run(world)
      cells.set(`${fault.name} ${setup.name}`, cellOf(measured, limit, forgets))
      if (!forgets) expect(measured.lost).toBe(0)
      expect(measured.lostChanges).toBeLessThanOrEqual((limit.lostChanges ?? 0) * 8)
      expect([...measured.statuses.keys()]).toEqual(limit.unavailable && measured.statuses.size > 0 ? [503] : [])
      expect(measured.worst).toBeLessThan(limit.worst + SLACK)
      expect(measured.later).toBeLessThan((limit.later ?? limit.worst) + SLACK)
      expect(measured.recovery).toBeLessThan(RECOVERY + SLACK)
    })
  }
})

function cellOf(measured: Measured, limit: Limit, forgets: boolean): string {
  const lost = measured.lost === 0 ? `${measured.lostChanges}` : `${measured.lost} sessions`
  const isWorse =
    (measured.lost > 0 && !forgets) ||
    measured.worst > limit.worst ||
    (limit.later !== undefined && measured.later > limit.later)
  const added = limit.later === undefined ? '' : `, then ${Math.round(measured.later)}`
  const seen = [...measured.statuses].map(([status, times]) => `, ${status} ×${times}`).join('')
  const late = measured.recovery > 0 ? `, back after ${Math.round(measured.recovery)}` : ''
  return `${lost} / ${Math.round(measured.worst)}${added} ms${seen}${late}${isWorse ? ' (!)' : ''}`
}

afterAll(() => {
  if (!IS_FULL) return
  const rows = faults.map(({ name }) => [name, ...SETUPS.map((setup) => cells.get(`${name} ${setup.name}`) ?? '')])
  const head = ['fault', ...SETUPS.map(({ name }) => name)]
  const lines = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
  process.stdout.write(`\nLost / added by the slowest request; (!): more than the limit.\n\n${lines.join('\n')}\n`)
})
