import { afterEach, describe, expect, it, vi } from 'vitest'
import { decodeSessionRecord, encodeSessionRecord } from '../../../lib/records/session-record.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

afterEach(() => void vi.useRealTimers())

const next = (nodeId: string): string => (nodeId === 'n1' ? 'n2' : 'n1')

async function stored(nodes: MemoryNodes, app: App): Promise<{ id: string; own: string }> {
  const { announced } = await app.call('/set?k=v')
  const own = announced!.slice(33)
  await expect.poll(() => nodes.get(next(own)).get(`bak:validity:${announced}`)).toBeDefined()
  return { id: announced!, own }
}

describe('without its validity info', () => {
  it('a session is alive by the times in its record, and gets one again', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false })
    const { id, own } = await stored(nodes, app)
    await nodes.get(own).delete(`validity:${id}`)
    expect((await app.call('/get', id)).body.attributes).toEqual({ k: 'v' })
    await expect.poll(() => nodes.get(own).get(`validity:${id}`)).toBeDefined()
  })

  it('a session that was idle for too long by those times has expired', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false, maxInactiveInterval: 600 })
    const { id, own } = await stored(nodes, app)
    await nodes.get(own).delete(`validity:${id}`)
    await nodes.get(next(own)).delete(`bak:validity:${id}`)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 600_000 })
    expect((await app.call('/get', id)).body.attributes).toEqual({})
  })
})

it.each([-3_600_000, 3_600_000])(
  'a clock that is off by %i ms ends no session, and what was written last is served',
  async (skew) => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false, maxInactiveInterval: 600 })
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + skew })
    const { id, own } = await stored(nodes, app)
    vi.useRealTimers()
    // Now a request of a process whose clock is right, and then the copy must be the newest although it is older by its clock.
    expect((await app.call('/set?more=1', id)).body.attributes).toEqual({ k: 'v', more: '1' })
    await expect
      .poll(async () => {
        const [record, copy] = [await nodes.get(own).get(id), await nodes.get(next(own)).get(`bak:${id}`)]
        return copy!.value.equals(record!.value)
      })
      .toBe(true)
    nodes.get(own).stop()
    expect((await app.call('/get', id)).body.attributes).toEqual({ k: 'v', more: '1' })
  },
)

describe('a record that can not be read', () => {
  const spoilt: [string, (record: Buffer) => Buffer][] = [
    ['one byte', () => Buffer.from([1])],
    ['the first half', (record) => record.subarray(0, 40)],
    [
      'attributes that are none',
      (record) => encodeSessionRecord({ ...decodeSessionRecord(record), attributes: Buffer.from([0xc1]) }),
    ],
    ['the record of another session', (record) => encodeSessionRecord({ ...decodeSessionRecord(record), id: 'X' })],
  ]
  it.each(spoilt)('is replaced by its copy: %s', async (_what, make) => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false })
    const told: unknown[] = []
    app.manager.on('recordRejected', (event) => void told.push(event))
    const { id, own } = await stored(nodes, app)
    const { value } = (await nodes.get(own).get(id))!
    await nodes.get(own).set(id, make(value), 100)
    expect((await app.call('/get', id)).body).toEqual({ id, attributes: { k: 'v' } })
    expect(told).toHaveLength(1)
    expect((await nodes.get(own).get(id))!.value).toEqual(value)
  })

  it.each(spoilt)('is a miss if there is no copy, never an error: %s', async (_what, make) => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, sticky: false })
    const { announced: id } = await app.call('/set?k=v')
    const { value } = (await nodes.get('n1').get(id!))!
    await nodes.get('n1').set(id!, make(value), 100)
    const { status, body } = await app.call('/get', id)
    expect(status).toBe(200)
    expect(body.attributes).toEqual({})
    expect(body.id.slice(0, 32)).not.toBe(id!.slice(0, 32))
  })
})

it('what could not be read of a validity info does no harm', async () => {
  const nodes = memoryNodes(1)
  const app = await startApp({ ...nodes.options, sticky: false })
  const { announced: id } = await app.call('/set?k=v')
  await nodes.get('n1').set(`validity:${id}`, Buffer.from('garbage'), 100)
  expect((await app.call('/get', id)).body.attributes).toEqual({ k: 'v' })
})

it('a session whose record says that it was stored at the end of all time can be stored again', async () => {
  const nodes = memoryNodes(1)
  const app = await startApp({ ...nodes.options, sticky: false })
  const { announced: id } = await app.call('/set?k=v')
  const record = decodeSessionRecord((await nodes.get('n1').get(id!))!.value)
  await nodes.get('n1').set(id!, encodeSessionRecord({ ...record, lastBackupTime: Number.MAX_SAFE_INTEGER }), 100)
  await app.call('/set?more=1', id)
  expect((await app.call('/get', id)).body.attributes).toEqual({ k: 'v', more: '1' })
})
