import { describe, expect, it, onTestFinished } from 'vitest'
import { type AppOptions, AppProcess } from '../support/app-process.ts'
import { type RawStore, rawMemcached } from '../support/raw-stores.ts'
import { startMemcached } from '../support/servers.ts'

interface Store {
  readonly memcachedNodes: string
  readonly raw: RawStore
}

async function store(): Promise<Store> {
  const server = await startMemcached()
  onTestFinished(() => server.stop())
  return { memcachedNodes: `n1:127.0.0.1:${server.port}`, raw: rawMemcached(server) }
}

async function start(options: AppOptions): Promise<AppProcess> {
  const app = await AppProcess.start('express', options)
  onTestFinished(async () => void (await app.kill()))
  return app
}

async function ask(
  app: AppProcess,
  path: string,
  cookie?: string,
): Promise<{ status: number; cookie: string; body: string }> {
  const response = await fetch(app.url + path, cookie === undefined ? {} : { headers: { cookie } })
  const announced = response.headers.get('set-cookie')?.split(';')[0]
  return { status: response.status, cookie: announced ?? cookie ?? '', body: await response.text() }
}

const idOf = (cookie: string): string => cookie.slice('JSESSIONID='.length)

describe.each([true, false])('drainOnSignal, sticky: %s', (sticky) => {
  it('serves what is under way, tells the balancer, stores all, and lets the signal end the process', async () => {
    const { memcachedNodes, raw } = await store()
    const options: AppOptions = { memcachedNodes, sticky, sessionBackupAsync: sticky, drainOnSignal: true }
    const app = await start(options)
    const { cookie } = await ask(app, '/count')
    const before = (await raw.get(idOf(cookie)))!.value
    const slow = ask(app, '/hold?ms=700', cookie)
    await expect.poll(async () => JSON.parse((await ask(app, '/health')).body).requests).toBe(1)
    const ended = app.kill('SIGTERM')
    await expect.poll(async () => JSON.parse((await ask(app, '/health')).body).status).toBe('down')
    expect((await slow).status).toBe(200)
    // Ended by the signal, not by an exit code of its own.
    expect(await ended).toBeNull()
    expect((await raw.get(idOf(cookie)))!.value).not.toEqual(before)
    const next = await start(options)
    expect(JSON.parse((await ask(next, '/count', cookie)).body).count).toBe(3)
  })
})

describe.each([true, false])('a change of the transcoder during a deploy, sticky: %s', (sticky) => {
  it('takes all sessions along where readTranscoders names that of before', async () => {
    const { memcachedNodes, raw } = await store()
    const options: AppOptions = { memcachedNodes, sticky, sessionBackupAsync: false }
    const old = await start({ ...options, transcoder: 'json' })
    const { cookie } = await ask(old, '/count')
    expect((await raw.get(idOf(cookie)))!.value.toString('latin1')).toContain('{"count":1}')
    expect(await old.kill('SIGTERM')).toBe(0)
    const first = await start({ ...options, transcoder: 'msgpack', readTranscoders: ['json'] })
    expect(JSON.parse((await ask(first, '/count', cookie)).body).count).toBe(2)
    expect((await raw.get(idOf(cookie)))!.value.toString('latin1')).toContain('\x81\xa5count\x02')
    await first.kill('SIGTERM')
    const later = await start({ ...options, transcoder: 'msgpack' })
    expect(JSON.parse((await ask(later, '/count', cookie)).body).count).toBe(3)
  })

  it('loses no process over a session in another form, but the session', async () => {
    const { memcachedNodes } = await store()
    const options: AppOptions = { memcachedNodes, sticky, sessionBackupAsync: false }
    const old = await start({ ...options, transcoder: 'json' })
    const { cookie } = await ask(old, '/count')
    const other = await start({ ...options, transcoder: 'msgpack' })
    const answer = await ask(other, '/count', cookie)
    expect([answer.status, JSON.parse(answer.body).count]).toEqual([200, 1])
  })
})
