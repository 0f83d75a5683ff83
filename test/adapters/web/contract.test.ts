import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createSessionManager, type SessionManagerOptions } from '../../../lib/index.ts'
import { type Framework, frameworks, type Routes } from '../../support/frameworks.ts'
import { HeldNode } from '../../support/held-node.ts'
import { quiet } from '../../support/web-app.ts'

const FILE = fileURLToPath(new URL('../../fixtures/msm-records.json', import.meta.url))
const COOKIE = /^JSESSIONID=([0-9A-F]{32}-n1); Path=\/; HttpOnly; SameSite=Lax$/

const routes: Routes = {
  '/': ({ json }) => json({}),
  '/set': ({ session, query, json }) => {
    Object.assign(session, Object.fromEntries(query))
    json({ id: session.id, session })
  },
  '/get': ({ session, json }) => json({ id: session.id, session }),
  '/redirect': (context) => {
    context.session.to = 1
    context.redirect('/get')
  },
  '/stream': (context) => {
    context.session.streamed = 1
    context.stream(FILE)
  },
  '/not-modified': (context) => {
    context.session.seen = 1
    context.notModified()
  },
  '/throws': ({ session }) => {
    session.before = 1
    throw Object.assign(new Error('on purpose'), { status: 418 })
  },
  '/throws-late': async ({ session, raw }) => {
    session.before = 1
    raw.writeHead(200, { 'Content-Type': 'text/plain' })
    await new Promise((resolve) => raw.write('half', resolve))
    raw.destroy()
  },
  '/logo.png': ({ session, json }) => json({ session: session === undefined || session === null ? 'none' : 'there' }),
  '/regenerate': async (context) => {
    const before = context.session.id
    if (context.query.has('callback')) {
      await new Promise<void>((resolve, reject) =>
        context.session.regenerate((error) => (error ? reject(error) : resolve())),
      )
    } else await context.session.regenerate()
    context.session.after = 1
    context.json({ before, id: context.session.id })
  },
  '/destroy': async (context) => {
    if (context.query.has('callback')) {
      await new Promise<void>((resolve, reject) =>
        context.session.destroy((error) => (error ? reject(error) : resolve())),
      )
    } else await context.session.destroy()
    context.json({ left: context.session ?? null })
  },
  '/save': async ({ session, query, json }) => {
    session.saved = 1
    if (query.has('callback')) await new Promise<void>((resolve) => session.save(() => resolve()))
    else await session.save()
    json({})
  },
  '/reload': async (context) => {
    await context.session.reload()
    context.json({ session: context.session.touch() })
  },
  '/remember': ({ session, query, json }) => {
    session.cookie.maxAge = Number(query.get('ms'))
    session.kept = 1
    json({
      maxAge: session.cookie.maxAge,
      originalMaxAge: session.cookie.originalMaxAge,
      httpOnly: session.cookie.httpOnly,
    })
  },
  '/unset': (context) => {
    context.session.forgotten = 1
    context.session = null as never
    context.json({})
  },
  '/replace': (context) => {
    context.session = { only: 1 } as never
    context.json({})
  },
  '/load': async (context) => {
    const before = typeof (context.session ?? undefined)
    const session = await context.loadSession()
    session.loaded = 1
    context.json({ before, session })
  },
  '/link': ({ session, encodeURL, json }) => {
    session.k = 1
    json({ own: encodeURL('/get?x=1'), other: encodeURL('https://example.com/') })
  },
  '/wait': async ({ session, json }) => {
    const { held } = session as { held?: number }
    await new Promise((resolve) => setTimeout(resolve, 150))
    session.late = held ?? 1
    json({})
  },
}

async function start(framework: Framework, options: SessionManagerOptions = {}, trustProxy = false) {
  const node = new HeldNode()
  const manager = createSessionManager({
    memcachedNodes: 'n1:in-memory:1',
    storage: () => node.client,
    sessionBackupAsync: false,
    sessionBackupTimeout: 5000,
    operationTimeout: 5000,
    requestUriIgnorePattern: '.*\\.png',
    logger: quiet,
    ...options,
  })
  const server = await framework.serve(manager, routes, trustProxy)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await manager.stop()
  })
  const { port } = server.address() as AddressInfo
  const call = async (path: string, id?: string, headers: Record<string, string> = {}, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      redirect: 'manual',
      headers: { ...(id === undefined ? {} : { cookie: `JSESSIONID=${id}` }), ...headers },
    })
    const text = await response.text()
    const cookie = response.headers.getSetCookie().find((value) => value.startsWith('JSESSIONID='))
    // biome-ignore lint/suspicious/noExplicitAny: whatever the handler has sent
    let body: any
    try {
      body = JSON.parse(text)
    } catch {
      body = text
    }
    return {
      status: response.status,
      headers: response.headers,
      body,
      cookie,
      id: cookie && /=([^;]*)/.exec(cookie)![1],
    }
  }
  return { manager, node, call, port }
}

describe.each(frameworks.map((framework) => [framework.name, framework] as const))('%s', (_name, framework) => {
  const isExpress = framework.name.startsWith('Express')
  const isKoa = framework.name.startsWith('Koa')

  it('sends no cookie and asks no store for a request that leaves its new session empty', async () => {
    const { call, node } = await start(framework)
    expect((await call('/')).cookie).toBeUndefined()
    expect((await call('/get')).cookie).toBeUndefined()
    expect(node.operations).toEqual([])
  })

  it('stores a session and announces it, once it holds something', async () => {
    const { call, node } = await start(framework)
    const first = await call('/set?k=v')
    expect(first.cookie).toMatch(COOKIE)
    expect(first.body).toEqual({ id: first.id, session: { k: 'v' } })
    expect(node.operations).toEqual(['set'])
    const second = await call('/get', first.id)
    expect(second.body.session).toEqual({ k: 'v' })
    expect(second.cookie).toBeUndefined()
    expect(node.operations).toEqual(['set'])
  })

  it.each([
    ['/redirect', 302],
    ['/stream', 200],
    ['/not-modified', 304],
  ])('stores what changed before the answer ends: %s', async (path, status) => {
    const { call, node } = await start(framework)
    node.hold()
    let isOver = false
    const answer = call(path).then((result) => {
      isOver = true
      return result
    })
    await expect.poll(() => node.operations).toEqual(['set'])
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(isOver).toBe(false)
    node.release()
    const result = await answer
    expect(result.status).toBe(status)
    expect(result.cookie).toMatch(COOKIE)
  })

  it('answers HEAD with the cookie, and stores', async () => {
    const { call } = await start(framework)
    const head = await call('/set?k=v', undefined, {}, 'HEAD')
    // Koa leaves HEAD to the handler as well; the contract's routes are for all methods there.
    expect(head.cookie).toMatch(COOKIE)
    expect((await call('/get', head.id)).body.session).toEqual({ k: 'v' })
  })

  it('stores what a handler changed before it threw, and leaves the error to the framework', async () => {
    const { call } = await start(framework)
    const { id } = await call('/set?k=v')
    expect((await call('/throws', id)).status).toBe(418)
    expect((await call('/get', id)).body.session).toEqual({ k: 'v', before: 1 })
  })

  it('stores what a handler changed before it failed in the middle of its answer', async () => {
    const { call } = await start(framework)
    const { id } = await call('/set?k=v')
    await expect(call('/throws-late', id)).rejects.toThrow()
    expect((await call('/get', id)).body.session).toEqual({ k: 'v', before: 1 })
  })

  it('stores what a handler does after its client has hung up', async () => {
    const { call, port, manager } = await start(framework)
    const { id } = await call('/set?k=v')
    const request = httpRequest({ port, host: '127.0.0.1', path: '/wait', headers: { cookie: `JSESSIONID=${id}` } })
    request.on('error', () => {})
    request.end()
    await expect.poll(() => manager.health().requests, { interval: 2 }).toBe(1)
    request.destroy()
    await expect
      .poll(async () => (await call('/get', id)).body.session, { timeout: 10_000 })
      .toEqual({ k: 'v', late: 1 })
  })

  it('gives an ignored request no session, no cookie and no store', async () => {
    const { call, node } = await start(framework, { sticky: false })
    const { id } = await call('/set?k=v')
    await expect.poll(() => node.operations.length).toBe(2)
    const { body, cookie } = await call('/logo.png', id)
    expect(body).toEqual({ session: 'none' })
    expect(cookie).toBeUndefined()
    expect(node.operations).toHaveLength(2)
  })

  it('does not bring back a session that another request has destroyed meanwhile', async () => {
    const { call } = await start(framework, { sticky: false })
    const { id } = await call('/set?k=v')
    const slow = call('/wait', id)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await call('/destroy', id)
    expect((await slow).status).toBe(200)
    expect((await call('/get', id)).body.session).toEqual({})
  })

  describe.each(['', '?callback'])('by promise or callback (%s)', (how) => {
    it('regenerates', async () => {
      const { call } = await start(framework)
      const { id } = await call('/set?k=v')
      const { body, cookie, id: after } = await call(`/regenerate${how}`, id)
      expect(cookie).toMatch(COOKIE)
      expect(body).toEqual({ before: id, id: after })
      expect(after).not.toBe(id)
      expect((await call('/get', after)).body.session).toEqual({ after: 1 })
      expect((await call('/get', id)).body.session).toEqual({})
    })

    it('destroys', async () => {
      const { call } = await start(framework)
      const { id } = await call('/set?k=v')
      const { body, cookie } = await call(`/destroy${how}`, id)
      expect(body).toEqual({ left: null })
      expect(cookie).toBeUndefined()
      expect((await call('/get', id)).body.session).toEqual({})
    })

    it('saves', async () => {
      const { call, node } = await start(framework)
      await call(`/save${how}`)
      expect(node.operations).toEqual(['set'])
    })
  })

  it('reloads', async () => {
    const { call } = await start(framework)
    const { id } = await call('/set?k=v')
    expect((await call('/reload', id)).body.session).toEqual({ k: 'v' })
  })

  it('keeps a session as long as its cookie says, and sends that again with each change', async () => {
    const { call } = await start(framework)
    const first = await call('/remember?ms=3600000')
    expect(first.body).toEqual({ maxAge: 3_600_000, originalMaxAge: 3_600_000, httpOnly: true })
    expect(first.cookie).toContain('Max-Age=3600;')
    expect((await call('/get', first.id)).cookie).toBeUndefined()
    expect((await call('/set?k=v', first.id)).cookie).toContain('Max-Age=3600;')
    expect((await call('/get', first.id)).body.session).toEqual({ kept: 1, k: 'v' })
  })

  it('sends the cookie with each response if it is rolling', async () => {
    const { call } = await start(framework, { rolling: true, cookie: { maxAge: 60 } })
    const { id } = await call('/set?k=v')
    const again = await call('/get', id)
    expect(again.id).toBe(id)
    expect(again.cookie).toContain('Max-Age=60;')
  })

  it('stores and announces an empty session if saveUninitialized is true', async () => {
    const { call, node } = await start(framework, { saveUninitialized: true })
    const { cookie, id } = await call('/')
    expect(cookie).toMatch(COOKIE)
    expect(node.operations).toEqual(['set'])
    expect((await call('/get', id)).body.id).toBe(id)
  })

  it('replaces the content by assigning an object', async () => {
    const { call } = await start(framework)
    const { id } = await call('/set?k=v')
    await call('/replace', id)
    expect((await call('/get', id)).body.session).toEqual({ only: 1 })
  })

  if (isKoa) {
    it('ends by assigning null', async () => {
      const { call } = await start(framework)
      const { id } = await call('/set?k=v')
      await call('/unset', id)
      expect((await call('/get', id)).body.session).toEqual({})
    })
  }

  if (isExpress) {
    it.each([true, false])('forgets the changes of a request that assigns null, with sticky: %s', async (sticky) => {
      const { call } = await start(framework, { sticky })
      const { id } = await call('/set?k=v')
      await call('/unset', id)
      expect((await call('/get', id)).body.session).toEqual({ k: 'v' })
    })

    it("ends by assigning null with unset: 'destroy'", async () => {
      const { call } = await start(framework, { unset: 'destroy' })
      const { id } = await call('/set?k=v')
      await call('/unset', id)
      expect((await call('/get', id)).body.session).toEqual({})
    })
  }

  it.each([
    ['a trusted proxy that got https', true, 'https', true],
    ['a trusted proxy that got http', true, 'http', false],
    ['a proxy that is not trusted', false, 'https', false],
  ])('marks the cookie Secure behind %s: %s, %s', async (_what, trust, proto, isSecure) => {
    const { call } = await start(framework, {}, trust)
    const { cookie } = await call('/set?k=v', undefined, { 'x-forwarded-proto': proto })
    expect(cookie!.includes('Secure')).toBe(isSecure)
  })

  it('finds the id in a header, and tells it in one', async () => {
    const { call } = await start(framework, { sessionTracking: ['header'] })
    const { headers, cookie, body } = await call('/set?k=v')
    expect(cookie).toBeUndefined()
    expect(headers.get('x-session-id')).toBe(body.id)
    expect((await call('/get', undefined, { 'x-session-id': body.id })).body.session).toEqual({ k: 'v' })
    expect((await call('/get', body.id)).body.session).toEqual({})
  })

  it('finds the id in the path, and puts it into links of this site only', async () => {
    const { call } = await start(framework, { sessionTracking: ['cookie', 'url'] })
    const { body, id } = await call('/link')
    expect(body).toEqual({ own: `/get;jsessionid=${id}?x=1`, other: 'https://example.com/' })
    expect((await call(body.own)).body.session).toEqual({ k: 1 })
    expect((await call('/link', id)).body.own).toBe('/get?x=1')
  })

  it('takes the first valid of two cookies of its name, and none of five', async () => {
    const { call } = await start(framework)
    const { id } = await call('/set?k=v')
    const two = { cookie: `JSESSIONID=garbage; JSESSIONID=${id}` }
    expect((await call('/get', undefined, two)).body.session).toEqual({ k: 'v' })
    const five = { cookie: Array.from({ length: 5 }, () => `JSESSIONID=${id}`).join('; ') }
    expect((await call('/get', undefined, five)).body.session).toEqual({})
  })

  it('loads a session when it is asked for, if it is lazy', async () => {
    const { call } = await start(framework, { lazy: true })
    const first = await call('/load')
    expect(first.body).toEqual({ before: 'undefined', session: { loaded: 1 } })
    expect((await call('/load', first.id)).body).toEqual({ before: 'undefined', session: { loaded: 1 } })
  })

  it('answers 503 by the error handling of the framework if the store can not be asked', async () => {
    const { call, node } = await start(framework, { sticky: false, operationTimeout: 100 })
    const { id } = await call('/set?k=v')
    node.client.get = () => Promise.reject(new Error('gone'))
    const { status, cookie } = await call('/get', id)
    expect(status).toBe(503)
    expect(cookie).toBeUndefined()
  })
})
