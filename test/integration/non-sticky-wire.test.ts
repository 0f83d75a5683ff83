import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import type { SessionManagerOptions, StorageClient } from '../../lib/index.ts'
import { type RawStore, rawMemcached, rawRedis } from '../support/raw-stores.ts'
import { startMemcached, startRedis } from '../support/servers.ts'
import { type App, startApp } from '../support/web-app.ts'

const OPTIONS: SessionManagerOptions = {
  sticky: false,
  requestUriIgnorePattern: '.*\\.png',
  touchAfterSeconds: 0,
}

/** Requests that use their session in all the ways there are. */
function start(options: SessionManagerOptions): Promise<App> {
  return startApp({ ...OPTIONS, ...options }, (app) => {
    app.get('/ignored.png', (_request, response) => void response.json({}))
    app.get('/untouched', (_request, response) => void response.json({}))
  })
}

/** Commands that read or change items. */
const ITEM_COMMAND = /^(?:cmd_(?:get|set|touch)|delete_\w+|get|mget|set|expire|del|evalsha|eval)$/

async function countOf(stores: RawStore[]): Promise<Record<string, number>[]> {
  const commands = await Promise.all(stores.map((store) => store.commands()))
  return commands.map((counts) =>
    Object.fromEntries(Object.entries(counts).filter(([name]) => ITEM_COMMAND.test(name))),
  )
}

/** What each server is asked from now until it is quiet again, by kind of command. */
async function costOf(stores: RawStore[], request: () => Promise<unknown>): Promise<Record<string, number>[]> {
  const before = await countOf(stores)
  await request()
  let after = await countOf(stores)
  for (let quiet = 0; quiet < 3; quiet++) {
    await sleep(30)
    const now = await countOf(stores)
    if (JSON.stringify(now) !== JSON.stringify(after)) quiet = 0
    after = now
  }
  return after.map((counts, i) => {
    const added = Object.entries(counts).map(([name, count]) => [name, count - (before[i]![name] ?? 0)] as const)
    return Object.fromEntries(added.filter(([, count]) => count > 0))
  })
}

describe('what a request costs, counted on the server', () => {
  // testNoBackupWhenRunningASingleMemcachedOnly, testSessionNotLoadedForNoSessionAccess
  it('one memcached node: 2 sets for a new session, 2 gets for a read, 1 set more for a change', async () => {
    const server = await startMemcached()
    onTestFinished(() => server.stop())
    const stores = [rawMemcached(server)]
    const app = await start({ memcachedNodes: `n1:127.0.0.1:${server.port}` })
    let id = ''
    const create = async (): Promise<void> => {
      id = (await app.call('/set?k=v')).announced!
    }
    expect(await costOf(stores, create)).toEqual([{ cmd_set: 2 }])
    // The first read of a part of the idle time may renew the expiry of the record.
    await app.call('/get', id)
    expect(await costOf(stores, () => app.call('/get', id))).toEqual([{ cmd_get: 2, cmd_set: 1 }])
    expect(await costOf(stores, () => app.call('/set?k=w', id))).toEqual([{ cmd_get: 2, cmd_set: 2 }])
    expect(await costOf(stores, () => app.call('/ignored.png', id))).toEqual([{}])
  })

  it('one Redis: 2 GET for a read, one script or SET more for a change', async () => {
    const server = await startRedis()
    onTestFinished(() => server.stop())
    const stores = [rawRedis(server)]
    const app = await start({ memcachedNodes: `redis://127.0.0.1:${server.port}` })
    let id = ''
    const create = async (): Promise<void> => {
      id = (await app.call('/set?k=v')).announced!
    }
    expect(await costOf(stores, create)).toEqual([{ set: 2 }])
    await app.call('/get', id)
    expect(await costOf(stores, () => app.call('/get', id))).toEqual([{ mget: 1, set: 1 }])
    await app.call('/set?k=w', id)
    // The script's own GET and SET are counted as well.
    expect(await costOf(stores, () => app.call('/set?k=x', id))).toEqual([{ evalsha: 1, get: 1, mget: 1, set: 2 }])
    expect(await costOf(stores, () => app.call('/ignored.png', id))).toEqual([{}])
  })

  it.each([
    ['memcached', startMemcached, rawMemcached, ''],
    ['Redis', startRedis, rawRedis, 'redis://'],
  ] as const)(
    'a second node (%s): 2 sets for what is new or changed, 1 for a read',
    async (kind, boot, raw, scheme) => {
      const servers = [await boot(), await boot()]
      for (const server of servers) onTestFinished(() => server.stop())
      const nodes = servers.map(({ port }, i) => `n${i + 1}:${scheme}127.0.0.1:${port}`)
      const app = await start({ memcachedNodes: nodes.join(',') })
      const stores = servers.map(raw)
      const sets = kind === 'memcached' ? 'cmd_set' : 'set'
      let id = ''
      const create = async (): Promise<void> => {
        id = (await app.call('/set?k=v')).announced!
      }
      expect(await costOf(stores, create)).toEqual([{ [sets]: 2 }, { [sets]: 2 }])
      /** What the node with the copies is asked, whichever that is. */
      const ofCopies = async (path: string): Promise<unknown> =>
        (await costOf(stores, () => app.call(path, id)))[id.endsWith('n1') ? 1 : 0]
      await ofCopies('/get')
      expect(await ofCopies('/get')).toEqual({ [sets]: 1 })
      expect(await ofCopies('/set?k=w')).toEqual({ [sets]: 2 })
      expect(await costOf(stores, () => app.call('/ignored.png', id))).toEqual([{}, {}])
    },
  )

  it('a request that leaves its session alone, with lazy: 1 get and 1 set', async () => {
    const server = await startMemcached()
    onTestFinished(() => server.stop())
    const memcachedNodes = `n1:127.0.0.1:${server.port}`
    const eager = await start({ memcachedNodes })
    const id = (await eager.call('/set?k=v')).announced!
    const app = await start({ memcachedNodes, lazy: true })
    const stores = [rawMemcached(server)]
    await costOf(stores, () => app.call('/untouched', id))
    expect(await costOf(stores, () => app.call('/untouched', id))).toEqual([{ cmd_get: 1, cmd_set: 1 }])
    expect(await costOf(stores, () => app.call('/ignored.png', id))).toEqual([{}])
  })
})

describe('how long a response waits, in round trips', () => {
  const DELAY = 100

  /** Nodes that take a while for each operation. */
  function slowNodes(count: number): SessionManagerOptions {
    const nodes = new Map(Array.from({ length: count }, (_, i) => [`n${i + 1}`, new MemoryStorageClient()]))
    const slow = (node: MemoryStorageClient): StorageClient =>
      new Proxy(node, {
        get(_target, method: keyof MemoryStorageClient) {
          if (!(method in node)) return undefined
          const operation = node[method] as (...args: unknown[]) => unknown
          if (method === 'close') return async () => {}
          return async (...args: unknown[]) => {
            await sleep(DELAY)
            return operation.apply(node, args)
          }
        },
      })
    return {
      memcachedNodes: [...nodes.keys()].map((id) => `${id}:in-memory:1`).join(','),
      storage: (address) => slow(nodes.get(address.nodeId!)!),
      operationTimeout: 5000,
    }
  }

  async function roundTrips(request: () => Promise<unknown>): Promise<number> {
    const start = performance.now()
    await request()
    return Math.floor((performance.now() - start) / DELAY)
  }

  it.each([1, 2])('1 for a read and 2 for a change, without a lock, on %i nodes', async (count) => {
    const app = await start(slowNodes(count))
    const id = (await app.call('/set?k=v')).announced!
    expect(await roundTrips(() => app.call('/get', id))).toBe(1)
    expect(await roundTrips(() => app.call('/set?k=w', id))).toBe(2)
    expect(await roundTrips(() => app.call('/ignored.png', id))).toBe(0)
  })

  it('1 more for taking a lock, and none for giving it back', async () => {
    const app = await start({ ...slowNodes(1), lockingMode: 'all' })
    const id = (await app.call('/set?k=v')).announced!
    expect(await roundTrips(() => app.call('/get', id))).toBe(2)
    await sleep(3 * DELAY)
    expect(await roundTrips(() => app.call('/set?k=w', id))).toBe(3)
  })
})
