import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type AppOptions, AppProcess } from '../support/app-process.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'

const CLIENTS = 32
/** All of it takes four minutes: MSM_TEST_FULL=1 npm test. */
const IS_FULL = process.env.MSM_TEST_FULL === '1'
const REQUESTS = IS_FULL ? 2000 : 400
const REQUESTS_WITH_STOPS = IS_FULL ? 600 : 150

let memcached: Server[]
let redis: Server[]
beforeAll(async () => {
  memcached = await Promise.all([startMemcached(), startMemcached()])
  redis = await Promise.all([startRedis(), startRedis()])
  return async () => void (await Promise.all([...memcached, ...redis].map((server) => server.stop())))
})

const stores = {
  'two memcached nodes': () => memcached.map((server, i) => `n${i + 1}:127.0.0.1:${server.port}`).join(','),
  'one Redis': () => `redis://127.0.0.1:${redis[0]!.port}`,
  'two Redis nodes': () => redis.map((server, i) => `n${i + 1}:redis://127.0.0.1:${server.port}`).join(','),
}
type Store = keyof typeof stores

/** Two processes of an app that share their sessions. */
async function twoProcesses(store: Store, options: AppOptions): Promise<AppProcess[]> {
  const all: AppOptions = { memcachedNodes: stores[store](), sticky: false, lockTimeoutMs: 30_000, ...options }
  const apps = await Promise.all([AppProcess.start('express', all), AppProcess.start('express', all)])
  onTestFinished(async () => void (await Promise.all(apps.map((app) => app.kill()))))
  return apps
}

async function newSession(app: AppProcess): Promise<string> {
  const response = await fetch(`${app.url}/mark?name=first`)
  return response.headers.get('set-cookie')!.split(';')[0]!
}

/** Sends requests of one session to all processes in turn, by 32 clients at the same time. How many were acknowledged. */
async function storm(
  apps: AppProcess[],
  cookie: string,
  path: (i: number) => string,
  total = REQUESTS,
): Promise<number> {
  let next = 0
  let acknowledged = 0
  const statuses = new Map<number, number>()
  const client = async (): Promise<void> => {
    while (next < total) {
      const i = next++
      const response = await fetch(apps[i % apps.length]!.url + path(i), { headers: { cookie } })
      await response.arrayBuffer()
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
      if (response.status === 200) acknowledged++
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  for (const status of statuses.keys()) expect([200, 409]).toContain(status)
  return acknowledged
}

async function read(app: AppProcess, path: string, cookie: string): Promise<{ count: number; marks: number }> {
  const response = await fetch(app.url + path, { headers: { cookie } })
  return (await response.json()) as { count: number; marks: number }
}

describe.each(Object.keys(stores) as Store[])('32 clients with one session, on two processes and %s', (store) => {
  it.each<[string, AppOptions]>([
    ["lockingMode 'all'", { lockingMode: 'all' }],
    ["lockingMode 'auto'", { lockingMode: 'auto' }],
    ['a matching uriPattern', { lockingMode: 'uriPattern:/slow-count|/other' }],
    ['optimistic with a mergeAttribute that adds', { mergeAttribute: 'add' }],
  ])('lose no increment of a counter with %s', async (_what, options) => {
    const apps = await twoProcesses(store, options)
    const cookie = await newSession(apps[0]!)
    expect(await storm(apps, cookie, () => '/slow-count')).toBe(REQUESTS)
    expect(await read(apps[1]!, '/read', cookie)).toMatchObject({ count: REQUESTS })
  })

  it('lose none of many attributes that are set at the same time in the default mode', async () => {
    const apps = await twoProcesses(store, {})
    const cookie = await newSession(apps[0]!)
    expect(await storm(apps, cookie, (i) => `/mark?name=mark-${i}`)).toBe(REQUESTS)
    expect(await read(apps[0]!, '/marks', cookie)).toEqual({ marks: REQUESTS })
  })

  it("lose increments with lockingMode 'none', which shows that these tests would notice", async () => {
    const apps = await twoProcesses(store, { lockingMode: 'none' })
    const cookie = await newSession(apps[0]!)
    await storm(apps, cookie, () => '/slow-count')
    expect((await read(apps[0]!, '/read', cookie)).count).toBeLessThan(REQUESTS)
  })

  it.each<[string, AppOptions]>([
    ["conflictPolicy 'reject'", { conflictPolicy: 'reject' }],
    ['a mergeAttribute that adds', { mergeAttribute: 'add' }],
  ])(
    'lose nothing acknowledged if a process stops for longer than its lease, with %s',
    { timeout: 60_000 },
    async (_what, options) => {
      const apps = await twoProcesses(store, { lockingMode: 'all', lockExpiration: 1, ...options })
      const cookie = await newSession(apps[0]!)
      let isOver = false
      const stops = (async () => {
        for (let i = 0; !isOver; i++) {
          await sleep(100)
          apps[i % 2]!.pause()
          await sleep(1200)
          apps[i % 2]!.resume()
        }
      })()
      const acknowledged = await storm(apps, cookie, () => '/slow-count', REQUESTS_WITH_STOPS)
      isOver = true
      await stops
      expect((await read(apps[0]!, '/read', cookie)).count).toBe(acknowledged)
    },
  )
})

it("lose no increment in sticky mode with lockingMode 'all'", async () => {
  const options: AppOptions = {
    memcachedNodes: stores['two memcached nodes'](),
    lockingMode: 'all',
    lockTimeoutMs: 30_000,
  }
  const app = await AppProcess.start('express', options)
  onTestFinished(async () => void (await app.kill()))
  const cookie = await newSession(app)
  expect(await storm([app], cookie, () => '/slow-count')).toBe(REQUESTS)
  expect(await read(app, '/read', cookie)).toMatchObject({ count: REQUESTS })
})
