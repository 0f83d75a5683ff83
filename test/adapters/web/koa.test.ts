import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import Koa, { type Context } from 'koa'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../../adapters/storage/memory.ts'
import { type SessionManagerOptions, session } from '../../../adapters/web/koa.ts'
import { webSessionContract } from '../../contract/web-session.ts'
import { frameworks } from '../../support/frameworks.ts'
import { quiet } from '../../support/web-app.ts'

const versions = frameworks.filter(({ name }) => name.startsWith('Koa'))
describe.each(versions.map((framework) => [framework.name, framework] as const))('%s', (_name, framework) => {
  webSessionContract(framework)
})

type Handler = (context: Context) => unknown

async function start(routes: Record<string, Handler>, options: SessionManagerOptions = {}) {
  const node = new MemoryStorageClient()
  const sessions = session({ memcachedNodes: 'n1:in-memory:1', storage: () => node, logger: quiet, ...options })
  const app = new Koa()
  app.silent = true
  app.use(sessions)
  app.use(async (context) => {
    const handlers: Record<string, Handler> = { '/set': set, '/get': get, ...routes }
    const answer = await handlers[context.path]?.(context)
    if (!context.headerSent) context.body = JSON.stringify(answer ?? {})
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await sessions.manager.stop()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const call = async (path: string, id?: string) => {
    const response = await fetch(url + path, id === undefined ? {} : { headers: { cookie: `JSESSIONID=${id}` } })
    const cookies = response.headers.getSetCookie()
    const text = await response.text()
    return {
      status: response.status,
      // biome-ignore lint/suspicious/noExplicitAny: whatever the handler has sent
      body: (response.ok ? JSON.parse(text) : text) as any,
      cookies: cookies.map((cookie) => cookie.split('=')[0]),
      id: /JSESSIONID=([^;]+)/.exec(cookies.join())?.[1],
    }
  }
  return { call, node }
}

const set: Handler = (context) => {
  Object.assign(context.session, context.query)
}
const get: Handler = (context) => context.session

describe('ctx.session = null', () => {
  it('shows none from then on, and no cookie is sent', async () => {
    const { call } = await start({
      '/end': (context) => {
        context.session = null
        return { left: context.session }
      },
    })
    const { id } = await call('/set?k=v')
    expect(await call('/end', id)).toMatchObject({ body: { left: null }, cookies: [] })
    expect((await call('/end')).cookies).toEqual([])
  })

  it.each([true, false])('and then an object starts another session, with sticky: %s', async (sticky) => {
    const { call, node } = await start(
      {
        '/other': (context) => {
          context.session = null
          context.session = { user: 'joe' }
          context.session.more = 1
        },
      },
      { sticky },
    )
    const { id: before } = await call('/set?k=v')
    for (const presented of [before, undefined]) {
      const { id } = await call('/other', presented)
      expect(id).toBeDefined()
      expect(id).not.toBe(before)
      expect((await call('/get', id)).body).toEqual({ user: 'joe', more: 1 })
    }
    expect(await node.get(before!)).toBeUndefined()
    expect((await call('/get', before)).body).toEqual({})
  })

  it('ends a session that was not loaded yet', async () => {
    const { call, node } = await start(
      {
        '/set': async (context) => {
          const loaded = await context.loadSession()
          loaded.k = 'v'
        },
        '/end': (context) => {
          context.session = null
        },
      },
      { lazy: true, sticky: false },
    )
    const { id } = await call('/set')
    expect(await node.get(id!)).toBeDefined()
    await call('/end', id)
    expect(await node.get(id!)).toBeUndefined()
  })

  it('is an error of the request, and no unhandled rejection, if the node is down', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown): void => void unhandled.push(reason)
    process.prependListener('unhandledRejection', note)
    onTestFinished(() => void process.off('unhandledRejection', note))
    const warnings: string[] = []
    const { call, node } = await start(
      {
        '/end': async (context) => {
          node.stop()
          context.session = null
          // The handler is still at work when the node has been found dead, and for two turns after that.
          await expect.poll(() => warnings.join()).toContain('is down')
          for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
        },
      },
      { sticky: false, logger: { ...quiet, warn: (line) => void warnings.push(line) } },
    )
    const { id } = await call('/set?k=v')
    expect((await call('/end', id)).status).toBe(503)
    expect(unhandled).toEqual([])
  })
})

it('takes an object as its content, keeps its id then, and refuses what is none', async () => {
  const { call } = await start({
    '/replace': (context) => {
      context.session = { only: 1 }
    },
    '/text': (context) => {
      context.session = 'text' as never
    },
  })
  const { id } = await call('/set?k=v')
  expect((await call('/replace', id)).id).toBeUndefined()
  expect((await call('/get', id)).body).toEqual({ only: 1 })
  expect((await call('/text', id)).status).toBe(500)
})

it('has what koa-session gives a session', async () => {
  const { call } = await start({
    '/': (context) => {
      const { session: own } = context
      const before = [own.isNew, own.populated, own.length, own.maxAge, own.expire]
      own.k = 'v'
      own.maxAge = 60_000
      const { externalKey, id, populated, length, maxAge, expire } = own
      const left = Math.round((expire! - Date.now()) / 1000)
      own.maxAge = 'session'
      return { before, externalKey, isId: externalKey === id, after: [populated, length, maxAge, left, own.maxAge] }
    },
  })
  const { id, body } = await call('/')
  expect(body).toEqual({
    before: [true, false, 0, 'session', null],
    externalKey: id,
    isId: true,
    after: [true, 1, 60_000, 60, 'session'],
  })
})

it('is stored by manuallyCommit only, with autoCommit: false', async () => {
  const { call, node } = await start(
    {
      '/commit': async (context) => {
        Object.assign(context.session, context.query)
        await context.session.manuallyCommit()
      },
    },
    { autoCommit: false, sticky: false },
  )
  const { id } = await call('/commit?k=v')
  expect(await node.get(id!)).toBeDefined()
  await call('/set?k=forgotten', id)
  expect((await call('/get', id)).body).toEqual({ k: 'v' })
  await call('/commit?k=w', id)
  expect((await call('/get', id)).body).toEqual({ k: 'w' })
})

it('stands beside the cookies of ctx.cookies and ctx.append', async () => {
  const { call } = await start({
    '/': (context) => {
      context.cookies.set('a', '1')
      context.session.k = 'v'
      context.append('Set-Cookie', 'b=2')
    },
  })
  expect((await call('/')).cookies).toEqual(['a', 'b', 'JSESSIONID'])
})

it('is there for a handler that answers by itself', async () => {
  const { call } = await start({
    '/own': (context) => {
      context.respond = false
      context.session.k = 'v'
      context.res.writeHead(200, { 'Content-Type': 'application/json' })
      context.res.end('{"own":true}')
    },
  })
  const { id, body } = await call('/own')
  expect(body).toEqual({ own: true })
  expect((await call('/get', id)).body).toEqual({ k: 'v' })
})

it("hands an error of the store to Koa's error handling, in place of the answer", async () => {
  const { call, node } = await start(
    {
      '/': (context) => {
        context.session.k = 'v'
        context.cookies.set('a', '1')
        node.stop()
      },
    },
    { sticky: false, commitFailurePolicy: 'error' },
  )
  expect(await call('/')).toMatchObject({ status: 503, cookies: [] })
})
