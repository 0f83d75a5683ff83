import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../../adapters/storage/memory.ts'
import { type SessionManagerOptions, session } from '../../../adapters/web/express.ts'
import { webSessionContract } from '../../contract/web-session.ts'
import { frameworks } from '../../support/frameworks.ts'
import { quiet } from '../../support/web-app.ts'

const versions = frameworks.filter(({ name }) => name.startsWith('Express'))
describe.each(versions.map((framework) => [framework.name, framework] as const))('%s', (_name, framework) => {
  webSessionContract(framework)
})

async function start(routes: (app: express.Express) => void, options: SessionManagerOptions = {}) {
  const node = new MemoryStorageClient()
  const sessions = session({ memcachedNodes: 'n1:in-memory:1', storage: () => node, logger: quiet, ...options })
  const app = express().use(sessions)
  routes(app)
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
    return {
      status: response.status,
      // biome-ignore lint/suspicious/noExplicitAny: whatever the handler has sent
      body: (await response.json()) as any,
      cookies: cookies.map((cookie) => cookie.split('=')[0]),
      id: /JSESSIONID=([^;]+)/.exec(cookies.join())?.[1],
    }
  }
  return { call, sessions, node }
}

describe('req.sessionID', () => {
  const routes = (app: express.Express): void => {
    app.get('/set', (request, response) => {
      request.session.k = 'v'
      response.json({ sessionID: request.sessionID, id: request.session.id })
    })
    app.get('/get', (request, response) => void response.json({ sessionID: request.sessionID }))
    app.get('/regenerate', async (request, response) => {
      const { session: former, sessionID: before } = request
      await request.session.regenerate()
      request.session.k = 'new'
      response.json({ before, after: request.sessionID, id: request.session.id, isSame: former === request.session })
    })
  }

  it('is the id of the session, from the request that makes it', async () => {
    const { call } = await start(routes)
    const { id, body } = await call('/set')
    expect(body).toEqual({ sessionID: id, id })
    expect((await call('/get', id)).body).toEqual({ sessionID: id })
  })

  it('follows regenerate, with a new req.session', async () => {
    const { call } = await start(routes)
    const { id: before } = await call('/set')
    const { id, body } = await call('/regenerate', before)
    expect(id).not.toBe(before)
    expect(body).toEqual({ before, after: id, id, isSame: false })
  })
})

it('stands beside the cookies of res.cookie and res.clearCookie', async () => {
  const { call } = await start((app) => {
    app.get('/', (request, response) => {
      response.cookie('a', '1')
      request.session.k = 'v'
      response.clearCookie('b').json({})
    })
  })
  expect((await call('/')).cookies).toEqual(['a', 'b', 'JSESSIONID'])
})

it('keeps its id when req.session is given an object, and has its methods again', async () => {
  const { call } = await start((app) => {
    app.get('/set', (request, response) => {
      request.session.k = 'v'
      response.json({})
    })
    app.get('/replace', (request, response, next) => {
      request.session = { only: 1 } as never
      response.once('finish', () => next())
      response.json({})
    })
    app.get('/get', (request, response) => void response.json({ ...request.session, id: request.session.id }))
  })
  const { id } = await call('/set')
  expect((await call('/replace', id)).id).toBeUndefined()
  expect((await call('/get', id)).body).toEqual({ only: 1, id })
})

it('is the first one if a router has a session of its own', async () => {
  const inner = session({ logger: quiet })
  onTestFinished(() => inner.manager.stop())
  const { call } = await start((app) => {
    app.get('/', inner, (request, response) => {
      request.session.k = 'v'
      response.json({ id: request.session.id })
    })
  })
  const { cookies, body } = await call('/')
  expect(cookies).toEqual(['JSESSIONID'])
  expect(body.id).toMatch(/-n1$/)
})

it('hands an error of the store to the error handlers, in place of the answer', async () => {
  const { call, node } = await start(
    (app) => {
      app.get('/', (request, response) => {
        request.session.k = 'v'
        node.stop()
        response.cookie('a', '1').status(201).json({ made: true })
      })
      app.use(
        (error: { code: string; status: number }, _request: unknown, response: express.Response, _next: unknown) => {
          response.status(error.status).json({ code: error.code })
        },
      )
    },
    { sticky: false, commitFailurePolicy: 'error' },
  )
  expect(await call('/')).toMatchObject({ status: 503, body: { code: 'ERR_MSM_STORAGE_UNAVAILABLE' }, id: undefined })
})

describe('a handler that gives up its session', () => {
  const routes = (app: express.Express): void => {
    app.get('/set', (request, response) => {
      request.session.k = 'v'
      response.json({})
    })
    app.get('/get', (request, response) => void response.json(request.session))
    app.get('/null', (request, response) => {
      request.session.k = 'changed'
      request.session = null as never
      response.json({ isNull: request.session === null })
    })
    app.get('/delete', (request, response) => {
      Reflect.deleteProperty(request, 'session')
      response.json({})
    })
  }

  it.each(['/null', '/delete'])("ends it with unset 'destroy', by %s", async (path) => {
    const { call } = await start(routes, { unset: 'destroy' })
    const { id } = await call('/set')
    await call(path, id)
    expect((await call('/get', id)).body).toEqual({})
  })

  it('leaves it as it was by default', async () => {
    const { call } = await start(routes)
    const { id } = await call('/set')
    expect((await call('/null', id)).body).toEqual({ isNull: true })
    expect((await call('/get', id)).body).toEqual({ k: 'v' })
  })
})
