import { afterEach, describe, expect, it, vi } from 'vitest'
import type { SessionManagerOptions } from '../lib/index.ts'
import { type App, memoryNodes, startApp } from './support/web-app.ts'

afterEach(() => vi.useRealTimers())

describe.each([true, false])('with sticky: %s', (sticky) => {
  const start = (options: SessionManagerOptions = {}, nodes = memoryNodes(2)): Promise<App> =>
    startApp({ ...nodes.options, sticky, sessionBackupAsync: false, ...options }, (app) => {
      app.get('/login', async (request, response) => {
        await request.session.regenerate({ keep: request.query.keep === '1' })
        request.session.user = 'ann'
        response.json({ id: request.session.id, attributes: request.session })
      })
    })

  it('maxLifetimeSeconds ends a session that is in steady use', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const app = await start({ maxLifetimeSeconds: 3600, maxInactiveInterval: 1800 })
    const { announced } = await app.call('/set?k=v')
    for (let minute = 10; minute < 60; minute += 10) {
      vi.advanceTimersByTime(600_000)
      expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
    }
    vi.advanceTimersByTime(600_000)
    expect((await app.call('/get', announced)).body.attributes).toEqual({})
  })

  it('regenerate gives a new id and an empty session, and the old one is gone', async () => {
    const app = await start()
    const { announced: before } = await app.call('/set?cart=1')
    const login = await app.call('/login', before)
    expect(login.announced).toBeDefined()
    expect(login.announced!.slice(0, 32)).not.toBe(before!.slice(0, 32))
    expect(login.announced!.slice(33)).toMatch(/^n[12]$/)
    expect((await app.call('/get', login.announced)).body.attributes).toEqual({ user: 'ann' })
    expect((await app.call('/get', before)).body.attributes).toEqual({})
  })

  it('regenerate keeps the data if asked to', async () => {
    const app = await start()
    const { announced: before } = await app.call('/set?cart=1')
    const { announced } = await app.call('/login?keep=1', before)
    expect((await app.call('/get', announced)).body.attributes).toEqual({ cart: '1', user: 'ann' })
    expect((await app.call('/get', before)).body.attributes).toEqual({})
  })

  it('for regenerateGraceSeconds the old id leads to the new session, and not longer', async () => {
    const app = await start({ regenerateGraceSeconds: 1 })
    const { announced: before } = await app.call('/set?cart=1')
    const { announced } = await app.call('/login', before)
    const parallel = await app.call('/get', before)
    expect(parallel.announced).toBe(announced)
    expect(parallel.body.attributes).toEqual({ user: 'ann' })
    await expect
      .poll(async () => (await app.call('/get', before)).body.attributes, { timeout: 4000, interval: 200 })
      .toEqual({})
  })

  it('a request that began before regenerate does not bring the old session back', async () => {
    let open = (): void => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky, sessionBackupAsync: false }, (express) => {
      express.get('/slow', async (request, response) => {
        request.session.slow = 0
        await gate
        request.session.slow = 1
        response.json({ id: '', attributes: {} })
      })
      express.get('/login', async (request, response) => {
        await request.session.regenerate()
        request.session.user = 'ann'
        response.json({ id: '', attributes: {} })
      })
    })
    const { announced: before } = await app.call('/set?cart=1')
    const slow = app.call('/slow', before)
    await expect.poll(() => app.manager.health().requests).toBe(1)
    await app.call('/login', before)
    open()
    expect((await slow).status).toBe(200)
    expect((await app.call('/get', before)).body.attributes).toEqual({})
  })

  it('a session is there for jobs and WebSockets: get, save, reload, touch, destroy', async () => {
    const app = await start()
    const { announced } = await app.call('/set?k=v')
    const session = (await app.manager.get(announced!))!
    expect({ ...session }).toEqual({ k: 'v' })
    session.job = 1
    await session.save()
    expect((await app.call('/set?web=1', announced)).body.attributes).toEqual({ k: 'v', job: 1, web: '1' })
    const socket = (await app.manager.fromRequest({ url: '/ws', headers: { cookie: `JSESSIONID=${announced}` } }))!
    expect({ ...socket }).toEqual({ k: 'v', job: 1, web: '1' })
    expect(await app.manager.fromRequest({ url: '/ws', headers: {} })).toBeUndefined()
    expect(await app.manager.touch(announced!)).toBe(true)
    expect(await app.manager.touch(`${'0'.repeat(32)}-n1`)).toBe(false)
    expect(await app.manager.destroy(announced!)).toBe(true)
    expect(await app.manager.destroy(announced!)).toBe(false)
    expect(await app.manager.get(announced!)).toBeUndefined()
    await expect(socket.reload()).rejects.toMatchObject({ code: 'ERR_MSM_SESSION_INVALID' })
    expect((await app.call('/get', announced)).body.attributes).toEqual({})
  })
})
