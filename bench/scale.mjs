// What many sessions cost a process in sticky mode, after npm run build:
//
//   npm run bench:scale [-- --sessions 100000] [--json file]
//
// Memory of a session, stalls of the event loop by what happens in the background, and the cost of unknown ids.
import { writeFileSync } from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { msgpackTranscoder } from '../dist/adapters/transcoder/msgpack.js'
import { createSessionManager, facadeTarget, sessionApi } from '../dist/lib/index.js'
import { content } from './content.mjs'
import { startStore } from './processes.mjs'

const SIZE = 1500
const STORMS = 20_000
const CONCURRENCY = 32
const { values } = parseArgs({ options: { sessions: { type: 'string', default: '100000' }, json: { type: 'string' } } })
const count = Number(values.sessions)
if (!(count >= 1000)) throw new Error(`--sessions: must be 1000 or more, not "${values.sessions}".`)
const quiet = { info() {}, warn() {}, error: console.error }
const binding = { facadeTarget: facadeTarget(sessionApi), url: ({ url }) => url, isSecure: () => false }
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
const results = {}

function usedMemory() {
  for (let i = 0; i < 3; i++) collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** The longest time that nothing else could run while `work` was under way, and how much of it was garbage collection. */
async function stalls(work) {
  let longest = 0
  let collection = 0
  let last = performance.now()
  let isDone = false
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collection = Math.max(collection, duration)
  })
  observer.observe({ entryTypes: ['gc'] })
  const turn = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (!isDone) setImmediate(turn)
  }
  turn()
  const start = performance.now()
  await work()
  const milliseconds = performance.now() - start
  isDone = true
  await sleep(10)
  observer.disconnect()
  return { milliseconds, longest, collection }
}

async function serve(manager, cookie, action) {
  const exchange = await manager.begin({ method: 'GET', url: '/', headers: cookie ? { cookie } : {} }, binding)
  action(exchange.session)
  await exchange.finish(true)
  return exchange.head()?.split(';')[0]
}

async function inParallel(times, action) {
  let left = times
  const worker = async () => {
    while (left-- > 0) await action(left)
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
}

const row = (what, figure, limit) => console.log(`| ${what} | ${figure} | ${limit} |`)
const stallText = ({ longest, collection }) =>
  `${longest.toFixed(1)} ms (garbage collection: ${collection.toFixed(1)} ms)`

const memcached = (port) => ['-l', '127.0.0.1', '-p', `${port}`, '-U', '0', '-t', '1', '-m', '1024', '-u', 'nobody']
const stores = [await startStore('memcached', memcached), await startStore('memcached', memcached)]
const bytesOf = msgpackTranscoder().encode(content(SIZE)).length

// What the attributes take by themselves, as any process that holds them pays it.
const text = JSON.stringify(content(SIZE))
let before = usedMemory()
let plain = Array.from({ length: count }, () => JSON.parse(text))
const attributes = (usedMemory() - before) / plain.length
plain = undefined

const manager = createSessionManager({
  memcachedNodes: stores.map(({ port }, i) => `n${i + 1}:127.0.0.1:${port}`).join(','),
  sessionBackupAsync: true,
  backgroundProcessorDelay: 2,
  maxActiveSessions: -1,
  operationTimeout: 1000,
  logger: quiet,
})
await manager.start()
before = usedMemory()
await inParallel(count, () => serve(manager, undefined, (session) => Object.assign(session, JSON.parse(text))))
while (manager.health().backlog > 0) await sleep(50)
// Until the background has seen each of them idle.
await sleep(6000)
const total = (usedMemory() - before) / count
const own = total - attributes - bytesOf
console.log(`### ${count} local sessions of ${SIZE} bytes\n\n| what | measured | at most |\n| --- | --- | --- |`)
row(
  'memory of a session',
  `${Math.round(total)} bytes: ${Math.round(attributes)} the attributes, ${bytesOf} their stored form, ${Math.round(own)} else`,
  '1024 else',
)
results.memory = { total, attributes, stored: bytesOf, own }

// Two runs of the background: all sessions looked at for expiry, and for copies that expire in the store.
results.sweep = await stalls(() => sleep(5000))
row('longest stall while sessions are swept', stallText(results.sweep), '20 ms')

const operations = () => manager.health().nodes.reduce((sum, node) => sum + node.operations, 0)
const opsBefore = operations()
results.death = await stalls(async () => {
  stores[0].child.kill('SIGKILL')
  // A request notices; then all that was on the node is stored on the other.
  while (manager.health().nodes.every(({ state }) => state === 'up')) {
    await serve(manager, undefined, (session) => Object.assign(session, { a: 1 })).catch(() => {})
    await sleep(5)
  }
  do await sleep(100)
  while (manager.health().backlog > 0)
})
results.death.operations = operations() - opsBefore
row(
  `longest stall after a node with ${Math.round(count / 2)} sessions died`,
  `${stallText(results.death)}; all stored elsewhere after ${(results.death.milliseconds / 1000).toFixed(1)} s, ${results.death.operations} operations`,
  '50 ms',
)
await manager.stop()

const other = createSessionManager({
  memcachedNodes: `n1:127.0.0.1:${stores[1].port}`,
  sticky: false,
  lockingMode: 'none',
  logger: quiet,
})
await other.start()
const made = (i) => `JSESSIONID=${i.toString(16).toUpperCase().padStart(32, 'A')}-n1`
const askedBefore = other.health().nodes[0].operations
results.storm = await stalls(() => inParallel(STORMS, (i) => serve(other, made(i), () => {})))
const asked = other.health().nodes[0].operations - askedBefore
results.again = await stalls(() => inParallel(STORMS, (i) => serve(other, made(i % 1000), () => {})))
const askedAgain = other.health().nodes[0].operations - askedBefore - asked
row(
  `${STORMS} requests with made-up ids, non-sticky`,
  `${((results.storm.milliseconds * 1000) / STORMS).toFixed(1)} µs and ${(asked / STORMS).toFixed(2)} operations each`,
  '',
)
row(
  'the same 1000 ids again and again',
  `${((results.again.milliseconds * 1000) / STORMS).toFixed(1)} µs and ${(askedAgain / STORMS).toFixed(2)} operations each`,
  '',
)
await other.stop()
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`)
process.exit()
