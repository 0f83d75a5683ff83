// Measures what a session adds to a request, beside the peers:
//
//   npm run bench [-- --quick] [--only part-of-a-name] [--work read] [--size 1500] [--rounds 5] [--duration 1] [--json file]
//
// Needs Linux with two cores, memcached and redis-server. --profile folder writes a CPU profile of each server.
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { chooseContenders, worksOf } from './contenders.mjs'
import { checkMachine, cpuOf, Load, Server, startStores } from './processes.mjs'
import { rowsAsMarkdown, rowsOf, verdictsAsMarkdown, verdictsOf, warningsOf } from './report.mjs'

const CONNECTIONS = 32
/** Seconds for each route before the first round: long enough for the compiler to have seen it. */
const WARM_UP = 0.5
/** Seconds for each contender before each round: V8 gives up memory while a process is idle, and has to get it back. */
const WAKE_UP = 0.25
const WORKS = ['none', 'read', 'write']

const { quick, only, profile, json, ...texts } = parseOptions()
const rounds = positive('rounds', texts.rounds)
const seconds = positive('duration', texts.duration ?? (quick ? '0.4' : '1'))
const sizes = (texts.size ?? (quick ? '1500' : '1500,20000')).split(',').map((text) => positive('size', text))
const works = texts.work?.split(',') ?? WORKS
if (!works.every((work) => WORKS.includes(work))) stop(`--work: must be of ${WORKS.join(', ')}, not "${texts.work}".`)
const chosen = chooseContenders(quick, only, works)
if (chosen.length === 0) stop(`--only: no contender has "${only}" in its name.`)

function parseOptions() {
  const text = { type: 'string' }
  const options = { only: text, work: text, size: text, duration: text, json: text, profile: text }
  try {
    return parseArgs({
      options: { ...options, rounds: { ...text, default: '5' }, quick: { type: 'boolean', default: false } },
    }).values
  } catch (error) {
    return stop(error.message)
  }
}

function positive(name, text) {
  const number = Number(text)
  return number > 0 ? number : stop(`--${name}: must be a number above 0, not "${text}".`)
}

function stop(message) {
  console.error(message)
  process.exit(1)
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`${text}\x1b[K\r`)
}

/** A contender's server, with a session for each connection. */
async function open(one, size, stores) {
  const settings = {
    ...one.contender,
    size,
    url: `redis://127.0.0.1:${stores.redis.port}`,
    memcached: `n1:127.0.0.1:${stores.memcached.port}`,
  }
  one.server = await Server.start(settings, { profile })
  for (let i = 0; i < CONNECTIONS; i++) {
    const response = await fetch(`${one.server.url}/fill`)
    if ((await response.text()) !== 'filled') throw new Error(`/fill answered with ${response.status}`)
    const pairs = response.headers.getSetCookie().map((cookie) => cookie.split(';')[0])
    // A bare framework gets a cookie as well: parsing the header is no part of the difference.
    one.cookies.push(pairs.join('; ') || `JSESSIONID=${'0'.repeat(32)}-n1`)
  }
}

/** One sample of one route. */
async function measure(one, work, duration, load, stores) {
  const { server, cookies } = one
  const storesCpu = () => cpuOf(stores.memcached.pid) + cpuOf(stores.redis.pid)
  const [cpu, storeCpu] = [await server.cpu(), storesCpu()]
  const result = await load.run({ url: server.url, ...one.works[work], cookies, seconds: duration })
  const { total, us, p50, p99, wrong } = result
  if (wrong > 0) throw new Error(`${wrong} of ${total} answers were wrong`)
  if (work === 'write') one.written += total
  return { us, p50, p99, cpu: ((await server.cpu()) - cpu) / total, storeCpu: (storesCpu() - storeCpu) / total }
}

/** What was answered as written has to be there, or it was no work. */
async function checkWritten({ contender, server, cookies, written }) {
  if (contender.session.kind === 'none' || written === 0) return
  const counts = await Promise.all(
    cookies.map(async (cookie) => Number(await (await fetch(`${server.url}/views`, { headers: { cookie } })).text())),
  )
  const kept = counts.reduce((sum, count) => sum + count, 0)
  if (!(kept >= written)) throw new Error(`${written} writes were answered, and ${kept} are there`)
}

async function measureAll(size, stores, load, failures) {
  const samples = new Map()
  const running = new Set()
  /** A contender that fails is out; the others go on. */
  const attempt = async (one, work, action) => {
    const { name } = one.contender
    try {
      await action()
    } catch (error) {
      failures.push({ size, name, work, message: error.message })
      console.error(`${name}, ${work}: ${error.message}`)
      running.delete(one)
      for (const other of WORKS) samples.delete(`${name} ${other}`)
      await one.server?.stop()
    }
  }
  for (const contender of chosen) {
    progress(`${size} bytes, starting ${contender.name}`)
    const one = { contender, works: worksOf(contender, quick, works), server: undefined, cookies: [], written: 0 }
    running.add(one)
    await attempt(one, 'start', () => open(one, size, stores))
  }
  for (let round = 0; round <= rounds; round++) {
    for (const one of running) {
      const own = Object.keys(one.works)
      if (round > 0) await attempt(one, 'wake-up', () => measure(one, own.at(-1), WAKE_UP, load, stores))
      for (const work of own) {
        if (!running.has(one)) continue
        const key = `${one.contender.name} ${work}`
        progress(`${size} bytes, ${round === 0 ? 'warming up' : `round ${round} of ${rounds}`}: ${key}`)
        await attempt(one, work, async () => {
          const sample = await measure(one, work, round === 0 ? WARM_UP : seconds, load, stores)
          if (round > 0) samples.set(key, [...(samples.get(key) ?? []), sample])
        })
      }
    }
  }
  for (const one of running) await attempt(one, 'write', () => checkWritten(one))
  for (const { server } of running) await server.stop()
  progress('')
  return rowsOf(chosen, size, samples)
}

try {
  checkMachine()
  const stores = await startStores()
  const load = new Load()
  const failures = []
  const rows = []
  for (const size of sizes) {
    const measured = await measureAll(size, stores, load, failures)
    rows.push(...measured)
    console.log(`\n### Sessions of ${size} bytes, ${CONNECTIONS} connections, medians of ${rounds} rounds\n`)
    console.log(rowsAsMarkdown(measured))
  }
  const verdicts = verdictsOf(rows, sizes[0])
  if (verdicts.length > 0) console.log(`\n### To reach, with ${sizes[0]} bytes\n\n${verdictsAsMarkdown(verdicts)}`)
  const warnings = warningsOf(rows)
  for (const warning of warnings) console.log(`\n${warning}`)
  for (const { name, work, size, message } of failures)
    console.log(`\nFAILED ${name}, ${work}, ${size} bytes: ${message}`)
  if (json) {
    const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length }
    const report = { machine, rounds, seconds, connections: CONNECTIONS, rows, verdicts, warnings, failures }
    writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`)
  }
  process.exit(failures.length > 0 ? 1 : 0)
} catch (error) {
  stop(error.message)
}
