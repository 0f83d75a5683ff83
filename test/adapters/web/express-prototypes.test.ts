import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import express, { type Express, type RequestHandler } from 'express'
import express4 from 'express4'
import { expect, it, onTestFinished } from 'vitest'
import { session } from '../../../adapters/web/express.ts'
import { HeldNode } from '../../support/held-node.ts'
import { quiet } from '../../support/web-app.ts'

const count: RequestHandler = (request, response) => {
  request.session.count = Number(request.session.count ?? 0) + 1
  response.json({ count: request.session.count, id: request.sessionID })
}

/** Serves `make(sessions)`, and counts in a session twice, with the store's write held back each time. */
async function expectCounts(make: (sessions: RequestHandler) => RequestListener): Promise<void> {
  const node = new HeldNode()
  const sessions = session({
    memcachedNodes: 'n1:in-memory:1',
    storage: () => node.client,
    sessionBackupAsync: false,
    sessionBackupTimeout: 10_000,
    logger: quiet,
  })
  const server = createServer(make(sessions as RequestHandler)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await sessions.manager.stop()
  })
  const { port } = server.address() as AddressInfo
  let cookie = ''
  for (const expected of [1, 2, 3]) {
    node.hold()
    let isAnswered = false
    const answer = fetch(`http://127.0.0.1:${port}/count`, { headers: { cookie } }).finally(() => {
      isAnswered = true
    })
    await expect.poll(() => node.operations.filter((name) => name === 'set')).toHaveLength(expected)
    expect(isAnswered).toBe(false)
    node.release()
    const response = await answer
    const [announced] = response.headers.getSetCookie()
    expect(announced === undefined).toBe(expected > 1)
    cookie = announced?.split(';')[0] ?? cookie
    const body = await response.json()
    expect(body).toEqual({ count: expected, id: cookie.slice('JSESSIONID='.length) })
  }
}

/** As compression and others do: keeps the functions of before, and puts its own on the response. */
const wrapping: RequestHandler = (_request, response, next) => {
  const { writeHead, write, end } = response
  response.writeHead = ((...args: [number]) => writeHead.apply(response, args)) as typeof writeHead
  response.write = ((...args: [string]) => write.apply(response, args as never)) as typeof write
  response.end = ((...args: [string]) => end.apply(response, args as never)) as typeof end
  next()
}

const inner = (make: () => Express): Express => make().get('/count', count) as Express

it.each<[string, (sessions: RequestHandler) => RequestListener]>([
  ['an app of Express 5', (sessions) => express().use(sessions).get('/count', count)],
  ['a mounted app', (sessions) => express().use(sessions).use(inner(express))],
  ['a mounted app of Express 4', (sessions) => express().use(sessions).use(inner(express4))],
  [
    'an app that is called as a function',
    (sessions) => {
      const other = inner(express)
      return express()
        .use(sessions)
        .use((request, response, next) => other(request, response, next))
    },
  ],
  [
    'a middleware before it that wraps the response',
    (sessions) => express().use(wrapping, sessions).get('/count', count),
  ],
  [
    'a middleware after it that wraps the response',
    (sessions) => express().use(sessions, wrapping).get('/count', count),
  ],
  ['one that comes twice', (sessions) => express().use(sessions, sessions).get('/count', count)],
  [
    "a server without Express's prototypes",
    (sessions) => (request, response) => {
      const own = response as unknown as { json(body: unknown): void }
      own.json = (body) => void response.end(JSON.stringify(body))
      sessions(request as never, response as never, () => count(request as never, own as never, () => {}))
    },
  ],
])('holds the answer until the session is stored, and tells its id once: %s', async (_what, make) => {
  await expectCounts(make)
})

it('leaves responses alone that no session middleware has seen, of the same Express', async () => {
  await expectCounts((sessions) => express().use(sessions).get('/count', count))
  const server = express()
    .get('/plain', (request, response) => void response.json({ session: typeof request.session }))
    .listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/plain`)
  expect(await response.json()).toEqual({ session: 'undefined' })
  expect(response.headers.getSetCookie()).toEqual([])
})
