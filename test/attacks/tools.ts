import { connect } from 'node:net'
import { onTestFinished } from 'vitest'
import { decodeSessionRecord, encodeSessionRecord } from '../../lib/records/session-record.ts'
import { type RawStore, rawMemcached, rawRedis } from '../support/raw-stores.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'
import type { App } from '../support/web-app.ts'

export const MADE_UP: string = 'A'.repeat(32)

export interface RealStore {
  /** What `memcachedNodes` says of it, without a node id. */
  readonly address: string
  readonly server: Server
  readonly raw: RawStore
}

export const KINDS = ['memcached', 'Redis'] as const

/** A server of the test's own, that ends with it. */
export async function startStore(kind: (typeof KINDS)[number]): Promise<RealStore> {
  const server = kind === 'Redis' ? await startRedis() : await startMemcached()
  onTestFinished(() => server.stop())
  const address = `127.0.0.1:${server.port}`
  return kind === 'Redis'
    ? { address: `redis://${address}`, server, raw: rawRedis(server) }
    : { address, server, raw: rawMemcached(server) }
}

/** Sends a request byte by byte as it is, which no HTTP client would. The status; 0 if the server just hung up. */
export function sendBytes(app: App, head: Buffer): Promise<{ status: number; text: string }> {
  const { port } = new URL(app.url)
  return new Promise((resolve) => {
    let reply = ''
    const socket = connect(Number(port), '127.0.0.1', () => socket.write(head))
    const settle = (): void => resolve({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(reply)?.[1] ?? 0), text: reply })
    socket.on('data', (data) => {
      reply += data.toString('latin1')
    })
    socket.on('error', settle)
    socket.on('close', settle)
  })
}

/** A request with these bytes as the value of its cookie. */
export function withCookie(value: string | Buffer, path = '/get'): Buffer {
  const head = `GET ${path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: JSESSIONID=`
  return Buffer.concat([Buffer.from(head), Buffer.from(value), Buffer.from('\r\n\r\n')])
}

/** A record with other attributes, as somebody who can write the store would make it. */
export function forged(record: Buffer, attributes: Buffer): Buffer {
  return encodeSessionRecord({ ...decodeSessionRecord(record), attributes })
}
