// Hours of use in minutes: six processes under load, and a fault every now and then.
//
//   npm run soak [-- --minutes 10] [--every 20] [--seed 1] [--clients 20] [--heap-limit 10] [--only part-of-a-fault]
//
// Two memcached and two Redis servers, each behind a proxy that can break what is between them and the processes. Two
// processes in sticky mode, and four in non-sticky mode, on memcached and on Redis. Ends with tables and a verdict.
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { CALM, Group } from './clients.ts'
import { FAULT_KINDS, faults, randomNumbers, type StoreNode } from './faults.ts'
import { describeRun, reasons } from './report.ts'
import { SoakedProcess } from './soaked-process.ts'

/** Milliseconds the copies get after each fault, once all nodes are seen up. */
const SETTLE = 5000
/** Milliseconds until all processes have to see all nodes up again. */
const RECOVERY = 15_000
/** Milliseconds until the connections of clients that are gone are closed. */
const CALM_DOWN = 8000

const text = { type: 'string' } as const
const { values } = parseArgs({
  options: { minutes: text, every: text, seed: text, clients: text, 'heap-limit': text, only: text },
})
const number = (name: keyof typeof values, otherwise: number): number => {
  const value = Number(values[name] ?? otherwise)
  if (!(value > 0)) throw new Error(`--${name}: must be a number above 0, not "${values[name]}".`)
  return value
}
const minutes = number('minutes', 10)
const every = number('every', 20) * 1000
const seed = number('seed', 1 + (Date.now() % 1_000_000))
const clients = number('clients', 20)
const heapLimit = number('heap-limit', 10)
const kinds = FAULT_KINDS.filter((kind) => kind.includes(values.only ?? ''))
if (kinds.length === 0) throw new Error(`--only: must be of ${FAULT_KINDS.join(', ')}, not "${values.only}".`)

// What ends this process ends all that it started, each by its pid.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const say = (line: string): void => console.log(`${new Date().toISOString().slice(11, 19)} ${line}`)

async function open(name: string, server: Server): Promise<StoreNode> {
  return { name, server, proxy: await TcpProxy.start(server) }
}

console.log(
  `Soak: ${minutes} minutes, a fault every ${every / 1000} s, --seed ${seed}${values.only ? `, only ${kinds.join(', ')}` : ''}`,
)
const memcached = [
  await open('memcached m1', await startMemcached()),
  await open('memcached m2', await startMemcached()),
]
const redis = [await open('Redis m1', await startRedis()), await open('Redis m2', await startRedis())]
const list = (nodes: readonly StoreNode[], scheme = ''): string =>
  nodes.map(({ proxy }, i) => `m${i + 1}:${scheme}127.0.0.1:${proxy.port}`).join(',')

const sticky = { memcachedNodes: list(memcached), sessionBackupAsync: false, sessionBackupTimeout: 1000 }
const optimistic = { sticky: false, lockingMode: 'optimistic' }
const onMemcached = { ...optimistic, memcachedNodes: list(memcached) }
const onRedis = { ...optimistic, memcachedNodes: list(redis, 'redis://') }
const groups = [
  new Group(
    'sticky',
    [
      await SoakedProcess.start('sticky t1', { ...sticky, jvmRoute: 't1', failoverNodes: 'm1' }),
      await SoakedProcess.start('sticky t2', { ...sticky, jvmRoute: 't2', failoverNodes: 'm2' }),
    ],
    true,
  ),
  new Group(
    'non-sticky, memcached',
    [
      await SoakedProcess.start('on memcached 1', onMemcached),
      await SoakedProcess.start('on memcached 2', onMemcached),
    ],
    false,
  ),
  new Group(
    'non-sticky, Redis',
    [await SoakedProcess.start('on Redis 1', onRedis), await SoakedProcess.start('on Redis 2', onRedis)],
    false,
  ),
]
const apps = groups.flatMap((group) => group.apps)
const problems: string[] = []
const strikes = new Map<string, number>()

async function allNodesSeen(): Promise<boolean> {
  const seen = await Promise.all(apps.map((app) => app.seesAllNodes().catch(() => false)))
  return seen.every(Boolean)
}

function inForce(kind: string): void {
  for (const group of groups) group.fault = kind
}

/** Strikes until `end`, and leaves all well. */
async function strikeUntil(end: number): Promise<void> {
  const random = randomNumbers(seed)
  let due = Date.now() + every
  for (const fault of faults([...memcached, ...redis], apps, kinds, random)) {
    // The last fault has to be over, and seen to be, before the end.
    if (Math.max(due, Date.now()) + fault.ms + SETTLE > end) break
    await sleep(Math.max(0, due - Date.now()))
    due = Math.max(due, Date.now()) + every
    strikes.set(fault.kind, (strikes.get(fault.kind) ?? 0) + 1)
    inForce(fault.kind)
    const start = Date.now()
    await fault.run()
    const healed = Date.now()
    // A process that has not noticed yet that a node is down sees it up.
    await sleep(100)
    while (!(await allNodesSeen())) {
      if (Date.now() - healed > RECOVERY) {
        problems.push(`All nodes were not seen up ${RECOVERY / 1000} s after ${fault.kind} at ${fault.victim}`)
        break
      }
      await sleep(50)
    }
    const seen = Date.now()
    // Requests that were under way are answered within the limit for a storage operation.
    await sleep(1500)
    inForce(CALM)
    say(`${fault.kind} at ${fault.victim} for ${healed - start} ms, all nodes seen up ${seen - healed} ms later`)
    await sleep(SETTLE)
  }
  await sleep(Math.max(0, end - Date.now()))
}

await sleep(1000)
for (const app of apps) app.idle.before = await app.ask()
const start = Date.now()
const end = start + minutes * 60_000
const load = Promise.all(groups.map((group) => group.run(clients)))
await strikeUntil(end)
for (const group of groups) group.isOver = true
await load
await sleep(CALM_DOWN)
for (const app of apps) {
  try {
    app.idle.after = await app.ask()
  } catch (error) {
    problems.push((error as Error).message)
  }
}
for (const app of apps) await app.end('SIGTERM')
const run = { groups, strikes, halfTime: start + (end - start) / 2, heapLimit, problems }
console.log(`\n${describeRun(run)}\n`)
for (const group of groups) for (const note of group.ledger.notes) console.log(note)
const failures = reasons(run)
console.log(failures.length === 0 ? 'PASS' : `FAIL\n${failures.map((reason) => `- ${reason}`).join('\n')}`)
process.exit(failures.length === 0 ? 0 : 1)
