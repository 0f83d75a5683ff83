import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { SessionManagerOptions } from '../../../lib/index.ts'
import { decodeSessionRecord } from '../../../lib/records/session-record.ts'
import { decodeValidityInfo } from '../../../lib/records/validity-info.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

// The clocks only: connections go on by real timers. The store's expiries run by them too.
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date', 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** What is stored of a session: on its own node, and on the next. */
const KEYS = [
  ['', 'own'],
  ['validity:', 'own'],
  ['bak:', 'next'],
  ['bak:validity:', 'next'],
] as const

interface Stored {
  readonly nodes: MemoryNodes
  readonly app: App
  readonly id: string
  /** True for each of KEYS that is there. */
  there(): Promise<boolean[]>
  /** Seconds of expiry each of KEYS was last sent with. */
  ttls(): (number | undefined)[]
}

async function stored(options: SessionManagerOptions): Promise<Stored> {
  const nodes = memoryNodes(2)
  const sent = new Map<string, number>()
  for (const nodeId of ['n1', 'n2']) watch(nodes, nodeId, sent)
  const app = await startApp({ ...nodes.options, sticky: false, touchAfterSeconds: 0, ...options }, (express) => {
    express.get('/untouched', (_request, response) => void response.json({}))
    express.get('/remember', (request, response) => {
      request.session.cookie.maxAge = Number(request.query.seconds) * 1000
      response.json({ id: request.session.id, attributes: {} })
    })
    express.get('/load', async (request, response) => {
      const session = await request.loadSession()
      session.k = 'v'
      response.json({ id: session.id, attributes: session })
    })
  })
  const { announced: id } = await app.call(options.lazy ? '/load' : '/set?k=v')
  const own = id!.slice(33)
  const where = { own: nodes.get(own), next: nodes.get(own === 'n1' ? 'n2' : 'n1') }
  const there = () =>
    Promise.all(KEYS.map(async ([prefix, node]) => (await where[node].get(prefix + id)) !== undefined))
  await expect.poll(there).toEqual([true, true, true, true])
  return { nodes, app, id: id!, there, ttls: () => KEYS.map(([prefix]) => sent.get(prefix + id)) }
}

/** Notes the expiry that each key is sent with. */
function watch(nodes: MemoryNodes, nodeId: string, sent: Map<string, number>): void {
  const node = nodes.get(nodeId)
  for (const method of ['set', 'add', 'replace', 'compareAndSwap', 'touch'] as const) {
    const operation = node[method].bind(node) as (...args: unknown[]) => Promise<never>
    node[method] = (...args: unknown[]) => {
      sent.set(args[0] as string, args[method === 'touch' ? 1 : 2] as number)
      return operation(...args)
    }
  }
}

async function idle({ app }: Stored): Promise<void> {
  await expect.poll(() => app.manager.health().backlog).toBe(0)
}

// MemcachedSessionManagerIntegrationTest.testExpiredSessionRemovedFromMemcached, testInvalidSessionNotFound
it('ends a session that was idle for maxInactiveInterval, and leaves nothing of it after twice that', async () => {
  const session = await stored({ maxInactiveInterval: 600 })
  vi.advanceTimersByTime(599_000)
  expect((await session.app.call('/get', session.id)).body.attributes).toEqual({ k: 'v' })
  await idle(session)
  vi.advanceTimersByTime(600_000)
  const after = await session.app.call('/get', session.id)
  expect(after.body.attributes).toEqual({})
  expect(after.body.id.slice(0, 32)).not.toBe(session.id.slice(0, 32))
  vi.advanceTimersByTime(600_000)
  expect(await session.there()).toEqual([false, false, false, false])
})

// testExpirationOfSessionsInMemcachedIfBackupWasSkippedSimple, …ManyReadonlyRequests
it('keeps session and copy in the store for as long as the session is read', async () => {
  const session = await stored({ maxInactiveInterval: 600 })
  for (let i = 0; i < 10; i++) {
    vi.advanceTimersByTime(450_000)
    expect((await session.app.call('/get', session.id)).body).toEqual({ id: session.id, attributes: { k: 'v' } })
    await idle(session)
    expect(await session.there()).toEqual([true, true, true, true])
  }
  expect(session.app.manager.statistics.msmStatNumNonStickySessionsPingFailed).toBe(0)
})

it.each([0, -1])(
  // MemcachedSessionServiceTest.testSessionTimeoutUnlimitedWithSessionLoaded
  'stores a session with maxInactiveInterval %i without expiry, and it stays so when it is read',
  async (maxInactiveInterval) => {
    const session = await stored({ maxInactiveInterval })
    expect(session.ttls()).toEqual([0, 0, 0, 0])
    vi.advanceTimersByTime(31 * 86_400_000)
    expect((await session.app.call('/get', session.id)).body.attributes).toEqual({ k: 'v' })
    await idle(session)
    expect(session.ttls()).toEqual([0, 0, 0, 0])
    expect(await session.there()).toEqual([true, true, true, true])
  },
)

// testSessionTimeoutUnlimitedWithNonStickySessionNotLoaded
it('keeps a session without end so by requests that do not load it', async () => {
  const session = await stored({ maxInactiveInterval: -1, lazy: true })
  vi.advanceTimersByTime(86_400_000)
  await session.app.call('/untouched', session.id)
  await idle(session)
  expect(session.ttls()).toEqual([0, 0, 0, 0])
  const own = session.nodes.get(session.id.slice(33))
  const info = decodeValidityInfo((await own.get(`validity:${session.id}`))!.value)
  expect(info).toMatchObject({ maxInactiveInterval: -1, thisAccessedTime: Date.now() })
})

it('keeps session and copy in the store for as long as requests come that do not load it', async () => {
  const session = await stored({ maxInactiveInterval: 600, lazy: true })
  for (let i = 0; i < 10; i++) {
    vi.advanceTimersByTime(450_000)
    await session.app.call('/untouched', session.id)
    await idle(session)
    expect(await session.there()).toEqual([true, true, true, true])
  }
})

it('notes the use of a session no more often than touchAfterSeconds says', async () => {
  const session = await stored({ maxInactiveInterval: 600, touchAfterSeconds: 10 })
  const { nodes, app, id } = session
  const writes = async (): Promise<number> => {
    await app.call('/get', id)
    await idle(session)
    return nodes.log.splice(0).filter((line) => !line.startsWith('get ')).length
  }
  nodes.log.length = 0
  vi.advanceTimersByTime(9_000)
  expect(await writes()).toBe(0)
  vi.advanceTimersByTime(1_000)
  expect(await writes()).toBeGreaterThan(0)
  expect(await writes()).toBe(0)
})

it('plants nothing in place of a record that is gone, where the original left one byte', async () => {
  const session = await stored({ maxInactiveInterval: 600, lazy: true })
  const { nodes, app, id } = session
  const own = nodes.get(id.slice(33))
  await own.delete(id)
  await own.delete(`validity:${id}`)
  await app.call('/untouched', id)
  await idle(session)
  expect(await session.there()).toEqual([false, false, true, true])
})

it.each([
  [60, 3600],
  [3600, 60],
])(
  'takes an idle time that a request changes from %i to %i s, though the use was noted a moment ago',
  async (before, after) => {
    const session = await stored({ maxInactiveInterval: before, touchAfterSeconds: 1 })
    const { nodes, app, id } = session
    await app.call(`/remember?seconds=${after}`, id)
    await idle(session)
    expect(session.ttls()).toEqual([2 * after, after, 2 * after, after])
    vi.advanceTimersByTime(after * 900)
    expect((await app.call('/get', id)).body.id).toBe(id)
    await idle(session)
    const own = nodes.get(id.slice(33))
    expect(decodeValidityInfo((await own.get(`validity:${id}`))!.value).maxInactiveInterval).toBe(after)
    expect(decodeSessionRecord((await own.get(id))!.value).maxInactiveInterval).toBe(after)
    vi.advanceTimersByTime(after * 1000)
    expect((await app.call('/get', id)).body.id).not.toBe(id)
  },
)
