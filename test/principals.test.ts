import { createHash } from 'node:crypto'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { SessionManagerOptions } from '../lib/index.ts'
import { rawMemcached, rawRedis } from './support/raw-stores.ts'
import { startMemcached, startRedis } from './support/servers.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from './support/web-app.ts'

async function login(app: App, name: string): Promise<string> {
  const { announced, status } = await app.call(`/set?principal=${name}`)
  expect(status).toBe(200)
  return announced!
}

async function isAlive(app: App, id: string): Promise<boolean> {
  return (await app.call('/get', id)).body.attributes.principal !== undefined
}

const modes: [string, (nodes: MemoryNodes, route: string) => SessionManagerOptions][] = [
  ['sticky', (nodes, route) => ({ ...nodes.options, jvmRoute: route, sessionBackupAsync: false })],
  ['non-sticky', (nodes) => ({ ...nodes.options, sticky: false })],
]

describe.each(modes)('in %s mode', (_mode, optionsOf) => {
  const twoApps = async (options: SessionManagerOptions = {}, count = 2): Promise<[App, App]> => {
    const nodes = memoryNodes(count)
    return [
      await startApp({ ...optionsOf(nodes, 't1'), ...options }),
      await startApp({ ...optionsOf(nodes, 't2'), ...options }),
    ]
  }

  it('all sessions of a principal are found from any process, and no others', async () => {
    const apps = await twoApps()
    const ids = [await login(apps[0], 'ann'), await login(apps[1], 'ann')]
    await login(apps[0], 'bob')
    for (const app of apps) {
      const found = await app.manager.findByPrincipal('ann')
      expect(found.map(({ id }) => id).sort()).toEqual([...ids].sort())
      expect(found[0]!.creationTime).toBeInstanceOf(Date)
    }
    expect(await apps[0].manager.findByPrincipal('carol')).toEqual([])
  })

  it('all of them end but one, in the other process too', async () => {
    const apps = await twoApps()
    const [kept, here, there] = [await login(apps[0], 'ann'), await login(apps[0], 'ann'), await login(apps[1], 'ann')]
    const reasons: string[] = []
    apps[0].manager.on('destroyed', ({ reason }) => void reasons.push(reason))
    expect(await apps[0].manager.destroyByPrincipal('ann', { except: kept })).toBe(2)
    expect(reasons).toEqual(['principal', 'principal'])
    expect(await isAlive(apps[0], here)).toBe(false)
    await expect.poll(() => isAlive(apps[1], there), { timeout: 4000 }).toBe(false)
    expect(await isAlive(apps[0], kept)).toBe(true)
    expect((await apps[1].manager.findByPrincipal('ann')).map(({ id }) => id)).toEqual([kept])
  })

  it('a session that is destroyed, or changes its principal, is no longer found', async () => {
    const [app] = await twoApps()
    const [first, second] = [await login(app, 'ann'), await login(app, 'ann')]
    await app.call('/out', first)
    await app.call('/set?principal=bob', second)
    expect(await app.manager.findByPrincipal('ann')).toEqual([])
    expect((await app.manager.findByPrincipal('bob')).map(({ id }) => id)).toEqual([second])
  })

  it('a session that moved to another node is found under its new id', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp(optionsOf(nodes, 't1'))
    const id = await login(app, 'ann')
    const own = id.slice(33, 35)
    await expect.poll(() => app.manager.health().backlog).toBe(0)
    nodes.get(own).stop()
    const { announced } = await app.call('/set?x=1', id)
    expect(announced).toBeDefined()
    expect((await app.manager.findByPrincipal('ann')).map((session) => session.id)).toEqual([announced])
  })

  it('logins at the same time get exactly as many sessions as may be', async () => {
    const apps = await twoApps({ maxSessionsPerPrincipal: 3 })
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => apps[i % 2]!.call('/set?principal=ann')))
    const statuses = answers.map(({ status }) => status).sort()
    expect(statuses).toEqual([200, 200, 200, 403, 403, 403, 403, 403, 403, 403])
    expect(await apps[0].manager.findByPrincipal('ann')).toHaveLength(3)
  })

  it("the oldest session gives way to a new login with principalLimitPolicy 'destroy-oldest'", async () => {
    const [app] = await twoApps({ maxSessionsPerPrincipal: 2, principalLimitPolicy: 'destroy-oldest' })
    const ids = [await login(app, 'ann'), await login(app, 'ann'), await login(app, 'ann')]
    expect(await isAlive(app, ids[0]!)).toBe(false)
    expect(await isAlive(app, ids[1]!)).toBe(true)
    expect(await isAlive(app, ids[2]!)).toBe(true)
  })
})

it('the store holds no name of a principal, only its hash', async () => {
  const nodes = memoryNodes(1)
  const app = await startApp({ ...nodes.options, sticky: false })
  await login(app, 'ann')
  const keys = nodes.log.filter((line) => line.includes('principal:'))
  expect(keys.length).toBeGreaterThan(0)
  for (const line of keys) expect(line).toMatch(/principal:[0-9a-f]{32}$/)
})

it.each([
  ['memcached', startMemcached, rawMemcached, ''],
  ['Redis', startRedis, rawRedis, 'redis://'],
] as const)(
  'the list of a principal expires by itself on %s, after its sessions',
  async (_kind, startServer, rawStore, scheme) => {
    const server = await startServer()
    onTestFinished(() => server.stop())
    const memcachedNodes = `n1:${scheme}127.0.0.1:${server.port}`
    const app = await startApp({ memcachedNodes, sticky: false, maxInactiveInterval: 7200 })
    await login(app, 'ann')
    const hash = createHash('sha256').update('ann').digest('hex').slice(0, 32)
    const list = await rawStore(server).get(`principal:${hash}`)
    expect(list!.ttl).toBeGreaterThan(14_390)
    expect(list!.ttl).toBeLessThanOrEqual(14_400)
  },
)
