// Measures what a session adds to a request, beside the peers: npm run bench [-- --quick] [--only name] [--rounds n]
// [--seconds n] [--json file]. Needs memcached, redis-server, and two cores: the server has one, all else the other.
import { execFile, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { contenders, quick, targets } from './contenders.mjs'

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    size: { type: 'string' },
    json: { type: 'string' },
  },
})
const CONNECTIONS = 32
const rounds = Number(options.rounds ?? (options.quick ? 2 : 3))
const duration = Number(options.seconds ?? 1)
const sizes = (options.size ?? (options.quick ? '1500' : '1500,20000')).split(',').map(Number)
const chosen = (options.quick ? quick : contenders).filter(({ name }) => !options.only || name.includes(options.only))
const run = promisify(execFile)
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const children = new Set()
const endAll = () => {
  for (const child of children) child.kill('SIGKILL')
}
process.on('exit', endAll)

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function startStore(command, args, port) {
  const child = spawn('taskset', ['-c', '1', command, ...args], { stdio: 'ignore' })
  children.add(child)
  child.once('error', () => fail(`${command} can not be started: install it (and taskset, of util-linux).`))
  for (let attempt = 0; attempt < 200; attempt++) {
    const socket = connect(port, '127.0.0.1')
    const isUp = await new Promise((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    )
    socket.destroy()
    if (isUp) return child
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  return fail(`${command} does not answer on port ${port}.`)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

/** Microseconds of processor time a process has used so far. */
function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

async function measure(contender, size, stores) {
  const settings = {
    ...contender,
    size,
    url: `redis://127.0.0.1:${stores.redis.port}`,
    memcached: `n1:127.0.0.1:${stores.memcached.port}`,
  }
  const server = fork(here('server.mjs'), [JSON.stringify(settings)], {
    execArgv: [],
    env: { ...process.env, NODE_ENV: 'production' },
  })
  children.add(server)
  await run('taskset', ['-acp', '0', `${server.pid}`])
  let isUp = false
  server.once('exit', () => isUp || fail(`${contender.name} ended before it served.`))
  const [{ port }] = await once(server, 'message')
  isUp = true
  const url = `http://127.0.0.1:${port}`
  const cookies = []
  for (let i = 0; i < CONNECTIONS; i++) {
    const response = await fetch(`${url}/fill`)
    await response.text()
    cookies.push(
      response.headers
        .getSetCookie()
        .map((cookie) => cookie.split(';')[0])
        .join('; ') || 'other=1',
    )
  }
  const work = contender.name.endsWith('ignored')
    ? { none: ['/ignored.png', 'none'] }
    : { none: ['/none', 'none'], read: ['/read', 'en-GB'], write: ['/write', 'written'] }
  const results = {}
  const generate = async (path, expected, seconds) => {
    const parameters = JSON.stringify({ url, path, cookies, duration: seconds, expected })
    const { stdout } = await run('taskset', ['-c', '1', process.execPath, here('load.mjs'), parameters])
    return JSON.parse(stdout)
  }
  let written = 0
  for (const [name, [path, expected]] of Object.entries(work)) {
    await generate(path, expected, 0.3).then(({ total }) => (written += name === 'write' ? total : 0))
    const before = [server.pid, stores.memcached.pid, stores.redis.pid].map(cpuOf)
    const result = await generate(path, expected, duration)
    const after = [server.pid, stores.memcached.pid, stores.redis.pid].map(cpuOf)
    const [cpu, ...store] = after.map((value, i) => (value - before[i]) / result.total)
    if (result.failed > 0) fail(`${contender.name}, ${name}: ${result.failed} answers were wrong.`)
    if (name === 'write') written += result.total
    results[name] = { us: 1e6 / result.rps, p50: result.p50, p99: result.p99, cpu, storeCpu: store[0] + store[1] }
  }
  if (contender.session.kind !== 'none' && work.write) {
    // What was written has to be there, or it was no work.
    const counts = await Promise.all(
      cookies.map(async (cookie) => Number(await (await fetch(`${url}/views`, { headers: { cookie } })).text())),
    )
    const kept = counts.reduce((sum, count) => sum + count, 0)
    if (!(kept >= written * 0.95)) fail(`${contender.name}: ${written} writes were answered, and ${kept} are there.`)
  }
  server.disconnect()
  await once(server, 'exit')
  return results
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
const spread = (numbers) => (Math.max(...numbers) - Math.min(...numbers)) / 2

const [memcachedPort, redisPort] = [await freePort(), await freePort()]
const asRoot = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
const memcached = await startStore(
  'memcached',
  ['-l', '127.0.0.1', '-p', `${memcachedPort}`, '-U', '0', '-t', '1', '-m', '256', ...asRoot],
  memcachedPort,
)
const redis = await startStore(
  'redis-server',
  ['--port', `${redisPort}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
  redisPort,
)
const stores = { memcached: { pid: memcached.pid, port: memcachedPort }, redis: { pid: redis.pid, port: redisPort } }

const measured = []
for (const size of sizes) {
  const samples = new Map(chosen.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const contender of chosen) {
      process.stderr.write(`round ${round + 1} of ${rounds}, ${size} bytes: ${contender.name}\x1b[K\r`)
      samples.get(contender.name).push(await measure(contender, size, stores))
    }
  }
  for (const { name, bare } of chosen) {
    for (const work of ['none', 'read', 'write']) {
      const own = samples
        .get(name)
        .map((sample) => sample[work])
        .filter(Boolean)
      const base = samples.get(bare)?.map((sample) => sample[work])
      if (own.length === 0 || !base) continue
      const of = (field) => median(own.map((sample) => sample[field]))
      const added = own.map((sample, i) => sample.us - base[i].us)
      measured.push({
        size,
        name,
        work,
        ratio: median(base.map(({ us }) => us)) / of('us'),
        added: median(added),
        spread: spread(added),
        p50: of('p50'),
        p99: of('p99'),
        cpu: of('cpu'),
        storeCpu: of('storeCpu'),
      })
    }
  }
}
endAll()

for (const size of sizes) {
  console.log(`\n### Sessions of ${size} bytes, ${CONNECTIONS} connections, medians of ${rounds} rounds\n`)
  console.log('| | work | requests/s of the bare framework | added µs | ± | p50 ms | p99 ms | CPU µs | store CPU µs |')
  console.log('|---|---|---|---|---|---|---|---|---|')
  for (const row of measured.filter((one) => one.size === size)) {
    const cells = [
      row.name,
      row.work,
      row.ratio.toFixed(2),
      row.added.toFixed(1),
      row.spread.toFixed(1),
      row.p50,
      row.p99,
      row.cpu.toFixed(0),
      row.storeCpu.toFixed(0),
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
}
const find = (name, work) => measured.find((row) => row.size === sizes[0] && row.name === name && row.work === work)
console.log('\n| work | ours | added µs | peer | added µs | ratio | to reach | |')
console.log('|---|---|---|---|---|---|---|---|')
for (const [work, own, limit, peer] of targets) {
  const [mine, theirs] = [find(own, work), find(peer, work)]
  if (!mine || !theirs) continue
  const ratio = mine.added / theirs.added
  console.log(
    `| ${work} | ${own} | ${mine.added.toFixed(1)} | ${peer} | ${theirs.added.toFixed(1)} | ${ratio.toFixed(2)} | ${limit} | ${ratio <= limit ? 'reached' : 'not reached'} |`,
  )
}
for (const row of measured.filter(({ name, size }) => name.endsWith('ignored') && size === sizes[0])) {
  console.log(
    `| ignored | ${row.name} | ${row.added.toFixed(1)} ± ${row.spread.toFixed(1)} | | | | 2 µs | ${row.added <= 2 ? 'reached' : 'not reached'} |`,
  )
}
if (options.json) writeFileSync(options.json, JSON.stringify(measured, null, 2))
process.exit()
