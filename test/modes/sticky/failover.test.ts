import { expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../../adapters/web/express.ts'
import { memoryNodes, startApp } from '../../support/web-app.ts'

function nodes(count: number) {
  const made = memoryNodes(count)
  return { ...made, clients: { get: made.get }, sets: () => made.log.filter((line) => line.startsWith('set ')).length }
}

async function app(options: SessionManagerOptions) {
  const started = await startApp({ sessionBackupAsync: false, ...options })
  const call = async (path: string, id?: string) => {
    const { body, ...answer } = await started.call(path, id)
    return { ...body, ...answer }
  }
  return { ...started, call }
}

const down = (manager: Awaited<ReturnType<typeof app>>['manager'], id: string) => () =>
  manager.nodes.find((node) => node.id === id)?.state === 'down'

// MemcachedFailoverIntegrationTest.testRelocateSession
it('moves a session off a node that died: same hex digits, another node, told once', async () => {
  const { clients, options } = nodes(3)
  const { call } = await app(options)
  const { id } = await call('/set?foo=bar')
  const own = id.slice(33)
  clients.get(own).stop()
  const moved = await call('/set?foo=baz', id)
  expect(moved.announced).toMatch(new RegExp(`^${id.slice(0, 32)}-n[123]$`))
  expect(moved.announced).not.toBe(id)
  const again = await call('/get', moved.announced)
  expect(again.announced).toBeUndefined()
  expect(again).toMatchObject({ id: moved.announced, attributes: { foo: 'baz' } })
  expect(await clients.get(moved.announced!.slice(33)).get(moved.announced!)).toBeDefined()
})

// MemcachedFailoverIntegrationTest.testAllMemcachedNodesFailure, testCookieNotSetWhenAllMemcachedsDownIssue40
it('serves sessions from memory with all nodes down, and stores them when a node is back', async () => {
  const { clients, options } = nodes(2)
  const { call, manager } = await app(options)
  const old = await call('/set?foo=bar')
  for (const id of ['n1', 'n2']) clients.get(id).stop()
  await expect.poll(() => down(manager, 'n1')() && down(manager, 'n2')(), { timeout: 5000 }).toBe(true)
  const fresh = await call('/set?a=b')
  expect(fresh.announced).toMatch(/^[0-9A-F]{32}$/)
  // Of two nodes one is noticed first, and the session may have been moved to the other before that one is.
  const served = await call('/get', old.id)
  expect(served.id.slice(0, 32)).toBe(old.id.slice(0, 32))
  expect(served.attributes).toEqual({ foo: 'bar' })
  expect(await call('/get', fresh.id)).toMatchObject({ id: fresh.id, announced: undefined, attributes: { a: 'b' } })
  clients.get('n2').start({ empty: true })
  await expect.poll(() => !down(manager, 'n2')(), { timeout: 2000 }).toBe(true)
  const associated = await call('/get', fresh.id)
  expect(associated.announced).toBe(`${fresh.id}-n2`)
  expect(await clients.get('n2').get(associated.announced!)).toBeDefined()
})

// MemcachedFailoverIntegrationTest.testCookieNotSetWhenRegularMemcachedDownIssue40
it('uses a failover node for new sessions only if no primary is left', async () => {
  const { clients, options } = nodes(2)
  const { call, manager } = await app({ ...options, failoverNodes: 'n1' })
  for (let i = 0; i < 10; i++) expect((await call('/set?a=b')).id).toMatch(/-n2$/)
  clients.get('n2').stop()
  await expect.poll(down(manager, 'n2'), { timeout: 5000 }).toBe(true)
  const { id, announced } = await call('/set?a=b')
  expect(announced).toMatch(/-n1$/)
  expect((await call('/get', id)).announced).toBeUndefined()
})

// TomcatFailoverIntegrationTest.testTomcatFailover, testTomcatFailoverMovesSessionToNonFailoverNode (GC192)
it('takes a session over: own route, off the local failover node, old key gone, attributes kept', async () => {
  const { clients, options } = nodes(2)
  const tc1 = await app({ ...options, jvmRoute: 'tc1', failoverNodes: 'n1' })
  const tc2 = await app({ ...options, jvmRoute: 'tc2', failoverNodes: 'n2' })
  const { id } = await tc1.call('/set?foo=bar')
  expect(id).toMatch(/-n2\.tc1$/)
  const taken = await tc2.call('/set?more=1', id)
  expect(taken.announced).toBe(`${id.slice(0, 32)}-n1.tc2`)
  expect(taken.attributes).toEqual({ foo: 'bar', more: '1' })
  expect(await clients.get('n1').get(taken.announced!)).toBeDefined()
  await expect.poll(() => clients.get('n2').get(id)).toBeUndefined()
  expect(tc2.manager.statistics.msmStatNumTomcatFailover).toBe(1)
})

// GH282
it('keeps the changes of ten parallel requests that still have the id of before a takeover', async () => {
  const { log, options } = nodes(1)
  const tc1 = await app({ ...options, jvmRoute: 'tc1' })
  const tc2 = await app({ ...options, jvmRoute: 'tc2' })
  const { id } = await tc1.call('/set?foo=bar')
  log.length = 0
  const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => tc2.call(`/set?k${i}=1`, id)))
  expect(new Set(answers.map((answer) => answer.id))).toEqual(new Set([`${id.slice(0, 33)}n1.tc2`]))
  const after = await tc2.call('/get', answers[0]!.id)
  expect(Object.keys(after.attributes)).toHaveLength(11)
})

// GH153
it('serves the newest copy when a session comes back to a process that still holds an old one', async () => {
  const { options } = nodes(1)
  const tc1 = await app({ ...options, jvmRoute: 'tc1' })
  const tc2 = await app({ ...options, jvmRoute: 'tc2' })
  const first = await tc1.call('/set?foo=old')
  const second = await tc2.call('/set?foo=new', first.id)
  const third = await tc1.call('/get', second.announced)
  expect(third.attributes).toEqual({ foo: 'new' })
  expect(third.announced).toBe(first.id)
})

// MemcachedSessionServiceTest.testOnlySendModifiedSessions, TomcatFailoverIntegrationTest.testLoadedSessionOnlySentIfModified
it('sends only what was modified', async () => {
  const { options, sets } = nodes(1)
  const { call } = await app(options)
  const { id } = await call('/set?foo=bar')
  expect(sets()).toBe(1)
  await call('/get', id)
  await call('/set?foo=bar', id)
  expect(sets()).toBe(1)
  await call('/set?foo=baz', id)
  expect(sets()).toBe(2)
})

it('finds the sessions of a process that was restarted', async () => {
  const { options } = nodes(2)
  const before = await app({ ...options, jvmRoute: 'tc1' })
  const { id } = await before.call('/set?foo=bar')
  await before.stop()
  const after = await app({ ...options, jvmRoute: 'tc1' })
  expect(await after.call('/get', id)).toMatchObject({ id, announced: undefined, attributes: { foo: 'bar' } })
})

it('fills a node that came back empty', async () => {
  const { clients, options } = nodes(1)
  const { call, manager } = await app(options)
  const { id } = await call('/set?foo=bar')
  const node = clients.get('n1')
  node.stop()
  await expect.poll(down(manager, 'n1'), { timeout: 5000 }).toBe(true)
  node.start({ empty: true })
  await expect.poll(() => node.get(id), { timeout: 5000 }).toBeDefined()
})

// MemcachedSessionManagerIntegrationTest.testInvalidatedSessionRemovedFromMemcached
it('removes a destroyed session everywhere, and does not find it again', async () => {
  const { clients, options } = nodes(1)
  const { call } = await app(options)
  const { id } = await call('/set?foo=bar')
  expect((await call('/out', id)).announced).toBeUndefined()
  expect(await clients.get('n1').get(id)).toBeUndefined()
  expect((await call('/set?a=b', id)).announced).not.toBe(id)
})

it('takes no record for a session that is stored under the key of another', async () => {
  const { clients, options } = nodes(1)
  const one = await app(options)
  const [victim, attacker] = [await one.call('/set?user=victim'), await one.call('/set?user=attacker')]
  await one.stop()
  const node = clients.get('n1')
  await node.set(attacker.id, (await node.get(victim.id))!.value, 0)
  const two = await app(options)
  const answer = await two.call('/set?a=b', attacker.id)
  expect(answer.attributes).toEqual({ a: 'b' })
  expect(two.manager.statistics.recordsRejected).toBe(1)
})

it('asks no store at all while it is disabled', async () => {
  const { log, options } = nodes(2)
  const { call } = await app({ ...options, enabled: false })
  const { id } = await call('/set?foo=bar')
  expect(id).toMatch(/^[0-9A-F]{32}$/)
  expect((await call('/get', id)).attributes).toEqual({ foo: 'bar' })
  expect(log).toEqual([])
})
