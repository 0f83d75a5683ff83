import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'
import { type App, startApp } from '../support/web-app.ts'

/** More kills take a minute: MSM_TEST_FULL=1 npm test. */
const KILLS = process.env.MSM_TEST_FULL === '1' ? 100 : 6
const AT_A_TIME = 20

let memcached: Server[]
let redis: Server[]
beforeAll(async () => {
  memcached = await Promise.all([startMemcached(), startMemcached()])
  redis = await Promise.all([startRedis(), startRedis()])
})
afterAll(async () => {
  for (const server of [...memcached, ...redis]) await server.stop()
})

const stores = {
  'one memcached': () => `127.0.0.1:${memcached[0]!.port}`,
  'two memcached nodes': () => memcached.map((server, i) => `n${i + 1}:127.0.0.1:${server.port}`).join(','),
  'one Redis': () => `redis://127.0.0.1:${redis[0]!.port}`,
  'two Redis nodes': () => redis.map((server, i) => `n${i + 1}:redis://127.0.0.1:${server.port}`).join(','),
}

/** An app with a request that changes the session after a while. */
function start(memcachedNodes: string, options: SessionManagerOptions = {}): Promise<App> {
  return startApp({ memcachedNodes, sticky: false, ...options }, (app) => {
    app.get('/slow', async (request, response) => {
      await sleep(Number(request.query.wait))
      request.session.changed = Date.now()
      response.json({ id: request.session.id, attributes: {} })
    })
  })
}

/** A session, a slow request that changes it, and a logout at another process while that runs. */
async function race(apps: readonly App[], i: number, between: () => Promise<void> = async () => {}): Promise<string> {
  const { announced: id } = await apps[0]!.call('/set?user=1')
  const slow = apps[i % 2]!.call(`/slow?wait=${i % 7}`, id)
  await sleep(Math.random() * 8)
  await between()
  const out = await apps[(i + 1) % 2]!.call('/out', id)
  expect(out.status).toBe(200)
  expect((await slow).status).toBe(200)
  return id!
}

describe.each(Object.entries(stores))('a logout during requests that change the session, on %s', (_name, nodes) => {
  it.each<[SessionManagerOptions['lockingMode'], number]>([
    ['optimistic', 2000],
    ['none', 400],
  ])('is final, with lockingMode %s, in all of %i interleavings', { timeout: 120_000 }, async (lockingMode, total) => {
    const apps = [await start(nodes(), { lockingMode }), await start(nodes(), { lockingMode })]
    for (let i = 0; i < total; i += AT_A_TIME) {
      const ids = await Promise.all(Array.from({ length: AT_A_TIME }, (_, k) => race(apps, i + k)))
      const after = await Promise.all(ids.map((id) => apps[i % 2]!.call('/get', id)))
      for (const [k, { body }] of after.entries()) {
        expect(body.attributes).toEqual({})
        expect(body.id.slice(0, 32)).not.toBe(ids[k]!.slice(0, 32))
      }
    }
  })
})

describe.each([
  ['memcached', () => memcached, stores['two memcached nodes']],
  ['Redis', () => redis, stores['two Redis nodes']],
] as const)('a logout while the primary of two %s nodes is killed', (_name, servers, nodes) => {
  it('is final', { timeout: 120_000 }, async () => {
    const apps = [await start(nodes()), await start(nodes())]
    for (let i = 0; i < KILLS; i++) {
      let victim: Server | undefined
      const id = await race(apps, i, async () => {
        victim = servers()[i % 2]
        await victim!.kill()
      })
      const during = await apps[0]!.call('/get', id)
      expect(during.body.attributes).toEqual({})
      await victim!.start()
      for (const app of apps) {
        await expect.poll(() => app.manager.nodes.every(({ state }) => state === 'up'), { timeout: 5000 }).toBe(true)
      }
      const after = await apps[1]!.call('/get', id)
      expect(after.body.attributes).toEqual({})
      expect(after.body.id.slice(0, 32)).not.toBe(id.slice(0, 32))
    }
  })
})
