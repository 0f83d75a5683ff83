import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type App, memoryNodes, quiet, startApp } from '../../support/web-app.ts'

const key = (id: string | undefined): string => id!

describe('as time passes', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval', 'performance'] }))
  afterEach(() => void vi.useRealTimers())

  // testInvalidSessionNotFound
  it('a session that was idle for maxInactiveInterval is gone, and one in use is not', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, maxInactiveInterval: 60 })
    const ends: string[] = []
    app.manager.on('destroyed', ({ reason }) => void ends.push(reason))
    const [idle, used] = [await app.call('/set?k=1'), await app.call('/set?k=2')]
    vi.advanceTimersByTime(59_000)
    expect((await app.call('/get', used.announced)).body.attributes).toEqual({ k: '2' })
    vi.advanceTimersByTime(1_000)
    expect((await app.call('/get', idle.announced)).body.attributes).toEqual({})
    vi.advanceTimersByTime(57_000)
    expect((await app.call('/get', used.announced)).body.attributes).toEqual({ k: '2' })
    expect(ends).toEqual(['expired'])
    expect(app.manager.statistics.sessionsExpired).toBe(1)
  })

  it.each([0, -1])(
    'a session with maxInactiveInterval %i never expires, and is stored for ever',
    async (maxInactiveInterval) => {
      const nodes = memoryNodes(1)
      const set = vi.spyOn(nodes.get('n1'), 'set')
      const app = await startApp({ ...nodes.options, maxInactiveInterval })
      const { announced } = await app.call('/set?k=v')
      expect(set.mock.calls).toEqual([[key(announced), expect.any(Buffer), 0]])
      vi.advanceTimersByTime(1_000_000_000)
      expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
    },
  )

  it('expired sessions are swept from the process without being asked for', async () => {
    const app = await startApp({
      ...memoryNodes(1).options,
      maxInactiveInterval: 60,
      backgroundProcessorDelay: 10,
      processExpiresFrequency: 2,
    })
    for (let i = 0; i < 20; i++) await app.call('/set?k=v')
    expect(app.manager.statistics.activeSessions).toBe(20)
    await vi.advanceTimersByTimeAsync(85_000)
    expect(app.manager.statistics).toMatchObject({ activeSessions: 0, sessionsExpired: 20 })
  })

  // testExpirationOfSessionsInMemcachedIfBackupWasSkippedManyReadonlyRequests
  it('the copy of a session that is only read is kept in the store, with one operation now and then', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({
      ...nodes.options,
      maxInactiveInterval: 600,
      backgroundProcessorDelay: 10,
      processExpiresFrequency: 6,
    })
    const { announced } = await app.call('/set?k=v')
    nodes.log.length = 0
    for (let minute = 0; minute < 60; minute++) {
      await vi.advanceTimersByTimeAsync(60_000)
      expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
      expect(await nodes.get('n1').get(key(announced))).toBeDefined()
    }
    expect(new Set(nodes.log)).toEqual(new Set([`touch n1 ${announced}`]))
    expect(nodes.log.length).toBeLessThan(12)
  })
})

it('a session more than maxActiveSessions is answered 503, and counted', async () => {
  const app = await startApp({ ...memoryNodes(1).options, maxActiveSessions: 2 })
  const first = await app.call('/set?k=v')
  expect((await app.call('/set?k=v')).status).toBe(200)
  expect((await app.call('/set?k=v')).status).toBe(503)
  expect(app.manager.statistics.rejectedSessions).toBe(1)
  await app.call('/out', first.announced)
  expect((await app.call('/set?k=v')).status).toBe(200)
})

it('a node that was restarted empty is filled again from the process, few at a time', async () => {
  const nodes = memoryNodes(1)
  const app = await startApp(nodes.options)
  const ids = (await Promise.all(Array.from({ length: 100 }, () => app.call('/set?k=v')))).map(
    (answer) => answer.announced!,
  )
  let most = 0
  let pending = 0
  for (const method of ['set', 'touch'] as const) {
    const client = nodes.get('n1')
    const run = client[method].bind(client) as (...args: unknown[]) => Promise<never>
    vi.spyOn(client, method).mockImplementation(async (...args: unknown[]) => {
      most = Math.max(most, ++pending)
      await new Promise((resolve) => setImmediate(resolve))
      pending--
      return run(...args)
    })
  }
  nodes.get('n1').start({ empty: true })
  for (const id of ids) await expect.poll(() => nodes.get('n1').get(id), { timeout: 5000 }).toBeDefined()
  expect(most).toBeGreaterThan(1)
  expect(most).toBeLessThanOrEqual(16)
})

// testNotAssociatedSessionGetsAssociatedIssue49, testCookieNotSetWhenAllMemcachedsDownIssue40
it('a session made while all nodes were down gets a node id when one is up', async () => {
  const nodes = memoryNodes(1)
  nodes.get('n1').stop()
  const app = await startApp(nodes.options)
  const { announced } = await app.call('/set?k=v')
  expect(announced).toMatch(/^[0-9A-F]{32}$/)
  expect((await app.call('/get', announced)).announced).toBeUndefined()
  nodes.get('n1').start()
  await expect.poll(() => nodes.get('n1').get(`${announced}-n1`), { timeout: 3000 }).toBeDefined()
  expect((await app.call('/get', announced)).announced).toBe(`${announced}-n1`)
})

it('stop() stores what is on its way, and serves nothing after it', async () => {
  const nodes = memoryNodes(1)
  const client = nodes.get('n1')
  const set = client.set.bind(client)
  const slow = vi.spyOn(client, 'set').mockImplementation(async (...args) => {
    await new Promise((resolve) => setTimeout(resolve, 50))
    return set(...args)
  })
  const app: App = await startApp({ ...nodes.options, logger: quiet })
  const { announced } = await app.call('/set?k=v')
  await app.call('/set?k=w', announced)
  expect(slow).toHaveBeenCalledTimes(2)
  await app.manager.stop()
  const { value } = (await client.get(key(announced)))!
  expect(value.includes('w')).toBe(true)
  await expect(app.manager.start()).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
})
