import { EventEmitter, once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createSessionManager, type SessionManagerOptions } from '../../../lib/index.ts'
import { type Framework, frameworks, type Routes } from '../../support/frameworks.ts'
import { HeldNode } from '../../support/held-node.ts'
import { quiet } from '../../support/web-app.ts'

/** An app, and the means to wait for a handler and to let it go on. */
async function start(framework: Framework, options: SessionManagerOptions = {}) {
  const node = new HeldNode()
  const gate = new EventEmitter()
  const routes: Routes = {
    '/set': ({ session, query, json }) => {
      Object.assign(session, Object.fromEntries(query))
      json({ id: session.id })
    },
    '/get': ({ session, json }) => json({ id: session.id, session }),
    '/held': async ({ session, query, json }) => {
      const before = { ...session }
      const released = once(gate, 'release')
      gate.emit('entered')
      await released
      session.late = 1
      if (query.has('throw')) throw Object.assign(new Error('on purpose'), { status: 418 })
      json({ before })
    },
    '/destroy': async ({ session, json }) => {
      await session.destroy()
      json({})
    },
    '/reload': async ({ session, query, json }) => {
      session.mine = 1
      const released = once(gate, 'release')
      gate.emit('entered')
      await released
      if (query.has('callback')) {
        await new Promise<void>((resolve, reject) => session.reload((error) => (error ? reject(error) : resolve())))
      } else await session.reload()
      json({ session })
    },
    '/save-fails': async ({ session, query, json }) => {
      session.saved = 1
      const outcome = query.has('callback')
        ? await new Promise((resolve) => session.save((error) => resolve(error ? 'error' : 'ok')))
        : await session.save().then(
            () => 'ok',
            () => 'error',
          )
      json({ outcome })
    },
    '/stream-then-throw': async ({ session, raw }) => {
      session.before = 1
      raw.writeHead(200, { 'Content-Type': 'text/plain' })
      await new Promise((resolve) => raw.write('half', resolve))
      throw new Error('on purpose, after the head')
    },
  }
  const manager = createSessionManager({
    memcachedNodes: 'n1:in-memory:1',
    storage: () => node.client,
    sessionBackupAsync: false,
    operationTimeout: 2000,
    logger: quiet,
    ...options,
  })
  const server = await framework.serve(manager, routes, false)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await manager.stop()
  })
  const { port } = server.address() as AddressInfo
  const call = async (path: string, id?: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { ...(id === undefined ? {} : { cookie: `JSESSIONID=${id}` }), ...headers },
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : undefined }
  }
  return { node, gate, call, port, server }
}

describe.each(frameworks.map((framework) => [framework.name, framework] as const))('%s', (_name, framework) => {
  it.each([true, false])(
    'does not revive a session destroyed while another request holds it (sticky: %s)',
    async (sticky) => {
      const { call, gate } = await start(framework, { sticky })
      const { id } = (await call('/set?k=v')).body
      const entered = once(gate, 'entered')
      const slow = call('/held', id)
      await entered
      await call('/destroy', id)
      gate.emit('release')
      const { status, body, headers } = await slow
      expect([status, body.before]).toEqual([200, { k: 'v' }])
      expect(headers.get('set-cookie')).toBeNull()
      expect((await call('/get', id)).body.session).toEqual({})
    },
  )

  it.each([
    [true, 'returns'],
    [true, 'throws'],
    [false, 'returns'],
    [false, 'throws'],
  ])('stores what a handler does after its client has hung up (sticky: %s), and then %s', async (sticky, how) => {
    const { call, gate, node, port, server } = await start(framework, { sticky, lockingMode: 'none' })
    const { id } = (await call('/set?k=v')).body
    const entered = once(gate, 'entered')
    const heard = once(server, 'request')
    const path = how === 'throws' ? '/held?throw' : '/held'
    const request = httpRequest({ port, host: '127.0.0.1', path, headers: { cookie: `JSESSIONID=${id}` } })
    request.on('error', () => {}).end()
    const [, response] = await heard
    await entered
    const closed = once(response, 'close')
    request.destroy()
    await closed
    const writes = (): number => node.operations.filter((name) => name !== 'get').length
    const before = writes()
    gate.emit('release')
    await expect.poll(writes).toBeGreaterThan(before)
    await expect.poll(async () => (await call('/get', id)).body.session).toEqual({ k: 'v', late: 1 })
  })

  it.each(['', '?callback'])(
    'reload%s shows what another request has stored, and drops what was not saved',
    async (how) => {
      const { call, gate } = await start(framework, { sticky: false, lockingMode: 'none' })
      const { id } = (await call('/set?k=v')).body
      const entered = once(gate, 'entered')
      const slow = call(`/reload${how}`, id)
      await entered
      await call('/set?k=w&other=1', id)
      gate.emit('release')
      expect((await slow).body.session).toEqual({ k: 'w', other: '1' })
    },
  )

  it.each(['', '?callback'])('save%s tells that the store failed', async (how) => {
    const { call, node } = await start(framework, { sticky: false, commitFailurePolicy: 'respond' })
    node.client.set = () => Promise.reject(new Error('gone'))
    node.client.add = () => Promise.reject(new Error('gone'))
    node.client.compareAndSwap = () => Promise.reject(new Error('gone'))
    expect((await call(`/save-fails${how}`)).body).toEqual({ outcome: 'error' })
  })

  if (framework.name.startsWith('Express')) {
    it('answers 304 to If-None-Match by itself, and announces a change with it', async () => {
      const { call } = await start(framework, { rolling: true })
      const first = await call('/set?k=v')
      const etag = (await call('/get', first.body.id)).headers.get('etag')!
      const again = await call('/get', first.body.id, { 'if-none-match': etag, 'cache-control': 'max-age=0' })
      expect(again.status).toBe(304)
      expect(again.headers.get('set-cookie')).toContain(first.body.id)
    })

    it('stores what a handler changed that threw after the head', async () => {
      const { call } = await start(framework)
      const { id } = (await call('/set?k=v')).body
      await expect(call('/stream-then-throw', id)).rejects.toThrow()
      await expect.poll(async () => (await call('/get', id)).body.session).toEqual({ k: 'v', before: 1 })
    })
  }
})
