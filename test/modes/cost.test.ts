import { afterEach, describe, expect, it, vi } from 'vitest'
import { jsonTranscoder } from '../../adapters/transcoder/json.ts'
import type { SessionManagerOptions, SessionTranscoder } from '../../lib/index.ts'
import { type App, memoryNodes, startApp } from '../support/web-app.ts'

interface Cost {
  readonly encoded: number
  readonly decoded: number
  /** Names of the store operations, in their order. */
  readonly operations: readonly string[]
  readonly timers: number
}

const NOTHING: Cost = { encoded: 0, decoded: 0, operations: [], timers: 0 }

afterEach(() => void vi.restoreAllMocks())

/** An app whose requests are counted; `touchAfterSeconds` keeps notes of use out of it. */
async function start(options: SessionManagerOptions) {
  const nodes = memoryNodes(1)
  const json = jsonTranscoder()
  const counts = { encoded: 0, decoded: 0 }
  const transcoder: SessionTranscoder = {
    name: 'json',
    encode(attributes) {
      counts.encoded++
      return json.encode(attributes)
    },
    decode(bytes) {
      counts.decoded++
      return json.decode(bytes)
    },
  }
  const own = { transcoder, touchAfterSeconds: 600, requestUriIgnorePattern: '.*\\.png', ...options }
  const app = await startApp({ ...nodes.options, ...own }, (web) => {
    web.get('/none', (_request, response) => void response.json({ id: '', attributes: {} }))
    web.get('/ignored.png', (_request, response) => void response.json({ id: '', attributes: {} }))
    web.get('/read', (request, response) => void response.json({ id: '', attributes: { k: request.session.k } }))
    web.get('/object', (request, response) => {
      response.json({ id: '', attributes: { n: Object.keys(request.session.object as object).length } })
    })
    web.get('/new', (request, response) => {
      request.session.object = { a: 1 }
      request.session.k = 'v'
      response.json({ id: '', attributes: {} })
    })
  })
  const idle = (): Promise<void> => expect.poll(() => app.manager.health().backlog).toBe(0)
  const costOf = async (path: string, id?: string): Promise<Cost> => {
    await idle()
    Object.assign(counts, { encoded: 0, decoded: 0 })
    nodes.log.length = 0
    const timers = vi.spyOn(globalThis, 'setTimeout')
    await app.call(path, id)
    const ofGuard = timers.mock.calls.filter(([, ms]) => ms === 100).length
    timers.mockRestore()
    await idle()
    return { ...counts, operations: nodes.log.map((line) => line.split(' ')[0]!), timers: ofGuard }
  }
  const id = (await (app as App).call('/new')).announced!
  return { costOf, id }
}

describe.each<[string, SessionManagerOptions, Record<'read' | 'object' | 'write', Cost>]>([
  [
    'sticky',
    { sessionBackupAsync: true },
    {
      read: NOTHING,
      // What the app does to an object is only seen by comparing.
      object: { ...NOTHING, encoded: 1 },
      write: { encoded: 1, decoded: 0, operations: ['set'], timers: 1 },
    },
  ],
  [
    'non-sticky, lockingMode none',
    { sticky: false, lockingMode: 'none' },
    {
      read: { encoded: 0, decoded: 1, operations: ['get', 'get'], timers: 2 },
      object: { encoded: 1, decoded: 1, operations: ['get', 'get'], timers: 2 },
      write: { encoded: 1, decoded: 1, operations: ['get', 'get', 'replace'], timers: 3 },
    },
  ],
  [
    'non-sticky, lockingMode optimistic',
    { sticky: false, lockingMode: 'optimistic' },
    {
      read: { encoded: 0, decoded: 1, operations: ['get', 'get'], timers: 2 },
      object: { encoded: 1, decoded: 1, operations: ['get', 'get'], timers: 2 },
      write: { encoded: 1, decoded: 1, operations: ['get', 'get', 'compareAndSwap'], timers: 3 },
    },
  ],
])('serialisations, store operations and timers of a request, %s:', (_name, options, costs) => {
  it.each([
    ['none', '/none'],
    ['ignored', '/ignored.png'],
  ])('a request without session, %s', async (_what, path) => {
    const { costOf } = await start({ ...options, operationTimeout: 100 })
    expect(await costOf(path)).toEqual(NOTHING)
  })

  it('an ignored request with a session', async () => {
    const { costOf, id } = await start({ ...options, operationTimeout: 100 })
    expect(await costOf('/ignored.png', id)).toEqual(NOTHING)
  })

  it.each([
    ['read', '/read'],
    ['object', '/object'],
    ['write', '/set?k=w'],
  ] as const)('%s', async (work, path) => {
    const { costOf, id } = await start({ ...options, operationTimeout: 100 })
    expect(await costOf(path, id)).toEqual(costs[work])
  })
})
