import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import express from 'express'
import { expect, it, onTestFinished } from 'vitest'
import { session } from '../adapters/web/express.ts'
import { EventHub, type SessionManagerEventName } from '../lib/events.ts'
import { memoryNodes, quiet, startApp } from './support/web-app.ts'

const NAMES: SessionManagerEventName[] = [
  'created',
  'destroyed',
  'idChanged',
  'backupFailed',
  'recordRejected',
  'conflict',
  'lockTimeout',
  'lockLost',
  'nodeDown',
  'nodeUp',
]

it.each(NAMES)('%s is told to listeners and to its diagnostics channel', (name) => {
  const hub = new EventHub(quiet)
  const seen: unknown[] = []
  const listener = (event: unknown): void => void seen.push(event)
  hub.on(name, listener)
  subscribe(`memcached-session-manager:${name}`, listener)
  onTestFinished(() => void unsubscribe(`memcached-session-manager:${name}`, listener))
  const event = { session: 'abc' } as never
  hub.emit(name, event)
  expect(seen).toEqual([event, event])
  hub.off(name, listener)
  hub.emit(name, event)
  expect(seen).toHaveLength(3)
})

it('a session tells of its life, with hashes in place of ids', async () => {
  const nodes = memoryNodes(2)
  const app = await startApp({ ...nodes.options, sessionBackupAsync: false }, (web) => {
    web.get('/login', async (request, response) => {
      await request.session.regenerate({ keep: true })
      response.json({ id: request.session.id, attributes: {} })
    })
  })
  const seen: unknown[] = []
  for (const name of NAMES) app.manager.on(name, (event) => void seen.push([name, event]))
  const { announced } = await app.call('/set?k=v')
  const { announced: after } = await app.call('/login', announced)
  nodes.get(after!.slice(33)).stop()
  await app.call('/set?k=w', after)
  await app.call('/out', after)
  const hash = app.manager.hashOf(announced!)
  const next = app.manager.hashOf(after!)
  expect(seen).toEqual([
    ['created', { session: hash }],
    ['destroyed', { session: hash, reason: 'regenerate' }],
    ['idChanged', { session: next, reason: 'regenerate' }],
    ['created', { session: next }],
    ['nodeDown', { node: `${after!.slice(33)}:in-memory:1`, error: expect.anything() }],
    [
      'idChanged',
      { session: next, reason: 'relocation', fromNode: after!.slice(33), toNode: expect.stringMatching(/^n[12]$/) },
    ],
    ['destroyed', { session: next, reason: 'app' }],
  ])
  expect(JSON.stringify(seen)).not.toContain(announced!.slice(0, 32))
})

it('a listener that throws, at once or later, harms no request, and is reported', async () => {
  const errors: string[] = []
  const logger = { ...quiet, error: (line: string) => void errors.push(line) }
  const app = await startApp({ ...memoryNodes(1).options, logger })
  app.manager.on('created', () => {
    throw new Error('at once')
  })
  app.manager.on('created', (async () => {
    throw new Error('later')
  }) as never)
  expect((await app.call('/set?k=v')).status).toBe(200)
  expect(errors).toEqual(["A listener of 'created' failed: at once", "A listener of 'created' failed: later"])
})

it('two middlewares with cookies of different names serve their parts of one app', async () => {
  const own = (name: string) => session({ name, logger: quiet })
  const [shop, admin] = [own('shop'), own('admin')]
  const count = (request: express.Request, response: express.Response): void => {
    request.session.count = Number(request.session.count ?? 0) + 1
    response.json(request.session.count)
  }
  const app = express().use('/admin', admin).use('/shop', shop).get('/admin', count).get('/shop', count)
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  onTestFinished(async () => {
    server.closeAllConnections()
    server.close()
    await Promise.all([shop.manager.stop(), admin.manager.stop()])
  })
  let cookies = ''
  const call = async (path: string): Promise<number> => {
    const { port } = server.address() as { port: number }
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { cookie: cookies } })
    for (const cookie of response.headers.getSetCookie()) cookies += `${cookie.split(';')[0]}; `
    return (await response.json()) as number
  }
  expect([await call('/shop'), await call('/shop'), await call('/admin'), await call('/shop')]).toEqual([1, 2, 1, 3])
  expect(cookies).toMatch(/^shop=\w+; admin=\w+; $/)
})
