import { describe, expect, it, vi } from 'vitest'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { UnknownIds } from '../../lib/modes/non-sticky/unknown-ids.ts'
import { memoryNodes, startApp } from '../support/web-app.ts'
import { KINDS, MADE_UP, sendBytes, startStore, withCookie } from './tools.ts'

const WRITES = /^(?:set|add|replace|compareAndSwap|touch) /
const MODES: SessionManagerOptions[] = [
  { sticky: true },
  { sticky: true, jvmRoute: 't1', lockingMode: 'all' },
  { sticky: false },
  { sticky: false, lockingMode: 'none' },
]

describe.each(MODES)('an id that no store knows, with %j', (mode) => {
  it.each([`${MADE_UP}-n1`, `${MADE_UP}-n2`, `${MADE_UP}-n1.t1`, `${MADE_UP}-n1.t2`, `${MADE_UP}-n9`, MADE_UP])(
    'is never adopted: %s gets a new one, and nothing is written under it',
    async (id) => {
      const nodes = memoryNodes(2)
      const app = await startApp({ ...nodes.options, ...mode, sessionBackupAsync: false })
      for (const path of ['/get', '/set?k=v']) {
        const { status, body, announced } = await app.call(path, id)
        expect(status).toBe(200)
        expect(body.id?.slice(0, 32) ?? '').not.toBe(MADE_UP)
        expect(announced ?? '').not.toContain(MADE_UP)
      }
      const { announced } = await app.call('/set?k=v', id)
      expect(announced).toMatch(/^[0-9A-F]{32}-n[12](?:\.t1)?$/)
      const writes = nodes.log.filter((line) => WRITES.test(line))
      expect(writes.filter((line) => line.includes(announced!.slice(0, 32)))).not.toEqual([])
      expect(writes.filter((line) => line.includes(MADE_UP))).toEqual([])
      expect(app.manager.statistics.sessionsCreated).toBe(2)
    },
  )
})

it.each(['all', 'auto'] as const)(
  'an id that no store knows is locked for a moment at most, with lockingMode %s',
  async (lockingMode) => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, sticky: false, lockingMode })
    const id = `${MADE_UP}-n1`
    expect((await app.call('/set?k=v', id)).body.id).not.toContain(MADE_UP)
    const writes = nodes.log.filter((line) => WRITES.test(line) && line.includes(MADE_UP))
    expect(writes).toEqual([`add n1 lock:${id}`])
    await expect.poll(() => nodes.get('n1').get(`lock:${id}`)).toBeUndefined()
  },
)

it('an id that no store knows is neither adopted nor noted as used by a request that does not ask for its session', async () => {
  const nodes = memoryNodes(2)
  const app = await startApp({ ...nodes.options, sticky: false, lazy: true, touchAfterSeconds: 0 }, (web) => {
    web.get('/nothing', (_request, response) => void response.json({}))
    web.get('/lazy', async (request, response) => {
      const session = await request.loadSession()
      session!.k = 'v'
      response.json({ id: session!.id, attributes: {} })
    })
  })
  const id = `${MADE_UP}-n1`
  expect(await app.call('/nothing', id)).toMatchObject({ status: 200, announced: undefined })
  expect((await app.call('/lazy', id)).announced).toMatch(/^(?!A{32})[0-9A-F]{32}-n[12]$/)
  await app.manager.stop()
  for (const nodeId of ['n1', 'n2']) {
    for (const key of [id, `validity:${id}`, `bak:${id}`, `bak:validity:${id}`]) {
      expect(await nodes.get(nodeId).get(key)).toBeUndefined()
    }
  }
  expect(nodes.log.filter((line) => /^(?:set|add) /.test(line) && line.includes(MADE_UP))).toEqual([])
})

it.each<[string, SessionManagerOptions, string, Record<string, string>]>([
  ['a header', { sessionTracking: ['header'] }, '/set?k=v', { 'X-Session-Id': `${MADE_UP}-n1` }],
  ['the path', { sessionTracking: ['url', 'cookie'] }, `/set;jsessionid=${MADE_UP}-n1?k=v`, {}],
  [
    'a cookie, where the app makes the ids',
    { genid: () => `app-${Math.random().toString(36).slice(2).padEnd(20, '0')}` },
    '/set?k=v',
    { cookie: 'JSESSIONID=my-own-favourite-id-n1' },
  ],
])('an id that no store knows is not adopted from %s', async (_where, options, path, headers) => {
  const nodes = memoryNodes(1)
  const app = await startApp({ ...nodes.options, sticky: false, ...options })
  const response = await fetch(app.url + path, { headers })
  expect(response.status).toBe(200)
  const { id } = (await response.json()) as { id: string }
  expect(id).not.toMatch(/^(?:A{32}|my-own)/)
  const writes = nodes.log.filter((line) => WRITES.test(line))
  expect(writes.length).toBeGreaterThan(0)
  for (const line of writes) expect(line).toContain(id)
})

it('ids have at least 128 bits of a CSPRNG, whatever Math.random gives', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.5)
  const app = await startApp(memoryNodes(1).options)
  const ids = await Promise.all(Array.from({ length: 300 }, async () => (await app.call('/set?k=v')).body.id))
  vi.restoreAllMocks()
  const bases = ids.map((id) => id.slice(0, 32))
  expect(new Set(bases).size).toBe(300)
  // Each of the 128 bits is 1 in about half of the ids: 300 throws are within 90 and 210 but once in 10^11 times.
  for (let bit = 0; bit < 128; bit++) {
    const ones = bases.filter((base) => (Number.parseInt(base[bit >> 2]!, 16) >> (bit & 3)) & 1).length
    expect(ones).toBeGreaterThan(90)
    expect(ones).toBeLessThan(210)
  }
  await expect(startApp({ sessionIdLength: 15 })).rejects.toThrow(/^sessionIdLength: 15 is not valid/)
})

describe.each([true, false])('a storm of requests with a made-up id, with sticky: %s', (sticky) => {
  it('costs a few operations of the store, and makes no session', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky })
    await app.call('/get')
    nodes.log.length = 0
    const id = `${MADE_UP}-n1`
    const answers = await Promise.all(Array.from({ length: 1000 }, () => app.call('/get', id)))
    for (const { status, announced } of answers) expect([status, announced]).toEqual([200, undefined])
    expect(nodes.log.filter((line) => WRITES.test(line))).toEqual([])
    // In sticky mode one request asks for all that come until it has its answer; this store answers at once.
    expect(nodes.log.length).toBeLessThanOrEqual(sticky ? 1000 : 100)
    expect(app.manager.health().activeSessions).toBe(0)
  })
})

it('what is remembered of unknown ids is bounded', () => {
  const ids = new UnknownIds()
  for (let i = 0; i < 100_000; i++) ids.add(`id${i}`)
  let known = 0
  for (let i = 0; i < 100_000; i++) if (ids.has(`id${i}`)) known++
  expect(known).toBeGreaterThan(0)
  expect(known).toBeLessThanOrEqual(2000)
})

/** Whatever could end a key, a line of a protocol, or a header. */
const HOSTILE: [string, string | Buffer][] = [
  ['a CR and LF, encoded', `${MADE_UP}-n1%0d%0aflush_all%0d%0a`],
  ['a NUL, encoded', `${MADE_UP}-n1%00`],
  ['a space, encoded', `${MADE_UP}-n1%20flush_all`],
  ['a space', `${MADE_UP}-n1 flush_all`],
  ['an encoded slash', `${MADE_UP}-n1%2f..`],
  ['multibyte text', `${MADE_UP}-n1ä€😀`],
  ['multibyte text, encoded', `${MADE_UP}-n1%C3%A4%E2%82%AC`],
  ['a full-width digit', `${'A'.repeat(31)}１-n1`],
  ['wrong UTF-8', Buffer.from([0x41, 0xff, 0xfe, 0xc3, 0x28])],
  ['a tab', `${MADE_UP}\t-n1`],
  ['251 bytes', 'A'.repeat(251)],
  ['251 bytes with a route', `${MADE_UP}-n1.${'t'.repeat(215)}`],
  ['8,000 bytes', `${MADE_UP}-n1.${'t'.repeat(8000)}`],
  ['a key of ours', `validity:${MADE_UP}-n1`],
  ['the key of a lock', `lock:${MADE_UP}-n1`],
  ['braces, that mean something to a Cluster', `{${MADE_UP}}-n1`],
  ['lower case', `${'a'.repeat(32)}-n1`],
  ['nothing', ''],
  ['a pattern', '*'],
  ['the name of a property', '__proto__'],
]

describe.each(KINDS)('no bytes of a cookie become part of a command of %s', (kind) => {
  it('what is no id of ours reaches no server, and what HTTP does not allow is answered 400', async () => {
    const store = await startStore(kind)
    const app = await startApp({
      memcachedNodes: `n1:${store.address}`,
      sticky: false,
      sessionTracking: ['cookie', 'header', 'url'],
    })
    const { announced } = await app.call('/set?k=v')
    await expect.poll(() => store.raw.get(announced!)).toBeDefined()
    const before = await settled(store.raw)
    for (const [what, value] of HOSTILE) {
      expect((await sendBytes(app, withCookie(value))).status, what).toBe(200)
      const path = `/get;jsessionid=${encodeURI(value.toString('latin1' as never))}`
      if (path.length < 6000) expect((await sendBytes(app, withCookie('', path))).status, what).toBe(200)
    }
    for (const value of ['\0', `${MADE_UP}-n1\0`, `${MADE_UP}-n1\x01`]) {
      expect((await sendBytes(app, withCookie(value))).status).toBe(400)
    }
    expect(await settled(store.raw)).toEqual(before)
    // The same client, with an id of the right form: it is asked for, so the numbers above do count.
    await sendBytes(app, withCookie(`${MADE_UP}-n1`))
    expect(await settled(store.raw)).not.toEqual(before)
    expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
  })

  it('nor does a principal, an attribute, or a path', async () => {
    const store = await startStore(kind)
    const app = await startApp({ memcachedNodes: `n1:${store.address}`, sticky: false, lockingMode: 'all' }, (web) => {
      web.get('/login/*rest', (request, response) => {
        const name = String(request.query.name)
        request.session.principal = name
        request.session[name] = name
        response.json({ id: request.session.id, attributes: {} })
      })
    })
    const names = [
      'ann\r\nflush_all\r\n',
      'ann\0',
      'ann bob',
      'x'.repeat(251),
      'änn😀',
      '*3\r\n$3\r\nSET\r\n',
      '__proto__',
    ]
    const { announced: witness } = await app.call('/set?k=v')
    for (const name of names) {
      const { status, announced } = await app.call(
        `/login/${encodeURIComponent(name)}?name=${encodeURIComponent(name)}`,
      )
      expect(status).toBe(200)
      expect((await app.manager.findByPrincipal(name)).map(({ id }) => id)).toEqual([announced])
      expect((await app.manager.get(announced!))!.principal).toBe(name)
    }
    expect((await app.call('/get', witness)).body.attributes).toEqual({ k: 'v' })
    const commands = Object.keys(await store.raw.commands()).filter((name) => /flush/.test(name))
    for (const name of commands) expect((await store.raw.commands())[name]).toBe(0)
  })
})

/** What the server has carried out for sessions: probes, connecting and our own looking count for nothing. */
async function settled(raw: { commands(): Promise<Record<string, number>> }): Promise<Record<string, number>> {
  const read = async (): Promise<Record<string, number>> => {
    const commands = await raw.commands()
    const own = /^(?:info|ping|hello|client|select|config|command|auth|ttl|cmd_meta)/
    return Object.fromEntries(Object.entries(commands).filter(([name]) => !own.test(name)))
  }
  for (let last = await read(); ; ) {
    await new Promise((resolve) => setTimeout(resolve, 60))
    const now = await read()
    if (JSON.stringify(now) === JSON.stringify(last)) return now
    last = now
  }
}
