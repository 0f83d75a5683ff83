import { once } from 'node:events'
import http, { type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { session } from '../../adapters/web/express.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }

interface Answer {
  status: number
  message: string | undefined
  headers: http.IncomingHttpHeaders
  body: string
}

/** Asks a server of node:http whose session, new in this request, is stored before its client may learn its id. */
async function answerOf(
  answer: (response: ServerResponse, request: { session: Record<string, unknown> }) => void,
  prepare = (_node: MemoryStorageClient): void => {},
  onHead = (_node: MemoryStorageClient): void => {},
): Promise<Answer> {
  const node = new MemoryStorageClient()
  const sessions = session({
    memcachedNodes: 'n1:in-memory:1',
    storage: () => node,
    sticky: false,
    commitFailurePolicy: 'error',
    logger: quiet,
  })
  const server = http.createServer((request, response) => {
    sessions(request, response, () => {
      Object.assign(request, { session: { user: 'joe' } })
      prepare(node)
      answer(response, request as never)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await sessions.manager.stop()
  })
  const request = http.get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false })
  const [response] = (await once(request, 'response')) as [http.IncomingMessage]
  onHead(node)
  let body = ''
  for await (const chunk of response) body += chunk
  const { statusCode: status, statusMessage: message, headers } = response
  return { status: status!, message, headers, body }
}

const cookiesOf = (answer: Answer): string[] =>
  (answer.headers['set-cookie'] ?? []).map((cookie) => cookie.split('=')[0]!)

describe('a head that the app writes itself', () => {
  const json: OutgoingHttpHeaders = { 'Content-Type': 'application/json', 'Set-Cookie': ['a=1', 'b=2'] }
  const flat = ['Content-Type', 'application/json', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']

  it.each<[string, (response: ServerResponse) => void]>([
    ['an object', (response) => response.writeHead(201, json)],
    ['an object and a message', (response) => response.writeHead(201, 'Created', json)],
    ['a list', (response) => response.writeHead(201, flat)],
  ])('has the cookie of a session that is stored after it was written, given as %s', async (_form, write) => {
    const answer = await answerOf((response) => {
      response.setHeader('Content-Type', 'text/plain')
      write(response)
      response.end('{}')
    })
    expect(cookiesOf(answer)).toEqual(['a', 'b', 'JSESSIONID'])
    expect(answer).toMatchObject({
      status: 201,
      message: 'Created',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
  })

  it('keeps a message of its own', async () => {
    expect(await answerOf((response) => response.writeHead(201, 'Made').end())).toMatchObject({ message: 'Made' })
  })

  it.each<[string, (response: ServerResponse) => void]>([
    ['a first write', (response) => void response.write('a')],
    ['flushHeaders', (response) => response.flushHeaders()],
  ])('goes out with %s', async (_name, send) => {
    const answer = await answerOf((response) => {
      response.writeHead(200)
      send(response)
      response.end('b')
    })
    expect(cookiesOf(answer)).toEqual(['JSESSIONID'])
    expect(answer.body).toMatch(/^a?b$/)
  })

  it('has the cookie of a session that gets its first attribute between head and body', async () => {
    const answer = await answerOf((response, request) => {
      delete request.session.user
      response.writeHead(200)
      request.session.user = 'jim'
      response.end()
    })
    expect(cookiesOf(answer)).toEqual(['JSESSIONID'])
  })

  it('counts as sent, as far as the app can tell', async () => {
    const seen: unknown[] = []
    await answerOf((response) => {
      seen.push(response.headersSent)
      response.writeHead(200)
      seen.push(response.headersSent)
      expect(() => response.writeHead(500)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }))
      response.end()
      seen.push(response.writableEnded)
      expect(() => response.writeHead(500)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }))
      response.once('finish', () => seen.push(response.headersSent, response.writableEnded))
    })
    expect(seen).toEqual([false, true, true, true, true])
  })

  it('is refused by node if its status is none', async () => {
    const answer = await answerOf((response) => {
      expect(() => response.writeHead(1000)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_INVALID_STATUS_CODE' }))
      response.end('ok')
    })
    expect(answer.body).toBe('ok')
  })

  it('is not taken back once it is sent, if the session can not be stored again at the end', async () => {
    let end = (): void => {}
    const answer = await answerOf(
      (response, request) => {
        response.writeHead(200)
        response.flushHeaders()
        end = () => {
          request.session.user = 'jim'
          response.end('b')
        }
      },
      undefined,
      (node) => {
        node.stop()
        end()
      },
    )
    expect([answer.status, answer.body, cookiesOf(answer)]).toEqual([200, 'b', ['JSESSIONID']])
  })

  it('gives way to an error if the session can not be stored', async () => {
    const answer = await answerOf(
      (response) => response.writeHead(200, { 'Content-Length': 2, etag: 'x' }).write('ok'),
      (node) => node.stop(),
    )
    expect(answer.status).toBe(503)
    expect(answer.headers.etag).toBeUndefined()
    expect(cookiesOf(answer)).toEqual([])
  })
})

it('adds its cookie to the response only, not to a list of cookies that the app sets on every response', async () => {
  const cookies = ['a=1', 'b=2']
  const answer = await answerOf((response) => {
    response.setHeader('Set-Cookie', cookies)
    response.end()
  })
  expect(cookiesOf(answer)).toEqual(['a', 'b', 'JSESSIONID'])
  expect(cookies).toEqual(['a=1', 'b=2'])
})
