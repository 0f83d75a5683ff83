import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import express from 'express'
import { expect, it, onTestFinished } from 'vitest'
import { msgpackTranscoder } from '../../adapters/transcoder/msgpack.ts'
import { session } from '../../adapters/web/express.ts'
import { decodeSessionRecord } from '../../lib/records/session-record.ts'
import { type Server, startMemcached } from '../support/servers.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }

/** Speaks memcached's meta protocol by hand: what is read here passed through no client of ours. */
async function metaGet(server: Server, key: string): Promise<{ flags: number; ttl: number; value: Buffer }> {
  const socket = connect(server.port, server.host)
  socket.write(`mg ${key} f t v\r\n`)
  let reply = Buffer.alloc(0)
  for await (const chunk of socket) {
    reply = Buffer.concat([reply, chunk as Buffer])
    if (reply.toString('latin1').startsWith('EN')) break
    const end = reply.indexOf('\r\n')
    if (end > 0 && reply.length >= end + 4 + Number(/^VA (\d+)/.exec(reply.toString('latin1'))?.[1])) break
  }
  socket.destroy()
  const match = /^VA (\d+) f(\d+) t(-?\d+)\r\n/.exec(reply.toString('latin1'))
  if (!match) throw new Error(`no item: ${reply.toString('latin1', 0, 20)}`)
  const value = reply.subarray(match[0].length, match[0].length + Number(match[1]))
  return { flags: Number(match[2]), ttl: Number(match[3]), value }
}

it('stores a record of header version 2 under prefix and id, with flags 0 and the idle time plus one sweep', async () => {
  const server = await startMemcached()
  onTestFinished(() => server.stop())
  const app = express()
  const sessions = session({
    memcachedNodes: `n1:127.0.0.1:${server.port}`,
    jvmRoute: 'tomcat-1',
    webappVersion: '001',
    maxInactiveInterval: 600,
    logger: quiet,
  })
  onTestFinished(() => sessions.manager.stop())
  app.use(sessions)
  app.get('/', (request, response) => {
    request.session.foo = 'bar'
    response.end(request.session.id)
  })
  const http = app.listen(0, '127.0.0.1')
  onTestFinished(() => void http.close())
  await once(http, 'listening')
  const before = Date.now()
  const response = await fetch(`http://127.0.0.1:${(http.address() as AddressInfo).port}/`)
  const id = await response.text()
  expect(id).toMatch(/^[0-9A-F]{32}-n1\.tomcat-1$/)
  expect(response.headers.get('set-cookie')).toBe(`JSESSIONID=${id}; Path=/; HttpOnly; SameSite=Lax`)

  const { flags, ttl, value } = await metaGet(server, `001_${id}`)
  expect(flags).toBe(0)
  expect(ttl).toBeGreaterThanOrEqual(658)
  expect(ttl).toBeLessThanOrEqual(660)
  expect(value.readInt16BE(0)).toBe(2)
  const record = decodeSessionRecord(value)
  expect(record).toMatchObject({ version: 2, id, maxInactiveInterval: 600, isValid: true, authType: 0 })
  for (const time of [record.creationTime, record.thisAccessedTime, record.lastBackupTime]) {
    expect(time).toBeGreaterThanOrEqual(before)
    expect(time).toBeLessThanOrEqual(Date.now())
  }
  expect(msgpackTranscoder().decode(record.attributes)).toEqual({ foo: 'bar' })
})
