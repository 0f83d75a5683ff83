import { once } from 'node:events'
import http from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import fastifyCookie from '@fastify/cookie'
import fastifyFlash from '@fastify/flash'
import { Authenticator, Strategy } from '@fastify/passport'
import Fastify, { type FastifyInstance, type FastifyServerOptions, type LightMyRequestResponse } from 'fastify'
import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../../adapters/storage/memory.ts'
import { type Session, type SessionManagerOptions, session, withoutSessionId } from '../../../adapters/web/fastify.ts'
import { createSessionManager, SessionManager } from '../../../lib/index.ts'
import { HeldNode } from '../../support/held-node.ts'

declare module '../../../lib/index.ts' {
  interface SessionData {
    fastifyViews: number
  }
}

const quiet = { info: () => {}, warn: () => {}, error: () => {} }

function inMemory(node = new HeldNode()): SessionManagerOptions {
  return { memcachedNodes: 'n1:in-memory:1', storage: () => node.client, sessionBackupAsync: false, logger: quiet }
}

function create(options: FastifyServerOptions = {}): FastifyInstance {
  const app = Fastify(options)
  onTestFinished(() => app.close())
  return app
}

/** An app with sessions on one node that can be held. */
async function start(routes: (app: FastifyInstance) => void, options: SessionManagerOptions = {}, server = {}) {
  const node = new HeldNode()
  const app = create(server)
  app.register(session, { ...inMemory(node), operationTimeout: 5000, sessionBackupTimeout: 5000, ...options })
  await app.after()
  routes(app)
  await app.ready()
  return { node, app }
}

function counter(app: FastifyInstance): void {
  app.get('/count', async ({ session }) => {
    session.fastifyViews = (session.fastifyViews ?? 0) + 1
    return session.fastifyViews
  })
  app.get('/look', async (request) => (request.session as Session | null)?.fastifyViews ?? null)
}

const cookiesOf = (response: LightMyRequestResponse): string[] => [response.headers['set-cookie'] ?? []].flat()

function cookieOf(response: LightMyRequestResponse): string {
  const cookie = cookiesOf(response).find((value) => value.startsWith('JSESSIONID='))
  return String(cookie).split(';')[0]!
}

const idOf = (cookie: string): string => cookie.slice('JSESSIONID='.length)

describe('request.session', () => {
  it('counts from request to request, and sends the cookie once', async () => {
    const { app } = await start(counter)
    const first = await app.inject('/count')
    expect(cookiesOf(first)).toEqual([expect.stringMatching(/^JSESSIONID=[0-9A-F]{32}-n1; .*HttpOnly/)])
    const second = await app.inject({ url: '/count', headers: { cookie: cookieOf(first) } })
    expect(second.json()).toBe(2)
    expect(cookiesOf(second)).toEqual([])
  })

  it('stores nothing and sends no cookie for a request that puts nothing into it', async () => {
    const { app, node } = await start(counter)
    expect(cookiesOf(await app.inject('/look'))).toEqual([])
    expect(node.operations).not.toContain('set')
    expect(app.sessionManager.statistics.activeSessions).toBe(0)
  })

  it('is there for every hook registered later, for a failing handler, the error handler and the not-found handler', async () => {
    const seen: string[] = []
    const { app } = await start((app) => {
      for (const name of ['onRequest', 'preValidation', 'preHandler', 'onResponse'] as const) {
        app.addHook(name, async (request) => {
          seen.push(`${name} ${request.session.fastifyViews}`)
        })
      }
      app.addHook('onSend', async (request) => void seen.push(`onSend ${request.session.fastifyViews}`))
      app.setErrorHandler(async (_error, request, reply) => {
        request.session.fastifyViews = 2
        return reply.code(500).send('sorry')
      })
      app.setNotFoundHandler(async (request) => ({ missing: request.session.fastifyViews }))
      app.get('/', async (request) => {
        request.session.fastifyViews = 1
        throw new Error('wrong')
      })
    })
    const response = await app.inject('/')
    expect([response.statusCode, response.body]).toEqual([500, 'sorry'])
    await expect.poll(() => seen.length).toBe(5)
    expect(seen).toEqual([
      'onRequest undefined',
      'preValidation undefined',
      'preHandler undefined',
      'onSend 2',
      'onResponse 2',
    ])
    const missing = await app.inject({ url: '/missing', headers: { cookie: cookieOf(response) } })
    expect(missing.json()).toEqual({ missing: 2 })
  })

  it('is stored, and its cookie sent, although nothing is in it, with saveUninitialized', async () => {
    const { app, node } = await start(counter, { saveUninitialized: true })
    expect(cookiesOf(await app.inject('/look'))).toHaveLength(1)
    expect(node.operations).toContain('set')
  })

  it('regenerates under a new id with all that was in it', async () => {
    const { app } = await start((app) => {
      counter(app)
      app.get('/login', async ({ session }) => session.regenerate({ keep: true }))
    })
    const before = cookieOf(await app.inject('/count'))
    const after = cookieOf(await app.inject({ url: '/login', headers: { cookie: before } }))
    expect(after).not.toBe(before)
    expect((await app.inject({ url: '/look', headers: { cookie: after } })).json()).toBe(1)
    expect((await app.inject({ url: '/look', headers: { cookie: before } })).json()).toBeNull()
  })

  it('regenerates under a new id, keeps what is named, and forgets the rest and the old id', async () => {
    const { app, node } = await start((app) => {
      counter(app)
      app.get('/login', async ({ session }) => {
        Object.assign(session, { basket: ['a'], theme: 'dark' })
        await session.regenerate(['basket', 'not there'])
      })
      app.get('/all', async ({ session }) => ({ ...session }))
    })
    const before = cookieOf(await app.inject('/count'))
    const login = await app.inject({ url: '/login', headers: { cookie: before } })
    const after = cookieOf(login)
    expect(after).not.toBe(before)
    expect((await app.inject({ url: '/all', headers: { cookie: after } })).json()).toEqual({ basket: ['a'] })
    expect((await app.inject({ url: '/all', headers: { cookie: before } })).json()).toEqual({})
    expect(node.operations).toContain('delete')
  })

  it('is null after destroy(), and the id is dead', async () => {
    const { app } = await start((app) => {
      counter(app)
      app.get('/logout', async (request) => {
        await request.session.destroy()
        return request.session
      })
    })
    const cookie = cookieOf(await app.inject('/count'))
    const logout = await app.inject({ url: '/logout', headers: { cookie } })
    expect(logout.json()).toBeNull()
    expect((await app.inject({ url: '/count', headers: { cookie } })).json()).toBe(1)
  })

  it('has id, isNew, get, set, touch, save and reload as the other session plugins have them', async () => {
    const { app, node } = await start((app) => {
      app.get('/', async ({ session }) => {
        session.set('fastifyViews', 1)
        session.set('gone', 1)
        session.set('gone', undefined)
        await session.save()
        const stored = node.operations.includes('set')
        await session.reload()
        const { id, sessionId, isNew } = session
        return {
          ...session,
          id,
          has: Object.keys(session),
          same: id === sessionId,
          isNew,
          stored,
          views: session.touch().get('fastifyViews'),
        }
      })
    })
    const first = await app.inject('/')
    const id = idOf(cookieOf(first))
    const expected = { id, has: ['fastifyViews'], same: true, stored: true, views: 1, fastifyViews: 1 }
    expect(first.json()).toEqual({ ...expected, isNew: true })
    const second = await app.inject({ url: '/', headers: { cookie: cookieOf(first) } })
    expect(second.json()).toEqual({ ...expected, isNew: false })
  })

  it('takes callbacks for what it returns a promise for', async () => {
    const { app } = await start((app) => {
      app.get('/', (request, reply) => {
        request.session.a = 1
        request.session.save(() =>
          request.session.reload(() =>
            request.session.regenerate(['a'], () => {
              const kept = request.session.a
              request.session.regenerate(() => {
                const left = request.session.a ?? null
                request.session.destroy((error) => reply.send({ kept, left, error: error ?? null }))
              })
            }),
          ),
        )
      })
    })
    expect((await app.inject('/')).json()).toEqual({ kept: 1, left: null, error: null })
  })

  it('takes an object in place of its content, and says how to end it instead of taking null', async () => {
    const { app } = await start((app) => {
      app.get('/', async (request) => {
        request.session.old = 1
        request.session = { fresh: 2 } as unknown as Session
        expect(() => {
          request.session = null as unknown as Session
        }).toThrow('request.session.destroy()')
        return { ...request.session, id: request.session.id }
      })
    })
    const response = await app.inject('/')
    expect(response.json()).toEqual({ fresh: 2, id: idOf(cookieOf(response)) })
  })

  it.each([
    [true, 1],
    [false, null],
  ])('costs a request that is ignored no store and no cookie (sticky: %s)', async (sticky, seen) => {
    const { app, node } = await start(counter, { sticky, requestUriIgnorePattern: '/look.*' })
    const cookie = cookieOf(await app.inject('/count'))
    const operations = node.operations.length
    app.sessionManager.on('created', () => expect.unreachable())
    const response = await app.inject({ url: '/look?x=1', headers: { cookie } })
    expect(response.json()).toBe(seen)
    expect(cookiesOf(response)).toEqual([])
    expect(node.operations.length).toBe(operations)
  })

  it('is loaded only when asked for with lazy: true', async () => {
    const shared = new MemoryStorageClient()
    const options = { ...inMemory(), storage: () => shared, sticky: false, lazy: true }
    const { app } = await start((app) => {
      app.get('/', async (request) => {
        const before = request.session
        const loaded = await request.loadSession()
        loaded.fastifyViews = (loaded.fastifyViews ?? 0) + 1
        return { before, views: request.session.fastifyViews }
      })
    }, options)
    const first = await app.inject('/')
    expect(first.json()).toEqual({ before: null, views: 1 })
    const second = await app.inject({ url: '/', headers: { cookie: cookieOf(first) } })
    expect(second.json()).toEqual({ before: null, views: 2 })
  })
})

describe('the plugin', () => {
  const child = async (app: FastifyInstance): Promise<void> => counter(app)

  it('applies to the context that registers it and those below, and to no other', async () => {
    const app = create()
    app.register(
      async (inside) => {
        inside.register(session, inMemory())
        inside.register(child, { prefix: '/deep' })
        counter(inside)
      },
      { prefix: '/inside' },
    )
    app.get('/outside', async (request) => ({ session: 'session' in request, manager: 'sessionManager' in app }))
    expect((await app.inject('/outside')).json()).toEqual({ session: false, manager: false })
    for (const url of ['/inside/count', '/inside/deep/count']) {
      expect(cookiesOf(await app.inject(url))).toHaveLength(1)
    }
  })

  it('registered at the root, applies to routes and contexts declared before and after it', async () => {
    const app = create()
    app.register(child, { prefix: '/before' })
    app.register(session, inMemory())
    app.register(child, { prefix: '/after' })
    await app.after()
    counter(app)
    const first = await app.inject('/after/count')
    const second = await app.inject({ url: '/count', headers: { cookie: cookieOf(first) } })
    expect([first.json(), second.json()]).toEqual([1, 2])
    expect(app.hasPlugin('memcached-session-manager')).toBe(true)
  })

  it('can be registered side by side, with one manager and cookie each', async () => {
    const app = create()
    for (const name of ['shop', 'admin']) {
      app.register(
        async (context) => {
          context.register(session, { ...inMemory(), cookie: { name } })
          counter(context)
        },
        { prefix: `/${name}` },
      )
    }
    const shop = cookiesOf(await app.inject('/shop/count'))[0]!.split(';')[0]!
    expect(shop).toMatch(/^shop=/)
    const admin = await app.inject({ url: '/admin/count', headers: { cookie: shop } })
    expect([admin.json(), cookiesOf(admin)[0]]).toEqual([1, expect.stringMatching(/^admin=/)])
  })

  it('refuses to be registered twice, one in the other too', async () => {
    const same = create()
    same.register(session, inMemory())
    same.register(session, inMemory())
    await expect(same.ready()).rejects.toMatchObject({ code: 'ERR_MSM_STATE', message: /registered twice/ })
    const nested = create()
    nested.register(session, inMemory())
    nested.register(async (context) => context.register(session, inMemory()))
    await expect(nested.ready()).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
  })

  it('refuses wrong options when it is registered, and ignores those that register() itself takes', async () => {
    const wrong = async (options: object) => {
      const app = create()
      app.register(session, options)
      await app.ready()
    }
    await expect(wrong({ memcachedNode: 'n1:localhost:11211' })).rejects.toThrow(/memcachedNodes/)
    await expect(wrong({ manager: {} })).rejects.toThrow(/^manager is not valid/)
    const manager = createSessionManager(inMemory())
    await expect(wrong({ manager, sticky: true })).rejects.toThrow(/^sticky is not valid beside manager/)
    await wrong({ ...inMemory(), prefix: '/x', logLevel: 'warn', logSerializers: {} })
    await wrong({ manager, prefix: '/x' })
    await manager.stop()
  })

  it('starts with the app, and stops the manager it made, not one that is shared', async () => {
    const manager = createSessionManager(inMemory())
    onTestFinished(() => manager.stop())
    const app = create()
    app.register(session, { manager })
    await app.ready()
    expect(app.sessionManager).toBe(manager)
    await app.close()
    await expect(manager.start()).resolves.toBeUndefined()

    const { app: own } = await start(counter)
    expect(own.sessionManager).toBeInstanceOf(SessionManager)
    await own.close()
    await expect(own.sessionManager.start()).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
  })

  it('does not boot with a manager that was stopped', async () => {
    const manager = createSessionManager(inMemory())
    await manager.stop()
    const app = create()
    app.register(session, { manager })
    await expect(app.ready()).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
  })

  it('stores the session of a request that is under way when the app is closed', async () => {
    let handlerMayEnd = (): void => {}
    const { app, node } = await start((app) => {
      app.get('/', (request, reply) => {
        handlerMayEnd = () => {
          request.session.a = 1
          reply.send('done')
        }
      })
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const response = fetch(url)
    const handler = handlerMayEnd
    await expect.poll(() => handlerMayEnd).not.toBe(handler)
    const closed = app.close()
    handlerMayEnd()
    expect(await (await response).text()).toBe('done')
    await closed
    expect(node.operations.filter((name) => name === 'set')).toHaveLength(1)
  })

  it("logs to the app's logger unless it is given one", async () => {
    const lines: string[] = []
    const stream = new PassThrough().on('data', (chunk) => lines.push(String(chunk)))
    const { logger: _logger, ...options } = inMemory()
    const app = create({ logger: { stream } })
    app.register(session, options)
    await app.ready()
    expect(lines.join('')).toContain('SessionManager finished initialization')
  })
})

describe('with synchronous backup, no response ends before the store has the change', () => {
  const routes = (app: FastifyInstance): void => {
    let changes = 0
    app.addHook('preHandler', async (request) => {
      if (request.url !== '/late' && request.url !== '/other') request.session.change = ++changes
    })
    app.addHook('onSend', (request, _reply, _payload, done) => {
      if (request.url === '/onSend') request.session.change = ++changes
      done()
    })
    app.get('/send', (_request, reply) => void reply.send({ ok: true }))
    app.get('/return', async () => ({ ok: true }))
    app.get('/other', async () => ({ ok: true }))
    // Not what Fastify recommends, yet it works there.
    app.get('/async-send', async (_request, reply) => void reply.send({ ok: true }))
    app.get('/onSend', async () => ({ ok: true }))
    app.get('/redirect', (_request, reply) => reply.redirect('/send'))
    app.get('/stream', (_request, reply) => reply.send(Readable.from(['a', 'b'])))
    app.get('/web-stream', (_request, reply) => reply.send(Readable.toWeb(Readable.from(['a', 'b']))))
    app.get('/trailer', (_request, reply) => {
      reply.trailer('etag', (_reply, _payload, done) => done(null, 'x'))
      return reply.send('ab')
    })
    app.get('/204', (_request, reply) => reply.code(204).send())
    app.get('/304', (_request, reply) => reply.code(304).send())
    app.get('/error', () => {
      throw new Error('wrong')
    })
    app.get('/error-after-answer', async (_request, reply) => {
      reply.send({ ok: true })
      throw new Error('wrong, but too late')
    })
    app.get('/two-answers', (_request, reply) => {
      reply.send({ ok: true })
      reply.code(500).send({ ok: false })
    })
    app.get('/hijack', (_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(201, { 'content-type': 'text/plain' })
      expect(reply.raw.headersSent).toBe(true)
      reply.raw.end('ab')
    })
    app.get('/raw', (_request, reply) => {
      reply.raw.writeHead(201, 'Made', { 'content-type': 'text/plain' })
      reply.raw.end('ab')
    })
    app.get('/late', (request, reply) => {
      const body = new PassThrough()
      body.write('a')
      reply.send(body)
      setImmediate(() => {
        request.session.change = ++changes
        body.end('b')
      })
    })
    app.setErrorHandler(async (_error, _request, reply) => reply.code(500).send('sorry'))
  }

  const json = '{"ok":true}'

  it.each([
    ['reply.send', 'GET', '/send', 200, json],
    ['a returned value', 'GET', '/return', 200, json],
    ['reply.send in an async handler that returns nothing', 'GET', '/async-send', 200, json],
    ['a change in an onSend hook', 'GET', '/onSend', 200, json],
    ['a redirect', 'GET', '/redirect', 302, ''],
    ['a stream', 'GET', '/stream', 200, 'ab'],
    ['a web stream', 'GET', '/web-stream', 200, 'ab'],
    ['trailers', 'GET', '/trailer', 200, 'ab'],
    ['HEAD', 'HEAD', '/send', 200, ''],
    ['204', 'GET', '/204', 204, ''],
    ['304', 'GET', '/304', 304, ''],
    ['an error', 'GET', '/error', 500, 'sorry'],
    ['an answer that an error follows', 'GET', '/error-after-answer', 200, json],
    ['two answers', 'GET', '/two-answers', 200, json],
    ['a hijacked reply', 'GET', '/hijack', 201, 'ab'],
    ["node's own response", 'GET', '/raw', 201, 'ab'],
    ['a change after the first byte', 'GET', '/late', 200, 'ab'],
  ])('%s', async (_name, method, path, status, body) => {
    const { node, app } = await start(routes)
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const cookie = (await fetch(`${url}/send`)).headers.getSetCookie()[0]!.split(';')[0]!
    const stored = node.operations.length
    node.hold()
    let hasEnded = false
    const answer = fetch(url + path, { method, headers: { cookie }, redirect: 'manual' }).then(async (response) => {
      const text = await response.text()
      hasEnded = true
      return { status: response.status, text, cookies: response.headers.getSetCookie() }
    })
    await expect.poll(() => node.operations.length).toBeGreaterThan(stored)
    // A request that needs no store passes meanwhile: what could have arrived, has.
    await (await fetch(`${url}/other`)).text()
    expect(hasEnded).toBe(false)
    node.release()
    expect(await answer).toEqual({ status, text: body, cookies: [] })
    expect(node.operations.length).toBe(stored + 1)
  })

  it('delivers a body of 5 MB whole that was piped while the store kept it waiting', async () => {
    const { node, app } = await start((app) => {
      app.get('/', (request, reply) => {
        request.session.a = 1
        return reply.send(Readable.from(Array.from({ length: 500 }, () => Buffer.alloc(10_000, 'x'))))
      })
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    node.hold()
    const answer = fetch(url)
    await expect.poll(() => node.operations).toContain('set')
    node.release()
    const response = await answer
    expect((await response.arrayBuffer()).byteLength).toBe(5_000_000)
    expect(response.headers.getSetCookie()).toHaveLength(1)
  })

  it('stores the session of a client that hangs up early', async () => {
    let answer = (): void => {}
    const { node, app } = await start((app) => {
      app.get('/', (request, reply) => {
        request.session.a = 1
        answer = () => void reply.send('nobody hears it')
      })
    })
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    const handler = answer
    const request = http.get(url, { agent: false }).on('error', () => {})
    await expect.poll(() => answer).not.toBe(handler)
    request.destroy()
    await expect.poll(() => node.operations).toContain('set')
    answer()
  })
})

describe('the cookie', () => {
  const otherCookies = (app: FastifyInstance): void => {
    app.get('/', async (request, reply) => {
      reply.setCookie('one', '1').header('set-cookie', 'two=2')
      request.session.a = request.cookies.one ?? 'none'
      return 'ok'
    })
  }

  it.each(['before', 'after'])('stands beside those of @fastify/cookie, registered %s it', async (order) => {
    const app = create()
    if (order === 'before') app.register(fastifyCookie)
    app.register(session, inMemory())
    if (order === 'after') app.register(fastifyCookie)
    await app.after()
    otherCookies(app)
    const names = cookiesOf(await app.inject('/')).map((cookie) => cookie.split('=')[0])
    expect(names.sort()).toEqual(['JSESSIONID', 'one', 'two'])
  })

  it("stands beside one that was set on node's own response", async () => {
    const { app } = await start((app) => {
      app.get('/', async (request, reply) => {
        reply.raw.setHeader('set-cookie', 'one=1')
        request.session.a = 1
        return 'ok'
      })
    })
    expect(cookiesOf(await app.inject('/')).map((cookie) => cookie.split('=')[0])).toEqual(['one', 'JSESSIONID'])
  })

  it('is Secure if the client came by https, as told by a proxy that is trusted', async () => {
    const ask = async (trustProxy: boolean) => {
      const { app } = await start(counter, { cookie: { secure: 'auto' } }, { trustProxy })
      return cookiesOf(await app.inject({ url: '/count', headers: { 'x-forwarded-proto': 'https' } }))[0]
    }
    expect(await ask(true)).toContain('Secure')
    expect(await ask(false)).not.toContain('Secure')
  })

  it('tells the id under which the session was stored, if its node is found dead while it is stored', async () => {
    const nodes = new Map([
      ['n1', new MemoryStorageClient()],
      ['n2', new MemoryStorageClient()],
    ])
    const storage: SessionManagerOptions['storage'] = (address) => nodes.get(address.nodeId!)!
    const { app } = await start(counter, {
      memcachedNodes: 'n1:in-memory:1,n2:in-memory:2',
      failoverNodes: 'n2',
      storage,
    })
    nodes.get('n1')!.stop()
    expect(cookieOf(await app.inject('/count'))).toMatch(/-n2$/)
  })

  it('has its place taken by the URL, for a client without cookies, if the app allows it', async () => {
    const rewriteUrl = ({ url = '/' }: { url?: string }): string => withoutSessionId(url, 'JSESSIONID')
    const { app } = await start(
      (app) => {
        counter(app)
        app.get('/link', async ({ session }, reply) => {
          session.fastifyViews = 41
          return reply.encodeURL('/count?a=b')
        })
      },
      { sessionTracking: ['url'] },
      { rewriteUrl },
    )
    const first = await app.inject('/link')
    expect(first.body).toMatch(/^\/count;jsessionid=[0-9A-F]{32}-n1\?a=b$/)
    expect(cookiesOf(first)).toEqual([])
    expect((await app.inject(first.body)).json()).toBe(42)
  })

  it('is sent over HTTP/2', async () => {
    const app = Fastify({ http2: true })
    onTestFinished(() => app.close())
    const node = new HeldNode()
    app.register(session, inMemory(node))
    await app.after()
    counter(app as unknown as FastifyInstance)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const client = http2.connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
    onTestFinished(() => client.close())
    const ask = async (headers: http2.OutgoingHttpHeaders) => {
      const stream = client.request({ ':path': '/count', ...headers })
      const [head] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
      let body = ''
      for await (const chunk of stream) body += chunk
      return { cookies: head['set-cookie'], body }
    }
    const first = await ask({})
    const cookie = first.cookies![0]!.split(';')[0]!
    expect(await ask({ cookie })).toEqual({ cookies: undefined, body: '2' })
    expect(node.operations.filter((name) => name === 'set')).toHaveLength(2)
  })
})

describe('a session that can not be had or kept', () => {
  const options = { sticky: false, commitFailurePolicy: 'error' as const }
  const handlesErrors = (app: FastifyInstance): void => {
    counter(app)
    app.setErrorHandler(async (error: { code?: string; statusCode?: number }, request, reply) =>
      reply.code(error.statusCode ?? 500).send({ code: error.code, session: request.session }),
    )
  }

  it("is answered 503 by Fastify's error handling if no node can be asked for it", async () => {
    const node = new MemoryStorageClient()
    const { app } = await start(handlesErrors, { ...options, storage: () => node })
    const cookie = cookieOf(await app.inject('/count'))
    node.stop()
    const response = await app.inject({ url: '/count', headers: { cookie } })
    expect(response.statusCode).toBe(503)
    expect(response.json()).toEqual({ code: 'ERR_MSM_STORAGE_UNAVAILABLE', session: null })
    expect(cookiesOf(response)).toEqual([])
  })

  it("is answered by Fastify's error handling if it can not be stored and that is to be an error", async () => {
    const node = new MemoryStorageClient()
    const { app } = await start(
      (app) => {
        handlesErrors(app)
        app.get('/moved', async (request, reply) => {
          request.session.a = 1
          return reply.header('etag', 'x').redirect('/count')
        })
      },
      { ...options, storage: () => node },
    )
    node.stop()
    const response = await app.inject('/moved')
    expect(response.statusCode).toBe(503)
    expect(response.json()).toMatchObject({ code: expect.stringMatching(/^ERR_MSM_/) })
    expect(response.headers.location ?? response.headers.etag).toBeUndefined()
    expect(cookiesOf(response)).toEqual([])
  })
})

describe('plugins that lean on the session', () => {
  it('@fastify/flash keeps a message for one request', async () => {
    const { app } = await start((app) => {
      app.register(fastifyFlash)
      app.register(async (routes) => {
        routes.get('/warn', async (request) => request.flash('warning', 'careful'))
        routes.get('/read', async (_request, reply) => reply.flash('warning'))
      })
    })
    const cookie = cookieOf(await app.inject('/warn'))
    const headers = { cookie }
    expect((await app.inject({ url: '/read', headers })).json()).toEqual(['careful'])
    expect((await app.inject({ url: '/read', headers })).json()).toEqual([])
  })

  it('@fastify/passport logs in under a new id, and out', async () => {
    class ByName extends Strategy {
      override authenticate(request: { query: unknown }): void {
        const { name } = request.query as { name?: string }
        if (name) this.success({ name })
        else this.fail()
      }
    }
    const passport = new Authenticator()
    passport.use('name', new ByName('name'))
    passport.registerUserSerializer(async (user: { name: string }) => user.name)
    passport.registerUserDeserializer(async (name: string) => ({ name }))
    const { app } = await start((app) => {
      counter(app)
      app.register(passport.initialize())
      app.register(passport.secureSession())
      app.register(async (routes) => {
        routes.get('/login', { preValidation: passport.authenticate('name') }, async (request) => request.user)
        routes.get('/me', async (request) => request.user)
        routes.get('/logout', async (request) => request.logOut())
      })
    })
    const before = cookieOf(await app.inject('/count'))
    const login = await app.inject({ url: '/login?name=joe', headers: { cookie: before } })
    const cookie = cookieOf(login)
    expect(idOf(cookie)).not.toBe(idOf(before))
    expect((await app.inject({ url: '/me', headers: { cookie } })).json()).toEqual({ name: 'joe' })
    expect((await app.inject({ url: '/me', headers: { cookie: before } })).json()).toBeNull()
    await app.inject({ url: '/logout', headers: { cookie } })
    expect((await app.inject({ url: '/me', headers: { cookie } })).json()).toBeNull()
  })
})

it('is typed, by the attributes that the app declares', () => {
  const app = create()
  app.register(session, { memcachedNodes: 'n1:localhost:11211', jvmRoute: 't1' })
  app.register(session, () => ({ manager: app.sessionManager, prefix: '/' }))
  // @ts-expect-error: there is no such option
  app.register(session, { memcachedNode: 'n1:localhost:11211' })
  app.get('/', async ({ session }) => {
    expectTypeOf(session.fastifyViews).toEqualTypeOf<number | undefined>()
    expectTypeOf(session.get('fastifyViews')).toEqualTypeOf<number | undefined>()
    expectTypeOf(session.whatever).toEqualTypeOf<unknown>()
    expectTypeOf(session.id).toEqualTypeOf<string>()
    expectTypeOf(session.regenerate(['a'])).toEqualTypeOf<Promise<void>>()
    // @ts-expect-error: it is a number
    session.fastifyViews = 'many'
    // @ts-expect-error: the id is the manager's
    session.id = 'mine'
  })
  expectTypeOf(app.sessionManager).toEqualTypeOf<SessionManager>()
})
