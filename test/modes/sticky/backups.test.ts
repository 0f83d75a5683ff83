import { describe, expect, it, vi } from 'vitest'
import { jsonTranscoder } from '../../../adapters/transcoder/json.ts'
import type { SessionManagerOptions } from '../../../lib/index.ts'
import { decodeSessionRecord, encodeSessionRecord } from '../../../lib/records/session-record.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

const json = jsonTranscoder()

function start(nodes: MemoryNodes, options: SessionManagerOptions = {}): Promise<App> {
  return startApp({ ...nodes.options, transcoder: 'json', ...options }, (app) => {
    app.get('/push', (request, response) => {
      request.session.list ??= []
      const list = request.session.list as number[]
      list.push(list.length)
      response.json({ id: request.session.id, attributes: request.session })
    })
    app.get('/read', (request, response) => {
      response.json({ id: request.session.id, attributes: { k: request.session.k } })
    })
    app.get('/nothing', (_request, response) => void response.json({ id: '', attributes: {} }))
    app.get('/function', (request, response) => {
      request.session.bad = () => {}
      request.session.good = 1
      response.json({ id: request.session.id, attributes: {} })
    })
  })
}

const setsOf = (nodes: MemoryNodes): number => nodes.log.filter((line) => line.startsWith('set ')).length

async function storedAttributes(nodes: MemoryNodes, id: string): Promise<unknown> {
  const item = await nodes.get('n1').get(id)
  return json.decode(decodeSessionRecord(item!.value).attributes)
}

/** Holds back the writes to a node, to be let through one by one. */
function holdWrites(nodes: MemoryNodes) {
  const client = nodes.get('n1')
  const set = client.set.bind(client)
  const held: (() => void)[] = []
  vi.spyOn(client, 'set').mockImplementation(async (...args) => {
    await new Promise<void>((resolve) => held.push(resolve))
    return set(...args)
  })
  return { held, next: () => held.shift()!() }
}

describe('a session is stored', () => {
  // testOnlySendModifiedSessions, testOnlyHashAttributesOfAccessedAttributes
  it('only if its attributes have changed', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes)
    const { announced } = await app.call('/set?k=v')
    expect(setsOf(nodes)).toBe(1)
    for (const path of ['/get', '/read', '/nothing', '/set?k=v']) await app.call(path, announced)
    expect(setsOf(nodes)).toBe(1)
    await app.call('/push', announced)
    await app.call('/push', announced)
    expect(setsOf(nodes)).toBe(3)
    expect(app.manager.statistics).toMatchObject({
      msmStatNumNoSessionAccess: 1,
      msmStatNumNoAttributesAccess: 4,
      msmStatNumRequestsWithSession: 7,
    })
  })

  it('once more, with the latest state, if it changes while a backup is under way, and never the older one last', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes)
    const { announced } = await app.call('/set?k=0')
    const { held, next } = holdWrites(nodes)
    for (let i = 1; i <= 5; i++) await app.call(`/set?k=${i}`, announced)
    expect(held).toHaveLength(1)
    next()
    await expect.poll(() => held.length).toBe(1)
    expect(await storedAttributes(nodes, announced!)).toEqual({ k: '1' })
    next()
    await expect.poll(() => app.manager.health().backlog).toBe(0)
    expect(held).toHaveLength(0)
    expect(await storedAttributes(nodes, announced!)).toEqual({ k: '5' })
    expect(app.manager.statistics.backupsCollapsed).toBe(3)
  })

  it('without making the response wait, but for a new id, if sessionBackupAsync is true', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes, { sessionBackupTimeout: 5000 })
    const { announced } = await app.call('/set?k=0')
    const { held, next } = holdWrites(nodes)
    await app.call('/set?k=1', announced)
    expect(held).toHaveLength(1)
    let isOver = false
    const created = app.call('/set?k=new').then(() => {
      isOver = true
    })
    await expect.poll(() => held.length).toBe(2)
    expect(isOver).toBe(false)
    next()
    next()
    await created
  })

  it('before the response ends, but for no longer than sessionBackupTimeout, if it is false', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes, { sessionBackupAsync: false, sessionBackupTimeout: 150 })
    const { announced } = await app.call('/set?k=0')
    const { held, next } = holdWrites(nodes)
    const begin = performance.now()
    await app.call('/set?k=1', announced)
    expect(performance.now() - begin).toBeGreaterThan(140)
    expect(held).toHaveLength(1)
    next()
    await expect.poll(() => storedAttributes(nodes, announced!)).toEqual({ k: '1' })
  })
})

// testOnlyHashAttributesOfAccessedFilteredAttributes, testOnlyFilteredAttributesAreIncludedInSessionBackup
it('sessionAttributeFilter keeps other attributes in the process, and changes of them store nothing', async () => {
  const nodes = memoryNodes(1)
  const app = await start(nodes, { sessionAttributeFilter: '^(foo|bar)$' })
  const { announced } = await app.call('/set?foo=1&baz=2')
  expect(await storedAttributes(nodes, announced!)).toEqual({ foo: '1' })
  await app.call('/set?baz=3', announced)
  expect(setsOf(nodes)).toBe(1)
  expect((await app.call('/get', announced)).body.attributes).toEqual({ foo: '1', baz: '3' })
})

it('an attribute that can not be stored is named in the log, and the others are stored', async () => {
  const nodes = memoryNodes(1)
  const errors: string[] = []
  const logger = { info: () => {}, warn: () => {}, error: (line: string) => void errors.push(line) }
  const app = await start(nodes, { logger, sessionBackupAsync: false, transcoder: 'msgpack' })
  const { announced } = await app.call('/function')
  expect(errors).toEqual([expect.stringMatching(/can't be stored and is left out, "bad"/)])
  const other = await start(nodes, { transcoder: 'msgpack' })
  expect((await other.call('/get', announced)).body.attributes).toEqual({ good: 1 })
})

it('a restarted process finds its own sessions, with one get each', async () => {
  const nodes = memoryNodes(1)
  const options = { jvmRoute: 't1', sessionBackupAsync: false }
  const first = await start(nodes, options)
  const { announced } = await first.call('/set?k=v')
  await first.stop()
  const restarted = await start(nodes, options)
  nodes.log.length = 0
  const answers = await Promise.all(Array.from({ length: 10 }, () => restarted.call('/get', announced)))
  for (const { body, announced: again } of answers) {
    expect(body.attributes).toEqual({ k: 'v' })
    expect(again).toBeUndefined()
  }
  expect(nodes.log).toEqual([`get n1 ${announced}`])
})

describe('a record that can not be read is purged, counted and told, and the client gets a new session', () => {
  const spoil: [string, (record: Buffer) => Buffer, 'recordsRejected' | 'sessionsPurged'][] = [
    ['one byte', () => Buffer.from([1]), 'recordsRejected'],
    ['nothing', () => Buffer.alloc(0), 'recordsRejected'],
    ['the first half', (record) => record.subarray(0, 40), 'recordsRejected'],
    [
      'a length that lies',
      (record) => Buffer.concat([Buffer.from([0, 2, 0x7f, 0xff]), record.subarray(4)]),
      'recordsRejected',
    ],
    ['an unknown version', (record) => Buffer.concat([Buffer.from([0, 9]), record.subarray(2)]), 'recordsRejected'],
    [
      'the record of another session',
      (record) => encodeSessionRecord({ ...decodeSessionRecord(record), id: 'X' }),
      'recordsRejected',
    ],
    [
      'attributes that are none',
      (record) => encodeSessionRecord({ ...decodeSessionRecord(record), attributes: Buffer.from('{{') }),
      'sessionsPurged',
    ],
  ]
  it.each(spoil)('%s', async (_what, make, counter) => {
    const nodes = memoryNodes(1)
    const { announced } = await (await start(nodes, { sessionBackupAsync: false })).call('/set?k=v')
    const { value } = (await nodes.get('n1').get(announced!))!
    await nodes.get('n1').set(announced!, make(value), 100)
    const app = await start(nodes)
    const told: unknown[] = []
    app.manager.on('recordRejected', (event) => void told.push(event))
    const { status, body } = await app.call('/get', announced)
    expect(status).toBe(200)
    expect(body.attributes).toEqual({})
    expect(body.id.slice(0, 32)).not.toBe(announced!.slice(0, 32))
    expect(told).toEqual([
      { session: expect.stringMatching(/^[0-9a-f]{8}$/), node: 'n1:in-memory:1', error: expect.anything() },
    ])
    expect(app.manager.statistics[counter]).toBe(1)
    await expect.poll(() => nodes.get('n1').get(announced!)).toBeUndefined()
  })
})
