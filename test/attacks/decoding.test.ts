import { createRequire } from 'node:module'
import { describe, expect, it, onTestFinished } from 'vitest'
import { jsonTranscoder } from '../../adapters/transcoder/json.ts'
import { msgpackTranscoder } from '../../adapters/transcoder/msgpack.ts'
import { SessionManagerError } from '../../lib/errors.ts'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { decodeSessionRecord, encodeSessionRecord } from '../../lib/records/session-record.ts'
import { type App, memoryNodes, startApp } from '../support/web-app.ts'
import { forged } from './tools.ts'

const { Packr } = createRequire(import.meta.url)('msgpackr') as {
  Packr: new (options: object) => { pack(value: unknown): Buffer }
}
/** As msgpackr writes what it builds objects of when it reads. */
const msgpackr = new Packr({ structuredClone: true, useRecords: false })

const text = (value: string): Buffer => Buffer.concat([Buffer.from([0xa0 | value.length]), Buffer.from(value)])
/** A map of MessagePack with these keys and values, written by hand: no writer would write these. */
const map = (...pairs: [string, Buffer][]): Buffer =>
  Buffer.concat([Buffer.from([0x80 | pairs.length]), ...pairs.flatMap(([key, value]) => [text(key), value])])
const list = (...items: Buffer[]): Buffer => Buffer.concat([Buffer.from([0x90 | items.length]), ...items])
const YES = Buffer.from([0xc3])
/** The extension for a Map, and that for a Set, as the transcoder writes them. */
const [mapOf, setOf] = ['m', 's'].map((kind) => {
  const bytes = msgpackTranscoder().encode({ k: kind === 'm' ? new Map() : new Set() })
  return (body: Buffer): Buffer => Buffer.concat([bytes.subarray(3, -1), body])
}) as [(body: Buffer) => Buffer, (body: Buffer) => Buffer]

/** What somebody who can write the store puts in place of the attributes of a session. */
async function plant(options: SessionManagerOptions, attributes: Buffer): Promise<{ app: App; id: string }> {
  const nodes = memoryNodes(1)
  const shared = { ...nodes.options, sessionBackupAsync: false, ...options }
  const writer = await startApp(shared)
  const { announced } = await writer.call('/set?k=v')
  await writer.stop()
  const { value } = (await nodes.get('n1').get(announced!))!
  await nodes.get('n1').set(announced!, forged(value, attributes), 100)
  const app = await startApp(shared, (web) => {
    web.get('/admin', (request, response) => {
      const { session } = request
      const user = Object.assign({}, session.user) as { admin?: unknown }
      const merged = Object.assign({}, { ...session }) as { admin?: unknown }
      const seen = [session.admin, user.admin, merged.admin, ({} as { admin?: unknown }).admin]
      response.json({
        id: session.id,
        attributes: { admin: seen.filter((value) => value !== undefined), all: session },
      })
    })
  })
  return { app, id: announced! }
}

describe.each([true, false])('what somebody has written into the store, with sticky: %s', (sticky) => {
  const evil = '{"admin":true}'
  it.each([
    ['json', `{"__proto__":${evil},"constructor":{"prototype":${evil}},"k":1}`],
    ['json', `{"user":{"__proto__":${evil},"constructor":{"prototype":${evil}},"k":1},"k":1}`],
    ['json', `{"list":[[{"__proto__":${evil}}]],"user":{"a":{"b":[{"__proto__":${evil}}]}},"k":1}`],
    ['json', `{"\\u005f_proto__":${evil},"user":{"\\u005f\\u005fproto__":${evil}},"k":1}`],
    ['msgpack', map(['__proto__', map(['admin', YES])], ['constructor', map(['admin', YES])], ['k', YES])],
    ['msgpack', map(['user', map(['__proto__', map(['admin', YES])], ['k', YES])], ['k', YES])],
    ['msgpack', map(['list', list(list(map(['__proto__', map(['admin', YES])])))], ['k', YES])],
    ['msgpack', map(['user', map(['a', mapOf(map(['x', map(['__proto__', map(['admin', YES])])]))])], ['k', YES])],
    ['msgpack', map(['user', map(['a', setOf(list(map(['__proto__', map(['admin', YES])])))])], ['k', YES])],
  ] as const)('changes no prototype and makes nobody an admin: %s %j', async (transcoder, attributes) => {
    const { app, id } = await plant({ sticky, transcoder }, Buffer.from(attributes))
    const { status, body } = await app.call('/admin', id)
    expect(status).toBe(200)
    expect(body.id).toBe(id)
    expect(body.attributes.admin).toEqual([])
    expect(JSON.stringify(body.attributes.all)).not.toMatch(/admin|__proto__|constructor/)
    expect(body.attributes.all).toHaveProperty('k')
    expect(({} as Record<string, unknown>).admin).toBeUndefined()
  })

  it.each<[string, 'json' | 'msgpack', Buffer]>([
    ['a RegExp that takes for ever', 'msgpack', msgpackr.pack({ k: /^(a+)+$/ })],
    ['an Error', 'msgpack', msgpackr.pack({ k: new Error('x') })],
    ['a number as large as an array claims to be', 'msgpack', map(['k', Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])])],
    ['a string that claims 4 GB', 'msgpack', map(['k', Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff])])],
    ['an extension of no known type', 'msgpack', map(['k', Buffer.from([0xd4, 0x45, 0])])],
    ['a structure of records', 'msgpack', map(['k', Buffer.from([0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 1])])],
    ['arrays within arrays', 'msgpack', map(['k', Buffer.alloc(500_000, 0x91)])],
    ['arrays within arrays', 'json', Buffer.from(`{"k":${'['.repeat(200_000)}${']'.repeat(200_000)}}`)],
    ['objects within objects', 'json', Buffer.from(`{"k":${'{"k":'.repeat(100_000)}1${'}'.repeat(100_000)}}`)],
    ['no object', 'json', Buffer.from('[1,2]')],
    ['the name of a class', 'json', Buffer.from('{"k":')],
    ['a compressed bomb', 'json', Buffer.from([0xc1, 1, 0xff, 0xff, 0xff])],
  ])('is a miss, told by an event, and no harm: %s as %s', async (_what, transcoder, attributes) => {
    const { app, id } = await plant({ sticky, transcoder }, attributes)
    const rejected: unknown[] = []
    app.manager.on('recordRejected', (event) => void rejected.push(event))
    const start = performance.now()
    const { status, body } = await app.call('/get', id)
    expect(performance.now() - start).toBeLessThan(5000)
    expect(status).toBe(200)
    expect(body.id).not.toContain(id.slice(0, 32))
    expect(body.attributes).toEqual({})
    expect(rejected).toEqual([{ session: app.manager.hashOf(id), node: 'n1:in-memory:1', error: expect.anything() }])
  })

  it('becomes no header: a cookie of its own with a line break', async () => {
    const cookie = { path: '/\r\nSet-Cookie: admin=1', domain: 'a.example\r\nX-Evil: 1' }
    const { app, id } = await plant(
      { sticky, transcoder: 'json', rolling: true },
      Buffer.from(JSON.stringify({ cookie })),
    )
    const response = await fetch(`${app.url}/get`, { headers: { cookie: `JSESSIONID=${id}` } })
    expect(response.headers.get('x-evil')).toBeNull()
    expect(response.headers.getSetCookie().join()).not.toContain('admin')
  })
})

it('attributes of any name that a client chooses are attributes, and change no method and no prototype', async () => {
  const app = await startApp(memoryNodes(1).options, (web) => {
    web.get('/name', (request, response) => {
      const { name } = request.query as { name: string }
      try {
        request.session[name] = 'mine'
      } catch {
        // A name of the API.
      }
      Object.assign(request.session, JSON.parse('{"__proto__":{"admin":true},"constructor":"mine"}'))
      response.json({ id: request.session.id, attributes: { admin: request.session.admin ?? null } })
    })
  })
  for (const name of [
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'destroy',
    'id',
    'save',
    'regenerate',
  ]) {
    const { body, announced } = await app.call(`/name?name=${name}`)
    expect(body).toEqual({ id: announced, attributes: { admin: null } })
    expect((await app.call('/out', announced)).status).toBe(200)
    expect((await app.call('/get', announced)).body.attributes).toEqual({})
  }
  expect(({} as Record<string, unknown>).admin).toBeUndefined()
})

/** mulberry32: the same payloads in every run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

it.each([
  ['msgpack', msgpackTranscoder()],
  ['json', jsonTranscoder()],
] as const)(
  '500,000 records with bytes changed, as %s: each is read or refused, and none crashes',
  (_name, transcoder) => {
    const attributes = transcoder.encode({
      user: { name: 'ann', roles: ['a', 'b'] },
      n: 1.5,
      text: 'x'.repeat(40),
      t: true,
    })
    const record = encodeSessionRecord({
      version: 2,
      creationTime: 1,
      lastAccessedTime: 2,
      maxInactiveInterval: 60,
      isNew: false,
      isValid: true,
      thisAccessedTime: 3,
      lastBackupTime: 4,
      id: `${'A'.repeat(32)}-n1`,
      authType: 0,
      principal: Buffer.alloc(0),
      savedRequest: Buffer.alloc(0),
      savedPrincipal: Buffer.alloc(0),
      attributes,
    })
    const random = randomNumbers(20_480_484)
    // Nobody looks at where these errors come from, and finding out takes most of the time.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    onTestFinished(() => {
      Error.stackTraceLimit = stackTraceLimit
    })
    const own = record.length - attributes.length
    let [read, refused] = [0, 0]
    for (let i = 0; i < 500_000; i++) {
      const bytes = Buffer.from(record)
      // Half of them change the header, half what follows it; one to three bytes each.
      for (let changes = 1 + random(3); changes > 0; changes--) {
        bytes[i % 2 === 0 ? random(own) : own + random(attributes.length)] = random(256)
      }
      try {
        const found = transcoder.decode(
          decodeSessionRecord(random(20) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes).attributes,
        )
        if (Object.getPrototypeOf(found) !== Object.prototype) throw new TypeError('not a plain object')
        read++
      } catch (error) {
        if (!(error instanceof SessionManagerError) || !/^ERR_MSM_(?:INVALID_RECORD|DECODE)$/.test(error.code))
          throw error
        refused++
      }
    }
    expect(read).toBeGreaterThan(1000)
    expect(refused).toBeGreaterThan(1000)
    expect(({} as Record<string, unknown>).admin).toBeUndefined()
  },
)
