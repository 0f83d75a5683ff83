import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { msgpackTranscoder } from '../../adapters/transcoder/msgpack.ts'
import { decodeSessionRecord, encodeSessionRecord } from '../../lib/records/session-record.ts'
import { decodeValidityInfo, encodeValidityInfo } from '../../lib/records/validity-info.ts'
import { type RawStore, rawMemcached, rawRedis } from '../support/raw-stores.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'
import { startApp } from '../support/web-app.ts'

const fixtures = JSON.parse(readFileSync(new URL('../fixtures/msm-records.json', import.meta.url), 'utf8')) as {
  sessions: { headerHex: string }[]
}
const INTERVAL = 600

describe.each([
  ['memcached', startMemcached, rawMemcached, ''],
  ['Redis', startRedis, rawRedis, 'redis://'],
] as const)('on two %s nodes', (_name, startServer, rawStore, scheme) => {
  let servers: Server[]
  let stores: Record<string, RawStore>
  let memcachedNodes: string
  beforeAll(async () => {
    servers = [await startServer(), await startServer()]
    stores = { n1: rawStore(servers[0]!), n2: rawStore(servers[1]!) }
    memcachedNodes = servers.map(({ port }, i) => `n${i + 1}:${scheme}127.0.0.1:${port}`).join(',')
  })
  afterAll(async () => {
    for (const server of servers) await server.stop()
  })
  const options = () =>
    ({
      memcachedNodes,
      sticky: false,
      webappVersion: '001',
      maxInactiveInterval: INTERVAL,
      lockingMode: 'all',
    }) as const

  it('stores session, validity info and lock on the node, and copies of the first two on the next', async () => {
    const lock: unknown[] = []
    const app = await startApp(options(), (express) => {
      express.get('/locked', async (request, response) => {
        lock.push(await stores[request.session.id.slice(33)]!.get(`lock:001_${request.session.id}`))
        response.json({ id: request.session.id, attributes: {} })
      })
    })
    const before = Date.now()
    const { announced } = await app.call('/set?foo=bar')
    const id = announced!
    const [own, other] = id.endsWith('n1') ? [stores.n1!, stores.n2!] : [stores.n2!, stores.n1!]
    const about = (item: { flags: number; ttl: number } | undefined, seconds: number): void => {
      expect(item?.flags).toBe(0)
      expect(item?.ttl).toBeGreaterThanOrEqual(seconds - 2)
      expect(item?.ttl).toBeLessThanOrEqual(seconds)
    }
    const session = await own.get(`001_${id}`)
    about(session, 2 * INTERVAL)
    const record = decodeSessionRecord(session!.value)
    expect(record).toMatchObject({ version: 2, id, maxInactiveInterval: INTERVAL, isValid: true, authType: 0 })
    for (const time of [record.creationTime, record.thisAccessedTime, record.lastBackupTime]) {
      expect(time).toBeGreaterThanOrEqual(before)
      expect(time).toBeLessThanOrEqual(Date.now())
    }
    expect(msgpackTranscoder().decode(record.attributes)).toEqual({ foo: 'bar' })
    const validity = await own.get(`validity:001_${id}`)
    about(validity, INTERVAL)
    expect(decodeValidityInfo(validity!.value)).toMatchObject({ maxInactiveInterval: INTERVAL })
    await expect.poll(() => other.get(`bak:001_validity:001_${id}`)).toBeDefined()
    const copy = await other.get(`bak:001_${id}`)
    about(copy, 2 * INTERVAL)
    expect(copy!.value).toEqual(session!.value)
    about(await other.get(`bak:001_validity:001_${id}`), INTERVAL)

    await app.call('/locked', id)
    expect(lock).toMatchObject([{ flags: 0, ttl: expect.any(Number) }])
    expect((lock[0] as { ttl: number }).ttl).toBeGreaterThan(2)
    expect((lock[0] as { ttl: number }).ttl).toBeLessThanOrEqual(5)
    await expect.poll(() => own.get(`lock:001_${id}`)).toBeUndefined()
  })

  it("serves a record that the original wrote, and carries what is Tomcat's in it verbatim", async () => {
    const header = fixtures.sessions.map(({ headerHex }) => decodeSessionRecord(Buffer.from(headerHex, 'hex')))
    const tomcat = header.find(({ principal, version }) => version === 2 && principal.length > 0)!
    const id = `${'0123456789ABCDEF'.repeat(2)}-n1`
    const now = Date.now()
    const planted = {
      ...tomcat,
      id,
      creationTime: now - 1000,
      thisAccessedTime: now - 500,
      maxInactiveInterval: INTERVAL,
      isValid: true,
      attributes: msgpackTranscoder().encode({ cart: ['apple'] }),
    }
    await stores.n1!.set(`001_${id}`, encodeSessionRecord(planted), 2 * INTERVAL)
    const times = { maxInactiveInterval: INTERVAL, lastAccessedTime: now - 500, thisAccessedTime: now - 500 }
    await stores.n1!.set(`validity:001_${id}`, encodeValidityInfo(times), INTERVAL)
    const app = await startApp(options())
    expect((await app.call('/get', id)).body).toEqual({ id, attributes: { cart: ['apple'] } })
    await app.call('/set?more=1', id)
    const stored = decodeSessionRecord((await stores.n1!.get(`001_${id}`))!.value)
    const { principal, savedRequest, savedPrincipal, authType } = tomcat
    expect(stored).toMatchObject({ principal, savedRequest, savedPrincipal, authType, creationTime: now - 1000 })
    expect(msgpackTranscoder().decode(stored.attributes)).toEqual({ cart: ['apple'], more: '1' })
  })

  it('notices what somebody else writes without naming a version', async () => {
    const app = await startApp({ ...options(), lockingMode: 'optimistic' }, (express) => {
      express.get('/slow', async (request, response) => {
        const { id } = request.session
        const store = stores[id.slice(33)]!
        const { value } = (await store.get(`001_${id}`))!
        const record = decodeSessionRecord(value)
        const attributes = msgpackTranscoder().encode({ ...msgpackTranscoder().decode(record.attributes), tomcat: 1 })
        await store.set(`001_${id}`, encodeSessionRecord({ ...record, attributes }), 1200)
        request.session.own = 1
        response.json({ id, attributes: {} })
      })
    })
    const { announced } = await app.call('/set?k=v')
    await app.call('/slow', announced)
    expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v', tomcat: 1, own: 1 })
  })

  it("respects a lock with the value 'locked' until it expires", async () => {
    const app = await startApp({ ...options(), lockTimeoutMs: 5000 })
    const { announced } = await app.call('/set?k=v')
    const store = stores[announced!.slice(33)]!
    await expect.poll(() => store.get(`lock:001_${announced}`)).toBeUndefined()
    await store.set(`lock:001_${announced}`, Buffer.from('locked'), 1)
    let isOver = false
    const waiting = app.call('/set?k=w', announced).then(() => {
      isOver = true
    })
    while ((await store.get(`lock:001_${announced}`))?.value.toString() === 'locked') {
      expect(isOver).toBe(false)
      await sleep(20)
    }
    await waiting
    expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'w' })
  })
})
