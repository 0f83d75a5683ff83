import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { decodeSessionRecord } from '../../lib/records/session-record.ts'
import { type App, memoryNodes, startApp } from '../support/web-app.ts'
import { forged, KINDS, startStore } from './tools.ts'

const KEY = randomBytes(32).toString('hex')
const ENCRYPTIONS: [string, SessionManagerOptions][] = [
  ['without encryption', {}],
  ['with encryption', { encryption: { keys: [KEY] } }],
]

function rejectedBy(app: App): unknown[] {
  const seen: unknown[] = []
  app.manager.on('recordRejected', (event) => void seen.push(event))
  return seen
}

describe.each(ENCRYPTIONS)('two records that somebody has swapped in the store, %s,', (_how, encryption) => {
  describe.each(KINDS)('on %s', (kind) => {
    it.each<[string, SessionManagerOptions]>([
      ['sticky takeover', { sticky: true }],
      ['non-sticky', { sticky: false }],
    ])('are a miss and an event for both, never the session of the other: %s', async (_mode, mode) => {
      const store = await startStore(kind)
      const options = { memcachedNodes: `n1:${store.address}`, sessionBackupAsync: false, ...mode, ...encryption }
      const first = await startApp(options)
      const [ann, bob] = [
        (await first.call('/set?user=ann')).announced!,
        (await first.call('/set?user=bob')).announced!,
      ]
      await first.stop()
      const [annsRecord, bobsRecord] = [await store.raw.get(ann), await store.raw.get(bob)]
      await store.raw.set(ann, bobsRecord!.value, 100)
      await store.raw.set(bob, annsRecord!.value, 100)
      const second = await startApp(options)
      const rejected = rejectedBy(second)
      for (const id of [ann, bob]) {
        const { status, body } = await second.call('/get', id)
        expect(status).toBe(200)
        expect(body.attributes).toEqual({})
        expect(body.id.slice(0, 32)).not.toBe(id.slice(0, 32))
      }
      expect(rejected).toEqual(
        [ann, bob].map((id) => ({
          session: second.manager.hashOf(id),
          node: `n1:${store.address}${kind === 'Redis' ? '/0' : ''}`,
          error: expect.objectContaining({ code: 'ERR_MSM_INVALID_RECORD' }),
        })),
      )
      expect(second.manager.statistics.recordsRejected).toBe(2)
    })
  })

  it('are told in place of a session by no copy either, after the node of both has died', async () => {
    const nodes = memoryNodes(2)
    const options = { ...nodes.options, sticky: false, sessionBackupAsync: false, ...encryption }
    const app = await startApp(options)
    const [ann, bob] = await twoOnOneNode(app)
    const [home, other] = ann.endsWith('n1') ? ['n1', 'n2'] : ['n2', 'n1']
    const copy = async (id: string) => nodes.get(other!).get(`bak:${id}`)
    await expect.poll(async () => Boolean((await copy(ann)) && (await copy(bob)))).toBe(true)
    const [a, b] = [(await copy(ann))!.value, (await copy(bob))!.value]
    await nodes.get(other!).set(`bak:${ann}`, b, 100)
    await nodes.get(other!).set(`bak:${bob}`, a, 100)
    nodes.get(home!).stop()
    const rejected = rejectedBy(app)
    for (const id of [ann, bob])
      expect(['ann', 'bob']).not.toContain((await app.call('/get', id)).body.attributes?.user)
    expect(rejected.length).toBeGreaterThanOrEqual(2)
  })

  it('are told apart where the id in the record was put right, but not the attributes', async () => {
    const nodes = memoryNodes(1)
    const options = { ...nodes.options, sessionBackupAsync: false, ...encryption }
    const first = await startApp(options)
    const [ann, bob] = [(await first.call('/set?user=ann')).announced!, (await first.call('/set?user=bob')).announced!]
    await first.stop()
    const [a, b] = [(await nodes.get('n1').get(ann))!.value, (await nodes.get('n1').get(bob))!.value]
    await nodes.get('n1').set(ann, forged(a, decodeSessionRecord(b).attributes), 100)
    const { body } = await (await startApp(options)).call('/get', ann)
    // Whoever can write the store can write what he likes into a session; only a key keeps him from that.
    expect(body.attributes).toEqual('encryption' in encryption ? {} : { user: 'bob' })
  })
})

async function twoOnOneNode(app: App): Promise<[string, string]> {
  const ids: Record<string, string> = {}
  for (const user of ['ann', 'bob', 'bob', 'bob']) {
    const id = (await app.call(`/set?user=${user}`)).announced!
    const before = ids[id.slice(-2)]
    if (before !== undefined) return [before, id]
    ids[id.slice(-2)] = id
  }
  throw new Error('No two sessions on one node.')
}

describe.each(KINDS.flatMap((kind) => [true, false].map((sticky) => [kind, sticky] as const)))(
  'encryption on %s, with sticky: %s,',
  (kind, sticky) => {
    it('hides attributes; one flipped bit of them is a miss and an event; keys can be rotated', async () => {
      const store = await startStore(kind)
      const start = (keys: string[]): Promise<App> =>
        startApp({ memcachedNodes: `n1:${store.address}`, sticky, sessionBackupAsync: false, encryption: { keys } })
      const [older, newer] = [randomBytes(32).toString('hex'), randomBytes(32).toString('base64')]
      const first = await start([older])
      const id = (await first.call('/set?card=4111111111111111')).announced!
      const spoilt = (await first.call('/set?card=4111111111111111')).announced!
      await first.stop()
      const { value } = (await store.raw.get(id))!
      for (const clear of ['4111111111111111', 'card']) expect(value.includes(clear)).toBe(false)

      const whole = (await store.raw.get(spoilt))!.value
      const { attributes } = decodeSessionRecord(whole)
      for (const at of [2, 6, 18, 34, attributes.length - 1]) {
        const flipped = Buffer.from(attributes)
        flipped[at]! ^= 1
        await store.raw.set(spoilt, forged(whole, flipped), 100)
        const reader = await start([older])
        const rejected = rejectedBy(reader)
        expect((await reader.call('/get', spoilt)).body.attributes).toEqual({})
        // Another fingerprint of the key is a key that others may have: left alone, and told by the log.
        expect(rejected).toHaveLength(at === 2 ? 0 : 1)
        await reader.stop()
      }

      // Both know both keys, then the new one writes, then the old one is dropped.
      const second = await start([older, newer])
      expect((await second.call('/get', id)).body.attributes).toEqual({ card: '4111111111111111' })
      await second.stop()
      const third = await start([newer, older])
      expect((await third.call('/set?more=1', id)).status).toBe(200)
      await third.stop()
      const fourth = await start([newer])
      expect((await fourth.call('/get', id)).body.attributes).toEqual({ card: '4111111111111111', more: '1' })
      await fourth.stop()
      const stranger = await start([older])
      expect((await stranger.call('/get', id)).body.attributes).toEqual({})
      expect(await store.raw.get(id)).toBeDefined()
    })
  },
)

describe.each(KINDS)('a session that is too large for an item of %s', (kind) => {
  // The second is what the transcoder takes, and the server would not: memcached would drop the value of before.
  it.each([
    [true, 1_100_000],
    [true, 1_048_450],
    [false, 1_100_000],
    [false, 1_048_450],
  ])(
    'is refused before it is sent, and the value of before is kept, with sticky: %s, %i bytes',
    async (sticky, size) => {
      const store = await startStore(kind)
      const options = { memcachedNodes: `n1:${store.address}`, sticky, sessionBackupAsync: false }
      const app = await startApp(options, (web) => {
        web.get('/large', (request, response) => {
          request.session.large = 'x'.repeat(size)
          response.json({ id: request.session.id, attributes: {} })
        })
      })
      const failed: unknown[] = []
      app.manager.on('backupFailed', (event) => void failed.push(event))
      const id = (await app.call('/set?k=v')).announced!
      const before = (await store.raw.get(id))!.value
      const writes = async (): Promise<number> => {
        const commands = await store.raw.commands()
        return (commands.cmd_set ?? 0) + (commands.eval ?? 0) + (commands.evalsha ?? 0)
      }
      const sent = await writes()
      expect((await app.call('/large', id)).status).toBe(sticky ? 200 : 500)
      expect(failed).toEqual([
        expect.objectContaining({ error: expect.objectContaining({ code: 'ERR_MSM_INVALID_ITEM' }) }),
      ])
      expect((await store.raw.get(id))!.value).toEqual(before)
      // In non-sticky mode the use of the session is noted, which is a few bytes.
      expect(await writes()).toBeLessThanOrEqual(sent + (sticky ? 0 : 1))
      const other = await startApp(options)
      expect((await other.call('/get', id)).body.attributes).toEqual({ k: 'v' })
    },
  )
})

describe.each(KINDS)('when %s is down', (kind) => {
  it('a client with a session is answered 503, its cookie untouched, and gets no session without its login', async () => {
    const store = await startStore(kind)
    let calls = 0
    const app = await startApp(
      { memcachedNodes: `n1:${store.address}`, sticky: false, operationTimeout: 300 },
      (web) => void web.get('/count', (_request, response) => void response.json({ calls: ++calls })),
    )
    const id = (await app.call('/set?user=ann')).announced!
    expect((await app.call('/count', id)).status).toBe(200)
    await store.server.kill()
    for (const path of ['/count', '/get', '/set?cart=1', '/out', '/nowhere']) {
      const response = await fetch(app.url + path, { headers: { cookie: `JSESSIONID=${id}` } })
      expect(response.status).toBe(503)
      expect(response.headers.getSetCookie()).toEqual([])
    }
    // No handler has run, so none has taken the user for a stranger.
    expect(calls).toBe(1)
  })
})

describe.each([true, false])('the timeouts are kept by the server, with sticky: %s', (sticky) => {
  afterEach(() => void vi.useRealTimers())

  it('a cookie that a client keeps for ever ends nothing later: neither idle time nor lifetime', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval', 'performance'] })
    const nodes = memoryNodes(2)
    const options = {
      ...nodes.options,
      sticky,
      sessionBackupAsync: false,
      maxInactiveInterval: 600,
      maxLifetimeSeconds: 3600,
    }
    const app = await startApp(options)
    const [idle, used] = [(await app.call('/set?k=idle')).announced!, (await app.call('/set?k=used')).announced!]
    for (let minutes = 0; minutes < 55; minutes += 5) {
      vi.advanceTimersByTime(300_000)
      expect((await app.call('/get', used)).body.attributes).toEqual({ k: 'used' })
      if (minutes >= 5) expect([minutes, (await app.call('/get', idle)).body.attributes]).toEqual([minutes, {}])
    }
    vi.advanceTimersByTime(300_000)
    expect((await app.call('/get', used)).body.attributes).toEqual({})
    // Nor by way of another process.
    expect((await (await startApp(options)).call('/get', used)).body.attributes).toEqual({})
  })

  it('the copy that the store has for a while longer brings back no session that has expired', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval', 'performance'] })
    const options = { ...memoryNodes(2).options, sticky, sessionBackupAsync: false, maxInactiveInterval: 60 }
    const app = await startApp(options)
    const id = (await app.call('/set?k=v')).announced!
    // Asked for before it was swept, after it was, and by a job.
    vi.advanceTimersByTime(60_500)
    for (let seconds = 0; seconds < 120; seconds += 10) {
      expect((await app.call('/get', id)).body.attributes).toEqual({})
      expect((await app.call('/set?k=w', id)).body.id.slice(0, 32)).not.toBe(id.slice(0, 32))
      expect(await app.manager.get(id)).toBeUndefined()
      vi.advanceTimersByTime(10_000)
    }
  })

  it('nor does a job find a session that has expired, and was not asked for since', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] })
    const app = await startApp({
      ...memoryNodes(1).options,
      sticky,
      sessionBackupAsync: false,
      maxInactiveInterval: 60,
    })
    const id = (await app.call('/set?k=v')).announced!
    vi.advanceTimersByTime(60_500)
    expect(await app.manager.get(id)).toBeUndefined()
    expect(await app.manager.touch(id)).toBe(false)
    expect((await app.call('/get', id)).body.attributes).toEqual({})
  })
})

it('a session that another process has used meanwhile is found again by one in which it has expired', async () => {
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const options = { ...memoryNodes(1).options, sessionBackupAsync: false, maxInactiveInterval: 60 }
  const first = await startApp({ ...options, jvmRoute: 't1' })
  const second = await startApp({ ...options, jvmRoute: 't2' })
  const old = (await first.call('/set?k=v')).announced!
  vi.advanceTimersByTime(50_000)
  const { announced } = await second.call('/get', old)
  expect(announced).toMatch(/\.t2$/)
  vi.advanceTimersByTime(30_000)
  await second.stop()
  expect((await first.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
})
