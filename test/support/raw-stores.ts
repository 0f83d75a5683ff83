import { connect } from 'node:net'
import type { Server } from './servers.ts'

export interface RawItem {
  readonly flags: number
  /** Seconds left; -1: never expires. */
  readonly ttl: number
  readonly value: Buffer
}

/** What a server holds and has been asked, read by hand: nothing of it passes through a client of ours. */
export interface RawStore {
  get(key: string): Promise<RawItem | undefined>
  set(key: string, value: Buffer, ttl: number): Promise<void>
  delete(key: string): Promise<void>
  /** How often the server has carried out each command so far. */
  commands(): Promise<Record<string, number>>
}

export function rawMemcached(server: Server): RawStore {
  return {
    async get(key) {
      const reply = await ask(server, `mg ${key} f t v\r\n`, (text, bytes) => {
        const header = /^VA (\d+) [^\r]*\r\n/.exec(text)
        return text.startsWith('EN') || (header !== null && bytes.length >= header[0].length + Number(header[1]) + 2)
      })
      const match = /^VA (\d+) f(\d+) t(-?\d+)\r\n/.exec(reply.toString('latin1'))
      if (!match) return undefined
      const value = reply.subarray(match[0].length, match[0].length + Number(match[1]))
      return { flags: Number(match[2]), ttl: Number(match[3]), value }
    },
    async set(key, value, ttl) {
      const head = Buffer.from(`set ${key} 0 ${ttl} ${value.length}\r\n`)
      await ask(server, Buffer.concat([head, value, Buffer.from('\r\n')]), (text) => text.includes('\r\n'))
    },
    async delete(key) {
      await ask(server, `delete ${key}\r\n`, (text) => text.includes('\r\n'))
    },
    async commands() {
      const reply = await ask(server, 'stats\r\n', (text) => text.endsWith('END\r\n'))
      const found = reply
        .toString()
        .matchAll(/^STAT (cmd_\w+|delete_hits|delete_misses|cas_hits|cas_badval|cas_misses) (\d+)/gm)
      return Object.fromEntries([...found].map(([, name, count]) => [name!, Number(count)]))
    },
  }
}

export function rawRedis(server: Server): RawStore {
  const command = (...parts: (string | Buffer)[]): Buffer =>
    Buffer.concat([
      Buffer.from(`*${parts.length}\r\n`),
      ...parts.flatMap((part) => [
        Buffer.from(`$${Buffer.byteLength(part)}\r\n`),
        Buffer.from(part),
        Buffer.from('\r\n'),
      ]),
    ])
  const bulk = async (...parts: (string | Buffer)[]): Promise<Buffer | undefined> => {
    const reply = await ask(server, command(...parts), (text, bytes) => {
      const header = /^\$(-?\d+)\r\n/.exec(text)
      if (!header) return text.includes('\r\n')
      return Number(header[1]) < 0 || bytes.length >= header[0].length + Number(header[1]) + 2
    })
    const header = /^\$(-?\d+)\r\n/.exec(reply.toString('latin1'))
    if (!header || Number(header[1]) < 0) return undefined
    return reply.subarray(header[0].length, header[0].length + Number(header[1]))
  }
  return {
    async get(key) {
      const value = await bulk('GET', key)
      if (!value) return undefined
      const ttl = await ask(server, command('TTL', key), (text) => text.includes('\r\n'))
      return { flags: 0, ttl: Number(ttl.toString().slice(1)), value }
    },
    async set(key, value, ttl) {
      await ask(server, command('SET', key, value, 'EX', `${ttl}`), (text) => text.includes('\r\n'))
    },
    async delete(key) {
      await ask(server, command('DEL', key), (text) => text.includes('\r\n'))
    },
    async commands() {
      const info = await bulk('INFO', 'commandstats')
      const found = info!.toString().matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm)
      return Object.fromEntries([...found].map(([, name, calls]) => [name!, Number(calls)]))
    },
  }
}

function ask(
  server: Server,
  command: string | Buffer,
  isWhole: (text: string, bytes: Buffer) => boolean,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(server.port, server.host)
    let reply = Buffer.alloc(0)
    socket.write(command)
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      reply = Buffer.concat([reply, chunk as Buffer])
      if (!isWhole(reply.toString('latin1'), reply)) return
      socket.destroy()
      resolve(reply)
    })
  })
}
