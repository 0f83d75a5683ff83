import { setTimeout as sleep } from 'node:timers/promises'
import type { Express } from 'express'
import { expect, it, onTestFinished } from 'vitest'
import { startMemcached, startRedis } from '../../support/servers.ts'
import { TcpProxy } from '../../support/tcp-proxy.ts'
import { startApp } from '../../support/web-app.ts'

it.each([
  ['memcached', startMemcached, ''],
  ['Redis', startRedis, 'redis://'],
] as const)(
  'keeps both changes of two processes if one of them loses its connection to %s meanwhile',
  async (_name, startServer, scheme) => {
    const servers = [await startServer(), await startServer()]
    onTestFinished(async () => {
      for (const server of servers) await server.stop()
    })
    const proxy = await TcpProxy.start(servers[0]!)
    onTestFinished(() => proxy.stop())
    const start = (first: number) => {
      const memcachedNodes = `n1:${scheme}127.0.0.1:${first},n2:${scheme}127.0.0.1:${servers[1]!.port}`
      return startApp({ memcachedNodes, sticky: false }, (app: Express) => {
        app.get('/slow', async ({ session, query }, response) => {
          session[String(query.name)] = 'changed'
          await sleep(Number(query.wait))
          response.json({ id: session.id, attributes: session })
        })
      })
    }
    const [one, other] = [await start(proxy.port), await start(servers[0]!.port)]
    let id: string
    do id = (await one.call('/set?x=new&y=new')).announced!
    while (!id.endsWith('-n1'))
    await sleep(50)
    const first = one.call('/slow?name=x&wait=30', id)
    const second = other.call('/slow?name=y&wait=40', id)
    await sleep(15)
    // It is stored, but the answer is lost.
    proxy.cutAfter(1)
    expect((await first).status).toBe(200)
    expect((await second).status).toBe(200)
    const { body } = await other.call('/get', (await first).announced ?? id)
    expect(body.attributes).toEqual({ x: 'changed', y: 'changed' })
  },
)
