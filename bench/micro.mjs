// Measures what is hot by itself, after npm run build: npm run bench:micro [-- --only part-of-a-name] [--json file]
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import memjs from 'memjs'
import { cookieCodec } from '../dist/adapters/http/cookie.js'
import { memcachedStorage } from '../dist/adapters/storage/memcached.js'
import { memoryStorage } from '../dist/adapters/storage/memory.js'
import { redisStorage } from '../dist/adapters/storage/redis.js'
import { jsonTranscoder } from '../dist/adapters/transcoder/json.js'
import { msgpackTranscoder } from '../dist/adapters/transcoder/msgpack.js'
import { SessionIdFormat } from '../dist/lib/ids/session-id-format.js'
import { createSessionManager, facadeTarget, sessionApi } from '../dist/lib/index.js'
import { decodeSessionRecord, encodeSessionRecord } from '../dist/lib/records/session-record.js'
import { StorageNode } from '../dist/lib/storage/storage-node.js'
import { content } from './content.mjs'
import { checkMachine, startStores } from './processes.mjs'
import { median, spread } from './statistics.mjs'

const SIZES = [1500, 20_000]
const ROUNDS = 15
/** Milliseconds of one round. */
const ROUND = 20
/** Milliseconds for which an operation runs before it is measured, so that the compiler has done its work. */
const WARM_UP = 300
/** Operations under way at a time, of those that wait for something. */
const CONCURRENCY = 32
const quiet = { info() {}, warn() {}, error: console.error }
const { values } = parseArgs({ options: { only: { type: 'string', default: '' }, json: { type: 'string' } } })
const ID = `${'2A19B1EB6D9649C9'.repeat(2)}-n1.t1`
/** What operations return goes here, so that none of them can be left out as useless. */
export let sink

/** Runs `times` operations, and gives the microseconds of time and of processor time that one took. */
async function timed(operation, times) {
  const cpu = process.cpuUsage()
  const start = performance.now()
  const first = operation()
  if (first instanceof Promise) {
    let left = times - 1
    const worker = async () => {
      while (left-- > 0) sink = await operation()
    }
    await Promise.all([first, ...Array.from({ length: CONCURRENCY }, worker)])
  } else {
    for (let i = 1; i < times; i++) sink = operation()
  }
  const us = (performance.now() - start) * 1000
  const { user, system } = process.cpuUsage(cpu)
  return { us: us / times, cpu: (user + system) / times }
}

/** Takes turns, so that what disturbs one disturbs all of a group. */
async function compare(operations) {
  const group = Object.entries(operations)
    .filter(([name]) => name.includes(values.only))
    .map(([name, operation]) => ({ name, operation, times: 1, samples: [] }))
  for (const one of group) {
    const start = performance.now()
    let fastest = Number.POSITIVE_INFINITY
    while (performance.now() - start < WARM_UP) {
      const { us } = await timed(one.operation, one.times)
      // Not the last one: after a stall, rounds would be so short that they measure little but their own start.
      fastest = Math.min(fastest, us)
      one.times = Math.max(1, Math.round(Math.min(one.times * 10, (ROUND * 1000) / fastest)))
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const one of group) one.samples.push(await timed(one.operation, one.times))
  }
  return group.map(({ name, samples }) => {
    const us = samples.map((sample) => sample.us)
    return { name, us: median(us), spread: spread(us), cpu: median(samples.map(({ cpu }) => cpu)) }
  })
}

function idsAndCookies() {
  const ids = new SessionIdFormat({ jvmRoute: 't1' })
  const header = `_ga=GA1.2.1234567890.1600000000; theme=dark; JSESSIONID=${ID}; consent=yes`
  const attributes = { path: '/', httpOnly: true, secure: true, sameSite: 'lax' }
  return {
    'id: parse': () => ids.parse(ID),
    'id: refuse a foreign one': () => ids.parse('s%3Aabcdefghijklmnopqrstuvwxyz0123456789'),
    'id: generate': () => ids.generate('n1'),
    'cookie: read, one of four': () => cookieCodec.read(header, 'JSESSIONID'),
    'cookie: write': () => cookieCodec.write('JSESSIONID', ID, attributes),
  }
}

function records(size) {
  const attributes = content(size)
  const operations = {}
  for (const transcoder of [msgpackTranscoder(), jsonTranscoder()]) {
    const name = `${transcoder.name}, ${size} bytes`
    const bytes = transcoder.encode(attributes)
    const empty = Buffer.alloc(0)
    const opaque = { principal: empty, savedRequest: empty, savedPrincipal: empty }
    const times = { creationTime: 1, lastAccessedTime: 2, thisAccessedTime: 3, lastBackupTime: 4 }
    const header = { version: 2, ...times, maxInactiveInterval: 60, isNew: false, isValid: true, id: ID, authType: 0 }
    const encode = (encoded) => encodeSessionRecord({ ...header, ...opaque, attributes: encoded })
    const record = encode(bytes)
    operations[`record: encode, ${name}`] = () => encode(transcoder.encode(attributes))
    operations[`record: decode, ${name}`] = () => transcoder.decode(decodeSessionRecord(record).attributes)
    operations[`change detection, nothing changed, ${name}`] = () => bytes.equals(transcoder.encode(attributes))
  }
  return operations
}

/** Requests without a framework: begin, what the app does, head, finish. */
async function requests(size) {
  const binding = { facadeTarget: facadeTarget(sessionApi), url: ({ url }) => url, isSecure: () => false }
  const work = {
    none: () => {},
    read: (session) => {
      sink = session.locale
    },
    write: (session) => {
      session.views++
    },
  }
  const operations = {}
  const managers = []
  const modes = { sticky: {}, 'non-sticky, none': { sticky: false, lockingMode: 'none' } }
  modes['non-sticky, optimistic'] = { sticky: false, lockingMode: 'optimistic' }
  for (const [mode, options] of Object.entries(modes)) {
    const manager = createSessionManager({
      ...options,
      memcachedNodes: 'n1:localhost:1',
      storage: memoryStorage,
      logger: quiet,
    })
    managers.push(manager)
    await manager.start()
    const serve = (cookie, action) => {
      const request = { method: 'GET', url: '/cart?page=2', headers: cookie ? { cookie } : {} }
      const rest = (exchange) => {
        action(exchange.session)
        const committed = exchange.finish(true)
        const head = () => exchange.head()
        return committed instanceof Promise ? committed.then(head) : head()
      }
      const began = manager.begin(request, binding)
      return began instanceof Promise ? began.then(rest) : rest(began)
    }
    operations[`request without session, ${mode}`] = () => serve(undefined, work.none)
    // A session for each of those under way at a time.
    const cookies = []
    for (let i = 0; i < CONCURRENCY + 1; i++) {
      const cookie = await serve(undefined, (session) => Object.assign(session, content(size)))
      cookies.push(cookie.split(';')[0])
    }
    let next = 0
    for (const [name, action] of Object.entries(work)) {
      operations[`request: ${name}, ${mode}, ${size} bytes`] = () => serve(cookies[next++ % cookies.length], action)
    }
  }
  return { operations, stop: () => Promise.all(managers.map((manager) => manager.stop())) }
}

/** The clients as the manager uses them, behind the guard, beside the packages by themselves. */
async function clients(stores) {
  // Not before it is needed: it slows down the strings of the process, until the adapter is loaded.
  const { Redis } = await import('ioredis')
  const value = Buffer.alloc(1500, 'x')
  const observer = { operation() {}, down: (_node, error) => console.error(error.message) }
  const guarded = (kind, make, port) => {
    const address = { nodeId: 'n1', kind, host: '127.0.0.1', port, label: kind, url: `redis://127.0.0.1:${port}` }
    const limits = { operationTimeout: 1000, maxItemSize: 1_000_000 }
    return new StorageNode(address, make(address, { ...limits, logger: quiet }), limits, observer)
  }
  const memcached = guarded('memcached', memcachedStorage, stores.memcached.port)
  const redis = guarded('redis', redisStorage, stores.redis.port)
  const bareMemcached = memjs.Client.create(`127.0.0.1:${stores.memcached.port}`)
  const bareRedis = new Redis(stores.redis.port)
  return {
    groups: [
      {
        'set, 1500 bytes: memjs': () => bareMemcached.set('key', value, { expires: 60 }),
        'set, 1500 bytes: memcached adapter, guarded': () => memcached.set('key', value, 60),
      },
      {
        'get, 1500 bytes: memjs': () => bareMemcached.get('key'),
        'get, 1500 bytes: memcached adapter, guarded': () => memcached.get('key'),
      },
      {
        'set, 1500 bytes: ioredis': () => bareRedis.set('key', value, 'EX', 60),
        'set, 1500 bytes: redis adapter, guarded': () => redis.set('key', value, 60),
      },
      {
        'get, 1500 bytes: ioredis': () => bareRedis.getBuffer('key'),
        'get, 1500 bytes: redis adapter, guarded': () => redis.get('key'),
      },
    ],
    async stop() {
      await Promise.all([memcached.close(), redis.close(), bareRedis.quit()])
      bareMemcached.close()
    },
  }
}

const measured = []
async function run(operations) {
  for (const row of await compare(operations)) {
    measured.push(row)
    const noise = row.spread > row.us / 4 ? ' (noise)' : ''
    const cells = [row.name, Math.round(1e6 / row.us), `${row.us.toFixed(2)}${noise}`, row.spread, row.cpu]
    console.log(`| ${cells.map((cell, i) => (i > 2 ? cell.toFixed(2) : cell)).join(' | ')} |`)
  }
}

checkMachine()
console.log('| | operations/s | µs | ± | CPU µs |\n| --- | --- | --- | --- | --- |')
await run(idsAndCookies())
for (const size of SIZES) await run(records(size))
for (const size of SIZES) {
  const { operations, stop } = await requests(size)
  await run(operations)
  await stop()
}
const { groups, stop } = await clients(await startStores())
for (const group of groups) await run(group)
await stop()
if (values.json) writeFileSync(values.json, `${JSON.stringify(measured, null, 2)}\n`)
process.exit()
