import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectTo, createServer, type Server as NetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { MemcachedStorageClient, memcachedStorage } from '../../../adapters/storage/memcached.ts'
import type { NodeAddress, StorageClient, StorageClientOptions } from '../../../lib/ports.ts'
import { clientOptions, storageClientContract, uniqueKey } from '../../contract/storage-client.ts'
import { storageClientFaultContract } from '../../contract/storage-client-faults.ts'
import { type Server, startMemcached } from '../../support/servers.ts'

const value = Buffer.from('value')
const REFUSED = { code: 'ERR_MSM_STORAGE_REFUSED' }

function addressOf(host: string, port: number): NodeAddress {
  return { nodeId: 'n1', kind: 'memcached', host, port, label: `n1:${host}:${port}` }
}

function connect(host: string, port: number, options: Partial<StorageClientOptions> = {}): StorageClient {
  return memcachedStorage(addressOf(host, port), { ...clientOptions, ...options })
}

storageClientContract('The memcached client', {
  start: async () => {
    const server = await startMemcached()
    return {
      factory: memcachedStorage,
      address: addressOf(server.host, server.port),
      restart: () => server.restart(),
      stop: () => server.stop(),
    }
  },
})

storageClientFaultContract('The memcached client', {
  startServer: () => startMemcached(),
  connect: (host, port, operationTimeout = 5000) => connect(host, port, { operationTimeout }),
})

describe('The memcached client', () => {
  let server: Server
  const opened: StorageClient[] = []
  const open = (host: string, port: number, options: Partial<StorageClientOptions> = {}): StorageClient => {
    const client = connect(host, port, options)
    opened.push(client)
    return client
  }
  const withServer = async (args: string[], test: (client: StorageClient) => Promise<void>): Promise<void> => {
    const special = await startMemcached({ args })
    try {
      await test(open(special.host, special.port))
    } finally {
      await special.stop()
    }
  }

  beforeAll(async () => {
    server = await startMemcached()
  })
  afterAll(() => server.stop())
  afterEach(() => Promise.all(opened.splice(0).map((client) => client.close())))

  it('connects to an IPv6 address', async () => {
    const client = open('::ffff:127.0.0.1', server.port)
    await client.set('ipv6', value, 100)
    expect((await client.get('ipv6'))?.value).toEqual(value)
  })

  it('stores with flags 0, and what another client stored with flags is read as it is', async () => {
    const client = open(server.host, server.port)
    await client.set('flags', value, 100)
    expect(await textProtocol(server, 'get flags\r\n')).toBe('VALUE flags 0 5\r\nvalue\r\nEND\r\n')
    await textProtocol(server, 'set flagged 42 0 5\r\nvalue\r\n')
    expect((await client.get('flagged'))?.value.toString()).toBe('value')
  })

  it('does not give up a call because other calls come after it', async () => {
    // memjs starts its only timer again with every operation; what it waits for then is never given up, or all of it is.
    const client = open(server.host, server.port, { operationTimeout: 100 })
    await client.get('k')
    await server.pause()
    const stuck = client.get('k')
    setTimeout(() => client.reset(), 100)
    const others = setInterval(() => client.get('k').catch(() => {}), 20)
    await expect(stuck).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
    clearInterval(others)
    server.resume()
    expect(await client.get('k')).toBeUndefined()
  })

  it('refuses a value that is too large for the server, and goes on', async () => {
    const client = open(server.host, server.port)
    await expect(client.set('large', Buffer.alloc(2_000_000), 100)).rejects.toMatchObject(REFUSED)
    await expect(client.add('large', Buffer.alloc(2_000_000), 100)).rejects.toThrow(/larger than an item may be/)
    await client.set('large', value, 100)
    expect((await client.get('large'))?.value).toEqual(value)
  })

  it('passes on that the server is out of memory', async () => {
    await withServer(['-M', '-m', '4'], async (client) => {
      const fill = async (): Promise<void> => {
        for (let index = 0; index < 200; index++) await client.set(`k${index}`, Buffer.alloc(100_000), 0)
      }
      await expect(fill()).rejects.toThrow(/refused the operation: out of memory/)
      expect((await client.get('k0'))?.value).toHaveLength(100_000)
    })
  })

  it('swaps and deletes nothing on a server that keeps no versions, rather than anything', async () => {
    await withServer(['-C'], async (client) => {
      await client.set('k', value, 100)
      const item = await client.get('k')
      await expect(client.compareAndSwap('k', Buffer.from('other'), 100, item?.version)).rejects.toMatchObject(REFUSED)
      await expect(client.deleteIfEquals('k', value)).rejects.toThrow(/without the option -C/)
      expect((await client.get('k'))?.value).toEqual(value)
    })
  })

  it('does not take the version of something else for one of its own', async () => {
    const client = open(server.host, server.port)
    const key = uniqueKey()
    await client.set(key, value, 100)
    for (const version of [undefined, null, 1, {}, Buffer.alloc(8)]) {
      expect(await client.compareAndSwap(key, Buffer.from('other'), 100, version)).toBe('conflict')
    }
    expect((await client.get(key))?.value).toEqual(value)
  })

  it('leaves the options that it is given as they are', async () => {
    const options = Object.freeze({ ...clientOptions })
    const client = new MemcachedStorageClient(Object.freeze(addressOf(server.host, server.port)), options)
    opened.push(client)
    await client.set('k', value, 100)
    expect(options).toEqual(clientOptions)
  })

  describe('on a server that asks for user name and password', () => {
    let secured: Server
    let authentication: NetServer
    let directory: string

    // memcached asks a daemon, over this socket; four strings, each with its length before it: user, password, …
    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'sasl-'))
      const path = join(directory, 'mux')
      authentication = createServer((socket) => {
        socket.on('data', (data) => {
          const user = data.subarray(2, 2 + data.readUInt16BE(0))
          const rest = data.subarray(2 + user.length)
          const password = rest.subarray(2, 2 + rest.readUInt16BE(0))
          socket.end(`${user}/${password}` === 'user/pass:w@rd' ? '\0\x02OK' : '\0\x02NO')
        })
      })
      await new Promise<void>((resolve) => authentication.listen(path, resolve))
      const config = `mech_list: plain\npwcheck_method: saslauthd\nsaslauthd_path: ${path}\n`
      writeFileSync(join(directory, 'memcached.conf'), config)
      const asRoot = process.getuid?.() === 0 ? ['-u', 'root'] : []
      secured = await startMemcached({ args: ['-S', ...asRoot], env: { SASL_CONF_PATH: directory } })
    })
    afterAll(async () => {
      await secured.stop()
      await new Promise((resolve) => authentication.close(resolve))
      rmSync(directory, { recursive: true, force: true })
    })

    it('logs in, again after each reconnect', async () => {
      const client = open(secured.host, secured.port, { username: 'user', password: 'pass:w@rd' })
      await Promise.all([client.set('k', value, 100), client.probe()])
      client.reset()
      expect((await client.get('k'))?.value).toEqual(value)
    })

    it.each([
      ['with a wrong password', { username: 'user', password: 'wrong-secret' }],
      ['without credentials', {}],
    ])('is refused %s, at once, and shows no password', async (_how, credentials) => {
      const client = open(secured.host, secured.port, credentials)
      for (const operation of [() => client.get('k'), () => client.set('k', value, 1), () => client.probe()]) {
        const error = await operation().catch((reason: unknown) => reason)
        expect(error).toMatchObject(REFUSED)
        expect((error as Error).message).toContain('authentication failed')
        expect(inspect(error, { depth: 9 })).not.toContain('wrong-secret')
      }
    })
  })
})

function textProtocol(server: Server, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(server.port, server.host, () => socket.write(request))
    socket.once('error', reject)
    socket.once('data', (data) => {
      socket.destroy()
      resolve(data.toString())
    })
  })
}
