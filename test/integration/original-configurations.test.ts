import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { rawMemcached, rawRedis } from '../support/raw-stores.ts'
import { startMemcached, startRedis } from '../support/servers.ts'
import { type App, startApp } from '../support/web-app.ts'

/** As it stands in a context.xml. */
const ATTRIBUTES = {
  sticky: 'false',
  sessionBackupAsync: 'false',
  lockingMode: 'uriPattern:/path1|/path2',
  requestUriIgnorePattern: '.*\\.(ico|png|gif|jpg|css|js)$',
} as const

it.each(['memcached', 'redis'] as const)(
  "a Tomcat's configuration works as written, with nothing changed but memcachedNodes: %s",
  async (kind) => {
    const servers = await Promise.all(kind === 'redis' ? [startRedis()] : [startMemcached(), startMemcached()])
    onTestFinished(async () => void (await Promise.all(servers.map((server) => server.stop()))))
    const memcachedNodes =
      kind === 'redis'
        ? `redis://127.0.0.1:${servers[0]!.port}`
        : servers.map(({ port }, i) => `m${i + 1}:127.0.0.1:${port}`).join(',')
    const start = (): Promise<App> =>
      startApp({ ...ATTRIBUTES, memcachedNodes, lockTimeoutMs: 5000 }, (app) => {
        app.get(['/path1', '/path2', '/other'], async (request, response) => {
          const count = Number(request.session.count ?? 0)
          await sleep(2)
          request.session.count = count + 1
          response.json({ id: request.session.id, attributes: {} })
        })
        app.get('/logo.png', (request, response) => void response.json({ session: typeof request.session }))
      })
    const apps = [await start(), await start()]
    const { announced: id } = await apps[0]!.call('/set?user=1')
    expect(id).toMatch(kind === 'redis' ? /^[0-9A-F]{32}$/ : /^[0-9A-F]{32}-m[12]$/)

    // What matches the pattern is locked, by path alone.
    await Promise.all(Array.from({ length: 40 }, (_, i) => apps[i % 2]!.call(i % 3 ? '/path1' : '/path2', id)))
    expect((await apps[1]!.call('/get', id)).body.attributes).toEqual({ user: '1', count: 40 })

    const stores = servers.map((server) => (kind === 'redis' ? rawRedis(server) : rawMemcached(server)))
    const commands = (): Promise<string> =>
      Promise.all(
        stores.map(async (store) => {
          const { get, set, cmd_get, cmd_set } = await store.commands()
          return JSON.stringify([get, set, cmd_get, cmd_set])
        }),
      ).then(String)
    await expect
      .poll(async () => {
        const before = await commands()
        await sleep(50)
        return before === (await commands())
      })
      .toBe(true)
    const before = await commands()
    const ignored = await apps[0]!.call('/logo.png', id)
    expect(ignored).toMatchObject({ status: 200, announced: undefined, body: { session: 'undefined' } })
    expect(await commands()).toBe(before)
  },
)
