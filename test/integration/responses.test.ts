import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import http, { type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import express, { type Express, type NextFunction, type Request, type Response } from 'express'
import Koa, { type Context } from 'koa'
import { describe, expect, it, onTestFinished } from 'vitest'
import { session as expressSession } from '../../adapters/web/express.ts'
import { session as koaSession } from '../../adapters/web/koa.ts'
import type { SessionManager, SessionManagerOptions } from '../../lib/index.ts'
import { HeldNode } from '../support/held-node.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }
const HEX = 'A'.repeat(32)
const PACKAGE = fileURLToPath(new URL('../../package.json', import.meta.url))

/** A request, whatever the framework. */
interface Exchange {
  readonly path: string
  readonly session: Record<string, unknown> | undefined
  json(value: unknown): void
  pipe(body: Readable): void
}
type Handler = (exchange: Exchange) => void | Promise<void>

interface Framework {
  readonly name: string
  /** Answers by `handler`, or in as many ways as the framework has, at a path each. */
  serve(options: SessionManagerOptions, handler?: Handler): { manager: SessionManager; listener: RequestListener }
}

let changes = 0

const withExpress: Framework = {
  name: 'Express',
  serve(options, handler) {
    const sessions = expressSession(options)
    const app = express().use(sessions)
    if (handler) {
      app.use((request, response) =>
        handler({
          path: request.path,
          session: request.session,
          json: (value) => void response.json(value),
          pipe: (body) => void body.pipe(response),
        }),
      )
    } else answersOfExpress(app)
    return { manager: sessions.manager, listener: app }
  },
}

function answersOfExpress(app: Express): void {
  app.use((request, _response, next) => {
    if (request.path !== '/late' && request.path !== '/other') request.session.change = ++changes
    next()
  })
  app.get('/json', (_request, response) => void response.json({ ok: true }))
  app.get('/other', (_request, response) => void response.json({ ok: true }))
  app.get('/redirect', (_request, response) => response.redirect('/json'))
  app.get('/stream', (_request, response) => {
    response.write('a')
    response.write('b')
    response.end('c')
  })
  app.get('/file', (_request, response) => response.sendFile(PACKAGE))
  app.get('/304', (_request, response) => void response.status(304).end())
  app.get('/error', () => {
    throw new Error('wrong')
  })
  app.get('/error-after-answer', (_request, response) => {
    response.json({ ok: true })
    throw new Error('wrong, but too late')
  })
  app.get('/late', (request, response) => {
    response.write('a')
    request.session.change = ++changes
    response.end('b')
  })
  app.use((_error: unknown, _request: Request, response: Response, _next: NextFunction) => {
    response.status(500).send('sorry')
  })
}

const withKoa: Framework = {
  name: 'Koa',
  serve(options, handler) {
    const sessions = koaSession(options)
    const app = new Koa()
    app.silent = true
    app.use(sessions)
    app.use(async (context) => {
      if (!handler) {
        answersOfKoa[context.path]?.(context)
        return
      }
      await handler({
        path: context.path,
        session: context.session,
        json: (value) => {
          context.body = value
        },
        pipe: (body) => {
          context.body = body
        },
      })
    })
    return { manager: sessions.manager, listener: app.callback() }
  },
}

const change = (context: Context): void => {
  context.session.change = ++changes
}
const answersOfKoa: Record<string, (context: Context) => void> = {
  '/json': (context) => {
    change(context)
    context.body = { ok: true }
  },
  '/other': (context) => {
    context.body = { ok: true }
  },
  '/redirect': (context) => {
    change(context)
    context.redirect('/json')
  },
  '/stream': (context) => {
    change(context)
    context.body = Readable.from(['a', 'b', 'c'])
  },
  '/file': (context) => {
    change(context)
    context.body = createReadStream(PACKAGE)
  },
  '/304': (context) => {
    change(context)
    context.status = 304
  },
  '/error': (context) => {
    change(context)
    throw new Error('wrong')
  },
  '/error-after-answer': (context) => {
    change(context)
    context.status = 200
    context.res.end('{}')
    throw new Error('wrong, but too late')
  },
  '/late': (context) => {
    context.status = 200
    context.res.write('a')
    change(context)
    context.res.end('b')
  },
}

async function start(framework: Framework, handler?: Handler, options: SessionManagerOptions = {}) {
  const node = new HeldNode()
  const { manager, listener } = framework.serve(
    {
      memcachedNodes: 'n1:in-memory:1',
      storage: () => node.client,
      sessionBackupAsync: false,
      sessionBackupTimeout: 5000,
      operationTimeout: 5000,
      logger: quiet,
      ...options,
    },
    handler,
  )
  const server = http.createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await manager.stop()
  })
  return { node, manager, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

interface Answer {
  status: number | undefined
  headers: IncomingHttpHeaders
  body: Buffer
}

/** A request that tells what has arrived so far. */
function send(url: string, headers: Record<string, string> = {}, method = 'GET') {
  const arrived: string[] = []
  const request = http.request(url, { headers, method, agent: false })
  const answer = new Promise<Answer>((resolve, reject) => {
    request.once('error', reject)
    request.once('response', async (response) => {
      arrived.push('head')
      const chunks: Buffer[] = []
      for await (const chunk of response) chunks.push(chunk as Buffer)
      arrived.push('end')
      resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) })
    })
  })
  request.end()
  return { request, answer, arrived }
}

const cookieOf = (answer: Answer): string => String(answer.headers['set-cookie']?.[0]).split(';')[0]!

const MALFORMED: string[] = [
  '',
  ' ',
  'x',
  '12345',
  HEX,
  `${HEX}-n9`,
  `${HEX}-n1-`,
  `${HEX}-n1-n1`,
  `${HEX}-n1.`,
  `${HEX}.n1`,
  `${HEX}-.t1`,
  `-n1`,
  `.t1`,
  `lock:${HEX}-n1`,
  `bak:${HEX}-n1`,
  `validity:${HEX}-n1`,
  `${HEX.toLowerCase()}-n1`,
  `${HEX}A-n1`,
  `${HEX.slice(1)}-n1`,
  `${HEX.slice(1)}G-n1`,
  `${HEX}-n1.${'r'.repeat(300)}`,
  'A'.repeat(5000),
  '%00',
  '%zz',
  '%',
  `${HEX}-n1%0d%0aset x 0 0 1`,
  `${HEX}-n1%20`,
  `${HEX}-n1\t`.concat('x'),
  `"${HEX}-n1 "`,
  `${HEX}%2Dn9`,
  `${HEX}-n1/../x`,
  `${HEX}-n1\u00e9`,
  '\u00ff\u00fe',
  `=${HEX}-n1`,
  `${HEX} -n1`,
  `${HEX},n1`,
  '__proto__',
  'constructor',
  '[object Object]',
  `${HEX}-n1%00`,
]

describe.each([withExpress, withKoa].map((framework) => [framework.name, framework] as const))(
  '%s',
  (_name, framework) => {
    describe('with synchronous backup, no response ends before the store has the change', () => {
      it.each([
        ['JSON', 'GET', '/json', 200, []],
        ['a redirect', 'GET', '/redirect', 302, []],
        ['a stream', 'GET', '/stream', 200, []],
        ['a file', 'GET', '/file', 200, []],
        ['HEAD', 'HEAD', '/json', 200, []],
        ['304', 'GET', '/304', 304, []],
        ['an error', 'GET', '/error', 500, []],
        ['an answer that an error follows', 'GET', '/error-after-answer', 200, []],
        ['a change after the first byte', 'GET', '/late', 200, ['head']],
      ])('%s', async (_name, method, path, status, before) => {
        const { node, url } = await start(framework)
        const cookie = cookieOf(await send(`${url}/json`).answer)
        const stored = node.operations.length
        node.hold()
        const { answer, arrived } = send(url + path, { cookie }, method)
        await expect.poll(() => node.operations.length).toBeGreaterThan(stored)
        // A request that needs no store passes meanwhile: what could have arrived, has.
        await send(`${url}/other`).answer
        expect(arrived).toEqual(before)
        node.release()
        expect((await answer).status).toBe(status)
        expect(arrived).toEqual(['head', 'end'])
      })
    })

    it('delivers a body of 5 MB whole that was piped while the store kept it waiting', async () => {
      const { node, url } = await start(framework, ({ session, pipe }) => {
        session!.a = 1
        pipe(Readable.from(Array.from({ length: 500 }, () => Buffer.alloc(10_000, 'x'))))
      })
      node.hold()
      const { answer, arrived } = send(url)
      await expect.poll(() => node.operations).toContain('set')
      expect(arrived).toEqual([])
      node.release()
      const { body, headers } = await answer
      expect(body.length).toBe(5_000_000)
      expect(headers['set-cookie']).toHaveLength(1)
    })

    it('stores the session of a client that hangs up early, and what its handler changes after that', async () => {
      let handlerRuns = (): void => {}
      let handlerMayEnd = (): void => {}
      const running = new Promise<void>((resolve) => {
        handlerRuns = resolve
      })
      const { node, url } = await start(framework, async ({ session, json }) => {
        session!.a = 1
        handlerRuns()
        await new Promise<void>((resolve) => {
          handlerMayEnd = resolve
        })
        session!.b = 2
        json({})
      })
      const { request, answer } = send(url)
      answer.catch(() => {})
      await running
      request.destroy()
      await expect.poll(() => node.operations).toEqual(['set'])
      handlerMayEnd()
      await expect.poll(() => node.operations).toEqual(['set', 'set'])
    })

    describe('a malformed cookie gives a clean new session, and reaches no store', () => {
      it.each([...MALFORMED.map((value) => `JSESSIONID=${value}`), Array(10).fill(`JSESSIONID=${HEX}-n1`).join('; ')])(
        '%j',
        async (cookie) => {
          const { node, url } = await start(framework, ({ session, json }) => {
            session!.a = 1
            json({ id: session!.id })
          })
          const { status, headers, body } = await send(url, { cookie }).answer
          expect(status).toBe(200)
          const { id } = JSON.parse(body.toString()) as { id: string }
          expect(id).toMatch(/^[0-9A-F]{32}-n1$/)
          expect(id).not.toContain(HEX)
          expect(String(headers['set-cookie'])).toContain(`JSESSIONID=${id};`)
          expect(node.operations).toEqual(['set'])
        },
      )
    })

    it('touches no store, sets no cookie and makes no session for ignored requests, but shows the local session', async () => {
      const { node, url } = await start(
        framework,
        ({ session, json }) => {
          const count = session ? Number(session.count ?? 0) : undefined
          if (session) session.count = Number(count) + 1
          json({ count: count ?? null })
        },
        { requestUriIgnorePattern: '.*\\.(png|css)$' },
      )
      const fresh = await send(`${url}/x.png`).answer
      expect(fresh.headers['set-cookie']).toBeUndefined()
      expect(fresh.body.toString()).toBe('{"count":null}')
      expect(node.operations).toEqual([])
      const cookie = cookieOf(await send(url).answer)
      node.operations.length = 0
      expect((await send(`${url}/x.png?v=1`, { cookie }).answer).body.toString()).toBe('{"count":1}')
      expect(node.operations).toEqual([])
      expect((await send(url, { cookie }).answer).body.toString()).toBe('{"count":2}')
      expect(node.operations).toEqual(['set'])
    })
  },
)
