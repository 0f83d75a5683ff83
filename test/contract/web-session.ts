import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { inspect } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { createSessionManager, type SessionManager, type SessionManagerOptions } from '../../lib/index.ts'
import type { AnySession, Context, Framework, Routes } from '../support/frameworks.ts'
import { HeldNode } from '../support/held-node.ts'
import { quiet } from '../support/web-app.ts'

/** The methods of a session that ask a store. */
const OPERATIONS = ['save', 'reload', 'regenerate', 'destroy'] as const
type Operation = (typeof OPERATIONS)[number]

/** For TLS without a certificate. */
const SECRET = Buffer.alloc(32, 'k')

export interface WebAnswer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  /** The id in the cookie, undefined if it was not set. */
  readonly id: string | undefined
  /** Names of the cookies that were set, in order. */
  readonly cookies: readonly string[]
}

export interface WebServer {
  readonly node: MemoryStorageClient
  readonly manager: SessionManager
  readonly warnings: readonly string[]
  call(path: string, id?: string): Promise<WebAnswer>
}

/** Serves the routes by a framework, with one node in memory. */
export async function serve(
  framework: Framework,
  routes: Routes | ((node: MemoryStorageClient) => Routes),
  options: SessionManagerOptions = {},
  { overTls = false }: { overTls?: boolean } = {},
): Promise<WebServer> {
  const node = new MemoryStorageClient()
  const warnings: string[] = []
  const manager = createSessionManager({
    memcachedNodes: 'n1:in-memory:1',
    storage: () => node,
    sessionBackupAsync: false,
    logger: { ...quiet, warn: (line) => void warnings.push(line) },
    ...options,
  })
  const plain = await framework.serve(manager, typeof routes === 'function' ? routes(node) : routes, false)
  const server = overTls ? https.createServer({ ciphers: 'PSK', pskCallback: () => SECRET }) : plain
  if (overTls) for (const listener of plain.listeners('request')) server.on('request', listener as never)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await manager.stop()
  })
  const target = { port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false as const }
  const withSecret = {
    ciphers: 'PSK',
    pskCallback: () => ({ psk: SECRET, identity: 'test' }),
    checkServerIdentity: () => undefined,
  }
  const name = manager.options.cookie.name
  const call = async (path: string, id?: string): Promise<WebAnswer> => {
    const headers = id === undefined ? {} : { cookie: `${name}=${id}` }
    const request = overTls
      ? https.get({ ...target, ...withSecret, path, headers })
      : http.get({ ...target, path, headers })
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    let body = ''
    for await (const chunk of response) body += chunk
    const set = response.headers['set-cookie'] ?? []
    const own = set.find((cookie) => cookie.startsWith(`${name}=`))
    return {
      status: response.statusCode!,
      headers: response.headers,
      body,
      id: own?.slice(name.length + 1).split(';')[0],
      cookies: set.map((cookie) => cookie.split('=')[0]!),
    }
  }
  return { node, manager, warnings, call }
}

const set = ({ session, query, json }: Context): void => {
  Object.assign(session, Object.fromEntries(query))
  json({ id: session.id })
}
const get = ({ session, json }: Context): void => json(session)

/** The outcome of an operation as its callback or its promise tells it. */
function outcomeOf(session: AnySession, operation: Operation, how: 'callback' | 'promise'): Promise<unknown> {
  if (how === 'promise') {
    return session[operation]().then(
      () => 'done',
      (error) => error.code,
    )
  }
  return new Promise((resolve) => {
    session[operation]((error?: unknown) => resolve(error === undefined ? 'done' : (error as { code: string }).code))
  })
}

/**
 * What sessions promise to an app, whatever its framework: errors, the cookie beside those of the app, its name and
 * safety, limits, and changes that come too late. A new adapter passes it by one line in its test file.
 */
export function webSessionContract(framework: Framework): void {
  describe.each(['promise', 'callback'] as const)('tells the outcome by %s', (how) => {
    it.each(OPERATIONS)('of %s', async (operation) => {
      const app = await serve(
        framework,
        (node) => ({
          '/set': set,
          '/good': async ({ session, json }) => json(await outcomeOf(session, operation, how)),
          '/bad': async ({ session, json }) => {
            session.k = 'changed'
            node.stop()
            const outcome = await outcomeOf(session, operation, how)
            node.start()
            json({ outcome })
          },
        }),
        { sticky: false, commitFailurePolicy: 'respond' },
      )
      const { id } = await app.call('/set?k=v')
      // The node is taken for down from the error on, so the good case comes first.
      const other = await app.call('/set?k=v')
      expect((await app.call('/good', other.id)).body).toContain('done')
      expect(JSON.parse((await app.call('/bad', id)).body)).toEqual({ outcome: 'ERR_MSM_STORAGE_UNAVAILABLE' })
    })
  })

  it('leaves nothing of the id of before in the store, after regenerate and after destroy', async () => {
    const app = await serve(framework, {
      '/set': set,
      '/regenerate': async (context) => {
        await context.session.regenerate()
        context.session.k = 'new'
        context.json({})
      },
      '/destroy': async ({ session, json }) => {
        await session.destroy()
        json({})
      },
    })
    const first = (await app.call('/set?k=v')).id!
    expect(await app.node.get(first)).toBeDefined()
    const second = (await app.call('/regenerate', first)).id!
    expect(second).not.toBe(first)
    expect(await app.node.get(first)).toBeUndefined()
    expect(await app.node.get(second)).toBeDefined()
    await app.call('/destroy', second)
    expect(await app.node.get(second)).toBeUndefined()
  })

  it('gives a request with the id of a destroyed session a new one under another id', async () => {
    const app = await serve(framework, {
      '/set': set,
      '/get': get,
      '/destroy': async ({ session, json }) => {
        await session.destroy()
        json({})
      },
    })
    const { id } = await app.call('/set?k=v')
    await app.call('/destroy', id)
    const again = await app.call('/set?l=w', id)
    expect(again.id).toMatch(/^[0-9A-F]{32}-n1$/)
    expect(again.id).not.toBe(id)
    expect(JSON.parse((await app.call('/get', again.id)).body)).toEqual({ l: 'w' })
  })

  it('has no node id in the id if there is a single node without one', async () => {
    const app = await serve(framework, { '/set': set, '/get': get }, { memcachedNodes: 'in-memory:1' })
    const { id } = await app.call('/set?k=v')
    expect(id).toMatch(/^[0-9A-F]{32}$/)
    expect(JSON.parse((await app.call('/get', id)).body)).toEqual({ k: 'v' })
  })

  it('has the name that the cookie is given, and no other', async () => {
    const app = await serve(framework, { '/set': set, '/get': get }, { cookie: { name: 'sid' } })
    const { id, cookies } = await app.call('/set?k=v')
    expect(cookies).toEqual(['sid'])
    expect(JSON.parse((await app.call('/get', id)).body)).toEqual({ k: 'v' })
    expect(JSON.parse((await app.call('/get', `x; JSESSIONID=${id}`)).body)).toEqual({})
  })

  it.each([
    [false, '; Path=/; HttpOnly; SameSite=Lax'],
    [true, '; Path=/; HttpOnly; Secure; SameSite=Lax'],
  ])('is Secure only if the client came over TLS: %s', async (overTls, attributes) => {
    const app = await serve(framework, { '/set': set }, {}, { overTls })
    const { id, headers } = await app.call('/set?k=v')
    expect(headers['set-cookie']).toEqual([`JSESSIONID=${id}${attributes}`])
  })

  const headers = { 'Content-Type': 'text/plain', 'Set-Cookie': ['a=1', 'b=2'] }
  const pairs = [
    ['Content-Type', 'text/plain'],
    ['Set-Cookie', 'a=1'],
    ['Set-Cookie', 'b=2'],
  ]
  it.each<[string, (raw: Context['raw']) => unknown]>([
    ['setHeader', (raw) => raw.setHeader('Set-Cookie', ['a=1', 'b=2'])],
    ['appendHeader', (raw) => raw.appendHeader('Set-Cookie', 'a=1').appendHeader('set-cookie', 'b=2')],
    ['writeHead with an object', (raw) => raw.writeHead(200, headers)],
    ['writeHead with a message and an object', (raw) => raw.writeHead(200, 'Fine', headers)],
    ['writeHead with no message and an object', (raw) => raw.writeHead(200, undefined, headers)],
    ['writeHead with a list', (raw) => raw.writeHead(200, pairs.flat())],
    ['writeHead with a list of pairs', (raw) => raw.writeHead(200, pairs as never)],
  ])("stands beside the app's own cookies, set by %s", async (_how, setCookies) => {
    const app = await serve(framework, {
      '/': ({ session, raw }) => {
        session.k = 1
        raw.statusCode = 200
        setCookies(raw)
        raw.end('{}')
      },
    })
    const answer = await app.call('/')
    expect(answer.status).toBe(200)
    expect(answer.cookies).toEqual(['a', 'b', 'JSESSIONID'])
  })

  it('does not store a session that gets its first attributes after the head was sent, and warns once', async () => {
    const node = new HeldNode()
    const app = await serve(
      framework,
      {
        '/': async ({ session, raw }) => {
          await new Promise<void>((resolve) => raw.write('a', () => resolve()))
          session.k = 1
          await session.commit()
          session.l = 2
          await session.commit()
          raw.end('b')
        },
      },
      { storage: () => node.client },
    )
    const answer = await app.call('/')
    expect(answer.body).toBe('ab')
    expect(answer.cookies).toEqual([])
    expect(app.warnings.filter((line) => line.includes('after the response head was sent'))).toHaveLength(1)
    expect(node.operations).toEqual([])
    expect(app.manager.statistics.activeSessions).toBe(0)
  })

  it('answers 503 by the error handling of the framework once there are maxActiveSessions', async () => {
    const app = await serve(framework, { '/set': set, '/get': get }, { maxActiveSessions: 1 })
    const { id } = await app.call('/set?k=v')
    const refused = await app.call('/set?k=v')
    expect([refused.status, refused.id]).toEqual([503, undefined])
    expect((await app.call('/set?l=w', id)).status).toBe(200)
    expect(JSON.parse((await app.call('/get', id)).body)).toEqual({ k: 'v', l: 'w' })
  })

  it('shows its attributes when it is logged, and clones as a copy of them', async () => {
    const app = await serve(framework, {
      '/': ({ session, json }) => {
        session.user = { name: 'joe' }
        json({ logged: inspect(session), cloned: structuredClone({ ...session }) })
      },
    })
    expect(JSON.parse((await app.call('/')).body)).toEqual({
      logged: "{ user: { name: 'joe' } }",
      cloned: { user: { name: 'joe' } },
    })
  })
}
