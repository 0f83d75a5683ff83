import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../../lib/index.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

function start(nodes: MemoryNodes, options: SessionManagerOptions = {}): Promise<App> {
  const all: SessionManagerOptions = { sticky: false, lockingMode: 'all', lockTimeoutMs: 10_000, ...options }
  return startApp({ ...nodes.options, ...all }, (app) => {
    app.get('/increase', async (request, response) => {
      const count = Number(request.session.count ?? 0)
      await sleep(2)
      request.session.count = count + 1
      response.json({ id: request.session.id, attributes: request.session })
    })
    app.get('/early', async (request, response) => {
      request.session.early = true
      await request.session.commit()
      response.write('{')
      await sleep(Number(request.query.ms))
      response.end('}')
    })
    app.get('/slow', async (request, response) => {
      await sleep(1000)
      request.session.late = true
      response.json({})
    })
    app.get('/fails', (request) => {
      request.session.tried = true
      throw new Error('The handler fails.')
    })
  })
}

// NonStickySessionsIntegrationTest.testSessionLockingSupportedWithSingleNodeSetup
it.each(['all', 'auto', 'uriPattern:.*', 'optimistic', 'none'] as const)(
  'works with one node that has no id, with lockingMode %s',
  async (lockingMode) => {
    const nodes = memoryNodes(1)
    const single: SessionManagerOptions = { memcachedNodes: 'localhost:11211', storage: () => nodes.get('n1') }
    const apps = [await start(nodes, { ...single, lockingMode }), await start(nodes, { ...single, lockingMode })]
    // One that shares its client with others must not close it.
    nodes.get('n1').close = async () => {}
    const { body } = await apps[0]!.call('/set?k1=v1')
    expect(body.id).toMatch(/^[0-9A-F]{32}$/)
    expect((await apps[1]!.call('/get', body.id)).body).toEqual(body)
    expect((await apps[0]!.call('/set?k2=v2', body.id)).announced).toBeUndefined()
    expect((await apps[1]!.call('/get', body.id)).body).toEqual({ id: body.id, attributes: { k1: 'v1', k2: 'v2' } })
  },
)

it('hands the lock on from request to request of a process, without asking the store for each', async () => {
  const nodes = memoryNodes(1)
  const app = await start(nodes)
  const { announced } = await app.call('/set?k=v')
  await expect.poll(() => app.manager.health().requests).toBe(0)
  nodes.log.length = 0
  await Promise.all(Array.from({ length: 20 }, () => app.call('/increase', announced)))
  expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v', count: 20 })
  const taken = nodes.log.filter((line) => line.startsWith('add n1 lock:'))
  // One for all twenty, unless they took so long that others got a turn in between; and one for the last request.
  expect(taken.length).toBeLessThan(10)
})

it('gives another process its turn, however many requests wait in the first', async () => {
  const nodes = memoryNodes(1)
  const [busy, quiet] = [await start(nodes), await start(nodes, { lockTimeoutMs: 20_000 })]
  const { announced } = await busy.call('/set?k=v')
  let isOver = false
  const load = async (): Promise<void> => {
    while (!isOver) await busy.call('/increase', announced)
  }
  const all = Promise.all(Array.from({ length: 5 }, load))
  await busy.call('/increase', announced)
  // It would time out, and be served without a lock, if the lock were handed on without end.
  const timeouts: unknown[] = []
  quiet.manager.on('lockTimeout', (event) => void timeouts.push(event))
  await quiet.call('/increase', announced)
  isOver = true
  await all
  expect(timeouts).toEqual([])
})

it('is unlocked by commit(), while the response goes on', async () => {
  const nodes = memoryNodes(1)
  const apps = [await start(nodes), await start(nodes)]
  const { announced } = await apps[0]!.call('/set?k=v')
  const streaming = fetch(`${apps[0]!.url}/early?ms=400`, { headers: { cookie: `JSESSIONID=${announced}` } })
  const response = await streaming
  const began = performance.now()
  expect((await apps[1]!.call('/set?other=1', announced)).body.attributes).toEqual({ k: 'v', early: true, other: '1' })
  expect(performance.now() - began).toBeLessThan(350)
  await response.text()
  expect((await apps[1]!.call('/get', announced)).body.attributes).toEqual({ k: 'v', early: true, other: '1' })
})

it('is unlocked after a handler has failed, and after a client with an unknown id was served', async () => {
  const nodes = memoryNodes(1)
  const app = await start(nodes)
  const { announced } = await app.call('/set?k=v')
  expect((await app.call('/fails', announced)).status).toBe(500)
  const unknown = `${'A'.repeat(32)}-n1`
  await app.call('/get', unknown)
  for (const id of [announced, unknown]) await expect.poll(() => nodes.get('n1').get(`lock:${id}`)).toBeUndefined()
})

it('writes over nobody when the lease of its lock has ended, and tells', async () => {
  const nodes = memoryNodes(1)
  const app = await start(nodes, { lockExpiration: 1, lockTimeoutMs: 50 })
  const lost: unknown[] = []
  app.manager.on('lockLost', (event) => void lost.push(event))
  const { announced } = await app.call('/set?k=v')
  await expect.poll(() => nodes.get('n1').get(`lock:${announced}`)).toBeUndefined()
  const slow = app.call('/slow', announced)
  await expect.poll(() => nodes.get('n1').get(`lock:${announced}`)).toBeDefined()
  // Another has it, as if this process had been stopped for a while.
  await nodes.get('n1').set(`lock:${announced}`, Buffer.from('another'), 5)
  await expect.poll(() => lost.length, { timeout: 3000 }).toBe(1)
  await (await start(nodes, { lockTimeoutMs: 10 })).call('/set?other=1', announced)
  await slow
  expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v', late: true, other: '1' })
})
