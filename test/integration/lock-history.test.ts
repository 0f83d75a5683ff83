import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type AppOptions, AppProcess } from '../support/app-process.ts'
import { rawMemcached } from '../support/raw-stores.ts'
import { startMemcached, startRedis } from '../support/servers.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'

/** 100,000 increments take some ten minutes: MSM_TEST_FULL=1. */
const IS_FULL = process.env.MSM_TEST_FULL === '1'
const INCREMENTS = IS_FULL ? 100_000 : 1500
const COUNTERS = 8
/** Milliseconds of a stop: longer than the lease. */
const STOP = 1300
const PATIENCE = 10_000

/** What was asked of one counter, by clients of all processes. */
class Counter {
  acknowledged = 0
  refused = 0
  /** Requests of which nobody knows whether they were carried out. */
  unclear = 0
  cookie = ''

  async increment(app: AppProcess): Promise<void> {
    const status = await ask(app, '/slow-count', this.cookie)
    if (status === 200) this.acknowledged++
    else if (status === 409) this.refused++
    else this.unclear++
  }
}

async function ask(app: AppProcess, path: string, cookie: string): Promise<number | undefined> {
  try {
    const response = await fetch(app.url + path, { headers: { cookie }, signal: AbortSignal.timeout(PATIENCE) })
    await response.arrayBuffer()
    return response.status
  } catch {
    return undefined
  }
}

interface History {
  readonly counters: readonly Counter[]
  /** What each counter is in the end. */
  readonly values: readonly number[]
}

/** Three processes increase counters under locks, while they are stopped and their connections broken. */
async function record(kind: 'memcached' | 'Redis'): Promise<History> {
  const server = await (kind === 'Redis' ? startRedis() : startMemcached())
  onTestFinished(() => server.stop())
  const proxy = await TcpProxy.start(server)
  onTestFinished(() => proxy.stop())
  const options: AppOptions = {
    memcachedNodes: kind === 'Redis' ? `redis://127.0.0.1:${proxy.port}` : `127.0.0.1:${proxy.port}`,
    sticky: false,
    lockingMode: 'all',
    lockExpiration: 1,
    lockTimeoutMs: 5000,
    conflictPolicy: 'reject',
    operationTimeout: 500,
  }
  const apps: AppProcess[] = []
  onTestFinished(async () => void (await Promise.all(apps.map((app) => app.kill()))))
  for (let i = 0; i < 3; i++) apps.push(await AppProcess.start('express', options))
  const counters = await Promise.all(
    Array.from({ length: COUNTERS }, async () => {
      const counter = new Counter()
      const response = await fetch(`${apps[0]!.url}/mark?name=first`)
      counter.cookie = response.headers.get('set-cookie')!.split(';')[0]!
      return counter
    }),
  )
  const done = (): number => counters.reduce((sum, counter) => sum + counter.acknowledged, 0)
  const clients = counters.flatMap((counter) =>
    apps.map(async (app) => {
      while (done() < INCREMENTS) await counter.increment(app)
    }),
  )
  let isOver = false
  const faults = (async () => {
    for (let i = 0; !isOver; i++) {
      await sleep(100 + Math.random() * 200)
      const app = apps[i % apps.length]!
      app.pause()
      await sleep(STOP)
      app.resume()
      await sleep(200)
      if (i % 3 === 0) proxy.reset()
      else if (i % 3 === 1) proxy.blackhole()
      else proxy.cutAfter(100)
      await sleep(300)
      await proxy.heal()
      await sleep(400)
    }
  })()
  await Promise.all(clients)
  isOver = true
  await faults
  const values = await Promise.all(
    counters.map(async ({ cookie }) => {
      const read = async (): Promise<unknown> => {
        const response = await fetch(`${apps[0]!.url}/read`, { headers: { cookie } })
        return response.status === 200 ? ((await response.json()) as { count: number }).count : undefined
      }
      await expect.poll(read, { timeout: PATIENCE }).toBeDefined()
      return (await read()) as number
    }),
  )
  return { counters, values }
}

/** Counters that are less than what was acknowledged, or more than what was asked. */
function wrong({ counters, values }: History): string[] {
  return counters.flatMap(({ acknowledged, unclear }, i) => {
    const value = values[i]!
    if (value >= acknowledged && value <= acknowledged + unclear) return []
    return [`${value} of ${acknowledged} acknowledged and ${unclear} unclear`]
  })
}

describe.each(['memcached', 'Redis'] as const)('a history of locked increments on %s', (kind) => {
  it('has none that was acknowledged and is missing, nor one too many', { timeout: 3_600_000 }, async () => {
    const history = await record(kind)
    expect(wrong(history)).toEqual([])
    if (!IS_FULL) return
    const sum = (of: (counter: Counter) => number): number =>
      history.counters.reduce((total, counter) => total + of(counter), 0)
    const [acknowledged, refused, unclear] = [sum((c) => c.acknowledged), sum((c) => c.refused), sum((c) => c.unclear)]
    process.stdout.write(`${kind}: ${acknowledged} acknowledged, ${refused} refused, ${unclear} unclear\n`)
  })
})

// The check bites: without the version that the store compares, the same stop loses what was acknowledged.
it.each([
  [true, 409],
  [false, 200],
])('a process that is stopped for longer than its lease, with fencing: %s', async (isFenced, expected) => {
  const server = await startMemcached()
  onTestFinished(() => server.stop())
  const raw = rawMemcached(server)
  const options: AppOptions = {
    memcachedNodes: `127.0.0.1:${server.port}`,
    sticky: false,
    lockingMode: 'all',
    lockExpiration: 1,
    lockTimeoutMs: 5000,
    conflictPolicy: 'reject',
  }
  const stopped = await AppProcess.start('express', options, { isFenced })
  const other = await AppProcess.start('express', options, { isFenced })
  onTestFinished(async () => void (await Promise.all([stopped.kill(), other.kill()])))
  const response = await fetch(`${stopped.url}/mark?name=first`)
  const cookie = response.headers.get('set-cookie')!.split(';')[0]!
  const lock = `lock:${cookie.slice('JSESSIONID='.length)}`
  await expect.poll(() => raw.get(lock)).toBeUndefined()
  const slow = ask(stopped, '/hold?ms=500', cookie)
  await expect.poll(async () => (await fetch(`${stopped.url}/holding`)).json(), { interval: 5 }).toBe(1)
  stopped.pause()
  await expect.poll(() => raw.get(lock), { timeout: PATIENCE }).toBeUndefined()
  expect(await ask(other, '/hold?ms=0', cookie)).toBe(200)
  stopped.resume()
  expect(await slow).toBe(expected)
  const { count } = (await (await fetch(`${other.url}/read`, { headers: { cookie } })).json()) as { count: number }
  // Two were acknowledged if the second was not refused.
  expect(count).toBe(1)
})
