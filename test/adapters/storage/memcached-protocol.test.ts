import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { memcachedStorage } from '../../../adapters/storage/memcached.ts'
import { MemcachedConnection, OPCODE } from '../../../adapters/storage/memcached-connection.ts'
import type { StorageClient, StorageClientOptions } from '../../../lib/ports.ts'
import { clientOptions } from '../../contract/storage-client.ts'
import { freePort } from '../../support/servers.ts'

const EMPTY = Buffer.alloc(0)
const LIST_MECHANISMS = 0x20
const AUTHENTICATE = 0x21

interface Request {
  readonly opcode: number
  readonly sequence: number
  readonly extras: Buffer
  readonly key: string
  readonly value: string
}

/** A server that says what a real one can't be made to say, and keeps what it was asked. */
class ScriptedServer {
  readonly requests: Request[] = []
  /** The replies to a request, as [status, key, value]; a miss by default. */
  reply: (request: Request) => [number, string, string][] = () => [[1, '', '']]
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket)
      let received = EMPTY
      socket.on('error', () => {})
      socket.on('data', (data) => {
        received = Buffer.concat([received, data])
        while (received.length >= 24 && received.length >= 24 + received.readUInt32BE(8)) {
          const length = 24 + received.readUInt32BE(8)
          this.#answer(received.subarray(0, length), socket)
          received = received.subarray(length)
        }
      })
    })
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve))
  }

  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.disconnect()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #answer(bytes: Buffer, socket: Socket): void {
    const keyStart = 24 + bytes.readUInt8(4)
    const valueStart = keyStart + bytes.readUInt16BE(2)
    const request = {
      opcode: bytes.readUInt8(1),
      sequence: bytes.readUInt32BE(12),
      extras: bytes.subarray(24, keyStart),
      key: bytes.subarray(keyStart, valueStart).toString(),
      value: bytes.subarray(valueStart).toString(),
    }
    this.requests.push(request)
    for (const [status, key, value] of this.reply(request)) {
      const header = Buffer.alloc(24)
      header.writeUInt8(0x81, 0)
      header.writeUInt8(request.opcode, 1)
      header.writeUInt16BE(key.length, 2)
      header.writeUInt16BE(status, 6)
      header.writeUInt32BE(key.length + value.length, 8)
      header.writeUInt32BE(request.sequence, 12)
      socket.write(Buffer.concat([header, Buffer.from(key + value)]))
    }
  }
}

describe('The memcached client, byte for byte,', () => {
  let server: ScriptedServer
  let port: number
  let client: StorageClient
  const open = (options: Partial<StorageClientOptions> = {}): StorageClient => {
    const address = { nodeId: 'n1', kind: 'memcached', host: '127.0.0.1', port, label: 'n1:127.0.0.1' } as const
    client = memcachedStorage(address, { ...clientOptions, ...options })
    return client
  }
  const opcodes = (): number[] => server.requests.map((request) => request.opcode)

  beforeEach(async () => {
    server = new ScriptedServer()
    port = await freePort()
    await server.listen(port)
  })
  afterEach(async () => {
    await client.close()
    await server.close()
    vi.unstubAllEnvs()
  })

  it('logs in with PLAIN before anything else', async () => {
    server.reply = ({ opcode }) => [opcode === OPCODE.get ? [1, '', ''] : [0, '', 'PLAIN']]
    await open({ username: 'us er', password: 'pä:ss@' }).get('k')
    expect(opcodes()).toEqual([LIST_MECHANISMS, AUTHENTICATE, OPCODE.get])
    expect(server.requests[1]).toMatchObject({ key: 'PLAIN', value: '\0us er\0pä:ss@' })
  })

  it('does not log in without credentials, whatever is in the environment', async () => {
    for (const owner of ['MEMCACHIER', 'MEMCACHE']) {
      vi.stubEnv(`${owner}_USERNAME`, 'somebody')
      vi.stubEnv(`${owner}_PASSWORD`, 'else')
      vi.stubEnv(`${owner}_SERVERS`, '127.0.0.1:1')
    }
    await open().get('k')
    await client.close()
    await open({ username: 'only-a-name' }).get('k')
    expect(opcodes()).toEqual([OPCODE.get, OPCODE.get])
  })

  it('goes on with a server that knows no login', async () => {
    server.reply = ({ opcode }) => [[opcode === OPCODE.get ? 1 : 0x81, '', '']]
    expect(await open({ username: 'user', password: 'secret' }).get('k')).toBeUndefined()
  })

  it.each([
    [0x04, 'invalid arguments'],
    [0x20, 'authentication failed'],
    [0x82, 'out of memory'],
    [0x86, 'status 0x86'],
  ])('refuses every operation that is answered with status %s', async (status, reason) => {
    server.reply = () => [[status, '', 'Something']]
    open()
    const value = Buffer.from('v')
    const operations = [client.get('k'), client.set('k', value, 1), client.add('k', value, 1), client.touch('k', 1)]
    operations.push(client.replace('k', value, 1), client.delete('k'))
    for (const result of await Promise.allSettled<unknown>(operations)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_MSM_STORAGE_REFUSED' } })
      expect((result as PromiseRejectedResult).reason.message).toContain(
        `n1:127.0.0.1 refused the operation: ${reason}`,
      )
    }
  })

  it('takes more than 30 days for a date, and no more than fits', async () => {
    const now = Math.floor(Date.now() / 1000)
    server.reply = () => [[0, '', '']]
    open()
    for (const ttl of [1, 2_592_000, 2_592_001, Number.MAX_SAFE_INTEGER]) await client.touch('k', ttl)
    const sent = server.requests.map((request) => request.extras.readUInt32BE(0))
    expect(sent.slice(0, 2)).toEqual([1, 2_592_000])
    expect(sent[2]).toBeGreaterThanOrEqual(now + 2_592_001)
    expect(sent[2]).toBeLessThan(now + 2_592_001 + 60)
    expect(sent[3]).toBe(0xffff_ffff)
    await client.set('k', EMPTY, 7)
    expect(server.requests.at(-1)?.extras).toEqual(Buffer.from([0, 0, 0, 0, 0, 0, 0, 7]))
  })

  it('numbers its requests within 31 bits, and starts again after the last one', async () => {
    open()
    const address = { host: '127.0.0.1', port, label: 'n1', username: undefined, password: undefined, timeout: 5000 }
    const connection = new MemcachedConnection(address, () => {}, 0x7fff_fffd)
    const read = (reply: { header: { status: number } }): number => reply.header.status
    const ask = (): Promise<number> => connection.request(OPCODE.get, 'k', EMPTY, EMPTY, undefined, read)
    expect(await Promise.all([ask(), ask(), ask(), ask()])).toEqual([1, 1, 1, 1])
    expect(server.requests.map((request) => request.sequence)).toEqual([0x7fff_fffe, 0x7fff_ffff, 1, 2])
    await connection.close(new Error('done'))
  })

  describe('when it probes', () => {
    const statistics = (pid: string, time: number, uptime: number): [number, string, string][] => [
      [0, 'pid', pid],
      [0, 'uptime', `${uptime}`],
      [0, 'time', `${time}`],
      [0, '', ''],
    ]
    const answer = (replies: [number, string, string][]): void => {
      server.reply = ({ opcode }) => (opcode === OPCODE.stat ? replies : [[0, '', '1.6.18']])
    }
    const reconnect = async (): Promise<void> => {
      client.reset()
      server.requests.length = 0
    }

    it('asks for the process once a connection, and only for a sign of life from then on', async () => {
      answer(statistics('17', 2000, 100))
      const identity = await open().probe()
      expect(await client.probe()).toBe(identity)
      expect(await client.probe()).toBe(identity)
      expect(opcodes()).toEqual([OPCODE.stat, OPCODE.version, OPCODE.version])
    })

    it('takes a start that is off by one second for the same', async () => {
      answer(statistics('17', 2000, 100))
      const identity = await open().probe()
      for (const [time, uptime] of [
        [2100, 199],
        [2200, 301],
        [2300, 400],
      ] as const) {
        await reconnect()
        answer(statistics('17', time, uptime))
        expect(await client.probe()).toBe(identity)
      }
    })

    it('tells a process with the same id that was started later', async () => {
      answer(statistics('1', 2000, 100))
      const identity = await open().probe()
      await reconnect()
      answer(statistics('1', 2000, 0))
      expect(await client.probe()).not.toBe(identity)
    })

    it.each([
      ['refuses to give statistics', [[0x81, '', 'Unknown command']]],
      [
        'gives none that say who it is',
        [
          [0, 'version', '1'],
          [0, '', ''],
        ],
      ],
    ] as [string, [number, string, string][]][])(
      'makes do with the version of a server that %s',
      async (_what, replies) => {
        answer(replies)
        expect(await open().probe()).toBe('1.6.18')
        expect(await client.probe()).toBe('1.6.18')
      },
    )

    it('fails in the middle of the statistics', async () => {
      server.reply = () => [[0, 'pid', '17']]
      const probe = open().probe()
      await vi.waitFor(() => expect(opcodes()).toEqual([OPCODE.stat]), { interval: 2 })
      server.disconnect()
      await expect(probe).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
      answer(statistics('17', 2000, 100))
      expect(await client.probe()).toBe('17@1900')
    })
  })
})
