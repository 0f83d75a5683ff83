import { connect as connectTo } from 'node:net'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { redisStorage } from '../../../adapters/storage/redis.ts'
import type { NodeAddress, StorageClient } from '../../../lib/ports.ts'
import { clientOptions, storageClientContract, uniqueKey } from '../../contract/storage-client.ts'
import { storageClientFaultContract } from '../../contract/storage-client-faults.ts'
import { type Server, startRedis } from '../../support/servers.ts'

const REFUSED = { code: 'ERR_MSM_STORAGE_REFUSED' }
const UNAVAILABLE = { code: 'ERR_MSM_NODE_UNAVAILABLE' }
const value = Buffer.from('value')

function addressOf(host: string, port: number, credentials = '', db = 0): NodeAddress {
  const url = `redis://${credentials}${host}:${port}/${db}`
  return { nodeId: 'n1', kind: 'redis', host, port, url, label: `n1:redis://${host}:${port}/${db}` }
}

storageClientContract('The Redis client', {
  start: async () => {
    const server = await startRedis()
    return {
      factory: redisStorage,
      address: addressOf(server.host, server.port),
      restart: () => server.restart(),
      stop: () => server.stop(),
    }
  },
})

storageClientFaultContract('The Redis client', {
  startServer: () => startRedis(),
  connect: (host, port, operationTimeout) =>
    redisStorage(addressOf(host, port), { ...clientOptions, operationTimeout: operationTimeout ?? 5000 }),
})

describe('The Redis client', () => {
  let server: Server
  const opened: StorageClient[] = []
  const open = (at: { host: string; port: number }, credentials?: string, db?: number): StorageClient => {
    const client = redisStorage(addressOf(at.host, at.port, credentials, db), clientOptions)
    opened.push(client)
    return client
  }
  const withServer = async (args: string[], test: (special: Server) => Promise<void>): Promise<void> => {
    const special = await startRedis({ args })
    try {
      await test(special)
    } finally {
      await Promise.all(opened.splice(0).map((client) => client.close()))
      await special.stop()
    }
  }

  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.stop())
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((client) => client.close()))
    vi.restoreAllMocks()
  })

  it('needs no URL', async () => {
    const { host, port } = server
    const client = redisStorage({ nodeId: 'n1', kind: 'redis', host, port, label: 'n1' }, clientOptions)
    opened.push(client)
    expect(await client.get('k')).toBeUndefined()
  })

  it('connects to an IPv6 address', async () => {
    const client = open({ host: '[::ffff:127.0.0.1]', port: server.port })
    await client.set('ipv6', value, 100)
    expect((await client.get('ipv6'))?.value).toEqual(value)
  })

  it('goes on when the server has forgotten its scripts', async () => {
    const client = open(server)
    const key = uniqueKey()
    for (let round = 0; round < 3; round++) {
      await client.set(key, value, 100)
      const base = await client.get(key)
      expect(await client.compareAndSwap(key, Buffer.from('other'), 100, base?.version)).toBe('stored')
      expect(await client.deleteIfEquals(key, Buffer.from('other'))).toBe(true)
      await command(server, 'SCRIPT FLUSH')
    }
  })

  it('refuses a version that is none', async () => {
    const client = open(server)
    await expect(client.compareAndSwap('k', value, 100, undefined)).rejects.toThrow(TypeError)
  })

  it('passes on that the key holds something else than a value', async () => {
    await command(server, 'RPUSH list a b')
    const client = open(server)
    await expect(client.get('list')).rejects.toMatchObject(REFUSED)
    await expect(client.deleteIfEquals('list', value)).rejects.toThrow(/refused the operation: WRONGTYPE/)
  })

  it('passes on that the server is out of memory, and keeps what was there', async () => {
    await withServer(['--maxmemory', '3mb', '--maxmemory-policy', 'noeviction'], async (special) => {
      const client = open(special)
      await client.set('first', value, 0)
      const fill = async (): Promise<void> => {
        for (let index = 0; index < 100; index++) await client.set(`k${index}`, Buffer.alloc(100_000), 0)
      }
      await expect(fill()).rejects.toThrow(/refused the operation: OOM/)
      expect((await client.get('first'))?.value).toEqual(value)
      await client.delete('k0')
      await client.set('first', Buffer.from('other'), 0)
    })
  })

  it('tells a server that serves nobody at the moment from one that refuses', async () => {
    // A replica whose master is not there: it reads only, and when told so, not even that.
    await withServer(['--replicaof', '127.0.0.1 1'], async (replica) => {
      const client = open(replica)
      await expect(client.set('k', value, 1)).rejects.toMatchObject(UNAVAILABLE)
      await expect(client.set('k', value, 1)).rejects.toThrow(/is not available: READONLY/)
      expect(await client.get('k')).toBeUndefined()
      await command(replica, 'CONFIG SET replica-serve-stale-data no')
      await expect(client.get('k')).rejects.toMatchObject(UNAVAILABLE)
      await expect(client.probe()).rejects.toThrow(/MASTERDOWN/)
    })
  })

  it('connects anew after it was told that the server is no master any more', async () => {
    await withServer(['--replicaof', '127.0.0.1 1'], async (replica) => {
      const client = open(replica)
      await client.get('k')
      await expect(client.set('k', value, 1)).rejects.toMatchObject(UNAVAILABLE)
      await client.get('k')
      expect(await command(replica, 'INFO stats')).toMatch(/total_connections_received:[45]\r/)
      await command(replica, 'REPLICAOF NO ONE')
      await client.set('k', value, 1)
    })
  })

  it('shows no key and no value when it is told that a command is unknown', async () => {
    await withServer(['--rename-command', 'SET', 'HIDDEN'], async (special) => {
      const error = await open(special)
        .set('secret-key', Buffer.from('secret-value'), 100)
        .catch((reason: unknown) => reason)
      expect(error).toMatchObject(REFUSED)
      expect((error as Error).message).toContain("ERR unknown command 'set'")
      expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/secret|73 65 63/)
    })
  })

  describe('with a db', () => {
    it('keeps its items there', async () => {
      const key = uniqueKey()
      await open(server, '', 3).set(key, value, 100)
      expect(await open(server, '', 0).get(key)).toBeUndefined()
      const again = open(server, '', 3)
      expect((await again.get(key))?.value).toEqual(value)
      again.reset()
      expect((await again.get(key))?.value).toEqual(value)
    })

    it('that the server does not have refuses everything, and uses no other', async () => {
      const key = uniqueKey()
      const client = open(server, '', 99)
      const results = await Promise.allSettled([client.set(key, value, 100), client.get(key), client.probe()])
      for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: REFUSED })
      await expect(client.set(key, value, 100)).rejects.toThrow(/DB index is out of range/)
      expect(await open(server, '', 0).get(key)).toBeUndefined()
    })
  })

  describe('with credentials', () => {
    const PASSWORD = 'p@ss:w%rd/?#ä'

    it('logs in with a password of any characters, again after each reconnect', async () => {
      await withServer(['--requirepass', PASSWORD], async (secured) => {
        const client = open(secured, `:${encodeURIComponent(PASSWORD)}@`)
        await Promise.all([client.set('k', value, 100), client.probe()])
        client.reset()
        expect((await client.get('k'))?.value).toEqual(value)
      })
    })

    it('logs in with an @ in the password that stands as it is, and a db', async () => {
      await withServer(['--requirepass', 'p@ss@word'], async (secured) => {
        const client = open(secured, ':p@ss@word@', 2)
        await client.set('k', value, 100)
        expect((await client.get('k'))?.value).toEqual(value)
      })
    })

    it('logs in as a user, and needs no right but those for its commands', async () => {
      const rights = [
        '~*',
        '-@all',
        '+get',
        '+set',
        '+del',
        '+expire',
        '+persist',
        '+exists',
        '+eval',
        '+evalsha',
        '+ping',
      ]
      await withServer(['--user', 'app', 'on', '>us@r-secret', ...rights], async (secured) => {
        const client = open(secured, 'app:us%40r-secret@')
        await client.set('k', value, 100)
        const base = await client.get('k')
        expect(await client.compareAndSwap('k', value, 100, base?.version)).toBe('stored')
        expect(await client.touch('k', 0)).toBe(true)
        expect(await client.deleteIfEquals('k', value)).toBe(true)
        // It may not ask who the server is.
        const identity = await client.probe()
        client.reset()
        expect(await client.probe()).toBe(identity)
      })
    })

    it.each([
      ['a wrong password', ':wrong-secret@', /WRONGPASS/],
      ['an unknown user', 'nobody:wrong-secret@', /WRONGPASS/],
      ['no password', '', /NOAUTH/],
    ])('is refused with %s, and shows none', async (_what, credentials, message) => {
      await withServer(['--requirepass', PASSWORD], async (secured) => {
        const client = open(secured, credentials)
        const results = await Promise.allSettled([client.get('k'), client.set('k', value, 1), client.probe()])
        for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: REFUSED })
        expect(inspect(results, { depth: 9, showHidden: true })).not.toContain('wrong-secret')
        await expect(client.get('k')).rejects.toThrow(message)
      })
    })

    it('writes nothing to the console but a hint when the password is not needed', async () => {
      const lines: unknown[] = []
      for (const method of ['log', 'info', 'warn', 'error'] as const) {
        vi.spyOn(console, method).mockImplementation((...args) => lines.push(args))
      }
      await open(server, ':needless-secret@').get('k')
      expect(inspect(lines)).not.toContain('needless-secret')
    })
  })
})

/** Runs an inline command, past the client under test. */
function command(server: Server, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(server.port, server.host, () => socket.write(`${line}\r\n`))
    socket.once('error', reject)
    socket.once('data', (data) => {
      socket.destroy()
      resolve(data.toString())
    })
  })
}
