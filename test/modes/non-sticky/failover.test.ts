import { expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../../lib/index.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

const ALL_MODES = ['all', 'auto', 'uriPattern:.*', 'none', 'optimistic'] as const
const nodeOf = (id: string): string => id.slice(33)
const baseOf = (id: string): string => id.slice(0, 32)

async function twoApps(nodes: MemoryNodes, options: SessionManagerOptions = {}): Promise<[App, App]> {
  const all = { ...nodes.options, sticky: false, ...options }
  return [await startApp(all), await startApp(all)]
}

/** All apps know that the node is in this state. */
async function notice(apps: readonly App[], nodeId: string, state: 'up' | 'down'): Promise<void> {
  for (const { manager } of apps) {
    await expect.poll(() => manager.nodes.find(({ id }) => id === nodeId)?.state, { timeout: 5000 }).toBe(state)
  }
}

async function stopNode(nodes: MemoryNodes, apps: readonly App[], nodeId: string): Promise<void> {
  nodes.get(nodeId).stop()
  // Whoever asks it next finds out, before the next probe does.
  for (const app of apps) await app.call('/get', `${'0'.repeat(32)}-${nodeId}`)
  await notice(apps, nodeId, 'down')
}

async function startNode(nodes: MemoryNodes, apps: readonly App[], nodeId: string, empty = true): Promise<void> {
  nodes.get(nodeId).start({ empty })
  await notice(apps, nodeId, 'up')
}

async function has(nodes: MemoryNodes, nodeId: string, key: string): Promise<boolean> {
  return (await nodes.get(nodeId).get(key)) !== undefined
}

/** The session and its validity info have their copies on this node. */
async function hasCopies(nodes: MemoryNodes, nodeId: string, id: string): Promise<void> {
  const keys = [`bak:${id}`, `bak:validity:${id}`]
  for (const key of keys) await expect.poll(() => has(nodes, nodeId, key), { timeout: 4000 }).toBe(true)
}

const next = (nodeId: string, count: number): string => `n${(Number(nodeId.slice(1)) % count) + 1}`

// NonStickySessionsIntegrationTest.testLoadBackupSessionShouldWorkWithInfiniteSessionTimeoutIssue120 and
// …WithHighSessionTimeoutIssue104
it.each(ALL_MODES.flatMap((mode) => [-1, 1_296_001].map((interval) => [interval, mode] as const)))(
  'loads the second copy when the primary dies, with maxInactiveInterval %i and lockingMode %s',
  async (maxInactiveInterval, lockingMode) => {
    const nodes = memoryNodes(2)
    const apps = await twoApps(nodes, { maxInactiveInterval, lockingMode })
    const { body } = await apps[0].call('/set?k1=v1')
    expect((await apps[1].call('/get', body.id)).body).toEqual(body)
    const own = nodeOf(body.id)
    await hasCopies(nodes, next(own, 2), body.id)
    await stopNode(nodes, apps, own)
    const moved = await apps[0].call('/get', body.id)
    expect(moved.announced).toBe(`${baseOf(body.id)}-${next(own, 2)}`)
    expect(moved.body.attributes).toEqual({ k1: 'v1' })
  },
)

// testNonStickySessionIsStoredInSecondaryMemcachedForBackup
it('stores session and validity info on its node, and a copy of both on the next', async () => {
  const nodes = memoryNodes(2)
  const [app] = await twoApps(nodes)
  const { body } = await app.call('/set?k=v')
  const own = nodeOf(body.id)
  expect(await has(nodes, own, body.id)).toBe(true)
  expect(await has(nodes, own, `validity:${body.id}`)).toBe(true)
  await hasCopies(nodes, next(own, 2), body.id)
})

// testNonStickySessionSecondaryBackupFailover and …FailoverForSkippedUpdate (GC113)
it.each([
  ['/set?key=v2', 'v2'],
  ['/get', 'v1'],
])('copies to the third node after the second died, also by %s, and survives the first', async (path, value) => {
  const nodes = memoryNodes(3)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?key=v1')
  const [first, second, third] = [nodeOf(body.id), next(nodeOf(body.id), 3), next(next(nodeOf(body.id), 3), 3)]
  await hasCopies(nodes, second, body.id)
  await stopNode(nodes, apps, second)
  const again = await apps[1].call(path, body.id)
  expect(again.announced).toBeUndefined()
  await hasCopies(nodes, third, body.id)
  await stopNode(nodes, apps, first)
  const moved = await apps[0].call('/get', body.id)
  expect(moved.announced).toBe(`${baseOf(body.id)}-${third}`)
  expect(moved.body.attributes).toEqual({ key: value })
})

// MemcachedFailoverIntegrationTest.testRelocateSession
it('moves a session off a dead node once, and stores it on the new one', async () => {
  const nodes = memoryNodes(3)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?foo=bar')
  await hasCopies(nodes, next(nodeOf(body.id), 3), body.id)
  await stopNode(nodes, apps, nodeOf(body.id))
  const moved = await apps[1].call('/get', body.id)
  expect(moved.announced).toBeDefined()
  expect(moved.announced).not.toBe(body.id)
  expect(baseOf(moved.announced!)).toBe(baseOf(body.id))
  expect((await apps[0].call('/get', moved.announced)).announced).toBeUndefined()
  expect(await has(nodes, nodeOf(moved.announced!), moved.announced!)).toBe(true)
})

// testMultipleMemcachedNodesFailure
it('survives two of three nodes dying one after the other', async () => {
  const nodes = memoryNodes(3)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?foo=bar')
  const [first, second, third] = [nodeOf(body.id), next(nodeOf(body.id), 3), next(next(nodeOf(body.id), 3), 3)]
  await hasCopies(nodes, second, body.id)
  await stopNode(nodes, apps, first)
  await stopNode(nodes, apps, third)
  const moved = await apps[1].call('/get', body.id)
  expect(moved.announced).toBe(`${baseOf(body.id)}-${second}`)
  const again = await apps[0].call('/get', moved.announced)
  expect(again.announced).toBeUndefined()
  expect(again.body.attributes).toEqual({ foo: 'bar' })
})

// testSecondaryBackupForNonStickySessionAfterMemcachedFailover
it('copies again when a node is back, and survives the primary then', async () => {
  const nodes = memoryNodes(3)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?foo=bar')
  const [first, second, third] = [nodeOf(body.id), next(nodeOf(body.id), 3), next(next(nodeOf(body.id), 3), 3)]
  await stopNode(nodes, apps, second)
  await stopNode(nodes, apps, third)
  expect((await apps[0].call('/get', body.id)).announced).toBeUndefined()
  await startNode(nodes, apps, second)
  expect((await apps[1].call('/get', body.id)).announced).toBeUndefined()
  await hasCopies(nodes, second, body.id)
  await stopNode(nodes, apps, first)
  const moved = await apps[0].call('/get', body.id)
  expect(moved.announced).toBe(`${baseOf(body.id)}-${second}`)
  expect((await apps[1].call('/get', moved.announced)).body.attributes).toEqual({ foo: 'bar' })
  expect(await has(nodes, second, moved.announced!)).toBe(true)
})

// testCookieNotSetWhenRegularMemcachedDownIssue40: failover nodes have no meaning here (GH115, GH207)
it('warns that failoverNodes has no effect, and goes on (GH207)', async () => {
  const nodes = memoryNodes(2)
  const warnings: string[] = []
  const logger = { info: () => {}, warn: (message: string) => void warnings.push(message), error: () => {} }
  const app = await startApp({ ...nodes.options, sticky: false, failoverNodes: 'n1', logger })
  nodes.get('n2').stop()
  const { announced } = await app.call('/set?k=v')
  expect(nodeOf(announced!)).toBe('n1')
  expect((await app.call('/get', announced)).announced).toBeUndefined()
  expect(warnings).toEqual(expect.arrayContaining([expect.stringMatching(/^failoverNodes has no effect/)]))
})

it.each([true, false])(
  'loses nothing when n1 goes and comes back, then n2 goes; n1 is empty: %s (GH267)',
  async (empty) => {
    const nodes = memoryNodes(2)
    const apps = await twoApps(nodes)
    const sessions = await Promise.all(Array.from({ length: 10 }, (_, i) => apps[0].call(`/set?k=${i}`)))
    const ids = sessions.map(({ body }) => body.id)
    for (const id of ids) await hasCopies(nodes, next(nodeOf(id), 2), id)
    await stopNode(nodes, apps, 'n1')
    for (const [i, id] of ids.entries()) ids[i] = (await apps[1].call(`/set?again=${i}`, id)).announced ?? id
    expect(ids.every((id) => nodeOf(id) === 'n2')).toBe(true)
    await startNode(nodes, apps, 'n1', empty)
    // No request comes in between: the processes themselves see to the copies.
    for (const id of ids) await hasCopies(nodes, 'n1', id)
    await stopNode(nodes, apps, 'n2')
    for (const [i, id] of ids.entries()) {
      const found = await apps[0].call('/get', id)
      expect(found.body.attributes).toEqual({ k: `${i}`, again: `${i}` })
      expect(found.announced).toBe(`${baseOf(id)}-n1`)
    }
  },
)

it('serves the newest state when a node comes back with what it had before', async () => {
  const nodes = memoryNodes(2)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?state=old')
  const own = nodeOf(body.id)
  await hasCopies(nodes, next(own, 2), body.id)
  await stopNode(nodes, apps, own)
  const moved = await apps[0].call('/set?state=new', body.id)
  await startNode(nodes, apps, own, false)
  // A client that never took the new cookie (GH403).
  const stale = await apps[1].call('/get', body.id)
  expect(stale.body.attributes).toEqual({ state: 'new' })
  expect((await apps[0].call('/get', moved.announced)).body.attributes).toEqual({ state: 'new' })
})

it('repairs a primary that was restarted empty from the copy, under the same id', async () => {
  const nodes = memoryNodes(2)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?k=v')
  const own = nodeOf(body.id)
  await hasCopies(nodes, next(own, 2), body.id)
  nodes.get(own).start({ empty: true })
  const found = await apps[1].call('/get', body.id)
  expect(found.announced).toBeUndefined()
  expect(found.body).toEqual(body)
  expect(await has(nodes, own, body.id)).toBe(true)
})

it('relocates in the same request if the primary dies before the commit', async () => {
  const nodes = memoryNodes(2)
  const options = { ...nodes.options, sticky: false }
  const app = await startApp(options, (express) => {
    express.get('/dies', (request, response) => {
      request.session.late = 1
      nodes.get(nodeOf(request.session.id)).stop()
      response.json({ id: request.session.id, attributes: request.session })
    })
  })
  const { body } = await app.call('/set?k=v')
  const own = nodeOf(body.id)
  await hasCopies(nodes, next(own, 2), body.id)
  const moved = await app.call('/dies', body.id)
  expect(moved.announced).toBe(`${baseOf(body.id)}-${next(own, 2)}`)
  expect((await app.call('/get', moved.announced)).body.attributes).toEqual({ k: 'v', late: 1 })
})

it('keeps what changed after the head was sent, though the primary died', async () => {
  const nodes = memoryNodes(2)
  const app = await startApp({ ...nodes.options, sticky: false }, (express) => {
    express.get('/stream', async (request, response) => {
      response.write('{')
      await new Promise((resolve) => setImmediate(resolve))
      request.session.late = 1
      nodes.get(nodeOf(request.session.id)).stop()
      response.end('}')
    })
  })
  const { body } = await app.call('/set?k=v')
  await hasCopies(nodes, next(nodeOf(body.id), 2), body.id)
  expect((await app.call('/stream', body.id)).announced).toBeUndefined()
  const moved = await app.call('/get', body.id)
  expect(moved.body.attributes).toEqual({ k: 'v', late: 1 })
  expect(nodeOf(moved.announced!)).toBe(next(nodeOf(body.id), 2))
})

it('moves a session once for many parallel requests', async () => {
  const nodes = memoryNodes(2)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?k=v')
  const own = nodeOf(body.id)
  await hasCopies(nodes, next(own, 2), body.id)
  nodes.get(own).stop()
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => apps[i % 2]!.call(`/set?p${i}=1`, body.id)))
  expect(new Set(answers.map(({ announced }) => announced))).toEqual(new Set([`${baseOf(body.id)}-${next(own, 2)}`]))
  const found = await apps[0].call('/get', answers[0]!.announced)
  expect(Object.keys(found.body.attributes).sort()).toEqual(
    ['k', ...Array.from({ length: 20 }, (_, i) => `p${i}`)].sort(),
  )
})

it('does not bring back a session that was destroyed while its node was down', async () => {
  const nodes = memoryNodes(2)
  const apps = await twoApps(nodes)
  const { body } = await apps[0].call('/set?k=v')
  const own = nodeOf(body.id)
  await hasCopies(nodes, next(own, 2), body.id)
  await stopNode(nodes, apps, own)
  await apps[0].call('/out', body.id)
  await apps[0].stop()
  await startNode(nodes, [apps[1]], own, false)
  const after = await apps[1].call('/get', body.id)
  expect(after.body.attributes).toEqual({})
  expect(baseOf(after.body.id)).not.toBe(baseOf(body.id))
})
