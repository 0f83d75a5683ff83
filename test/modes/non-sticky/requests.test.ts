import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../../lib/index.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

const LOCKING = ['all', 'auto', 'uriPattern:.*'] as const
const ALL_MODES = [...LOCKING, 'none', 'optimistic'] as const

/** Two processes' worth of apps that share nodes, with requests that take a while. */
async function twoApps(nodes: MemoryNodes, options: SessionManagerOptions = {}): Promise<[App, App]> {
  const all = { ...nodes.options, sticky: false, ...options }
  const start = (): Promise<App> =>
    startApp(all, (app) => {
      app.get('/sleep', async (request, response) => {
        await sleep(Number(request.query.ms))
        const { ms: _ms, ...changes } = request.query
        Object.assign(request.session, changes)
        response.json({ id: request.session.id, attributes: request.session })
      })
      app.get('/remove', (request, response) => {
        delete request.session[String(request.query.name)]
        response.json({ id: request.session.id, attributes: request.session })
      })
      app.get(
        '/untouched',
        (request, response) => void response.json({ id: '', attributes: {}, none: !request.session }),
      )
      app.get('/pixel.gif', (request, response) => {
        response.json({ id: '', attributes: {}, session: request.session === undefined ? 'undefined' : 'there' })
      })
    })
  return [await start(), await start()]
}

describe.each(ALL_MODES)('with lockingMode %s', (lockingMode) => {
  // MemcachedSessionManagerIntegrationTest.testSessionUpdatedInMemcachedWhenSessionAttributeIsRemovedIssue106
  it('stores that an attribute was removed', async () => {
    const apps = await twoApps(memoryNodes(1), { lockingMode })
    const { body } = await apps[0].call('/set?foo=bar')
    expect((await apps[1].call('/get', body.id)).body).toEqual({ id: body.id, attributes: { foo: 'bar' } })
    expect((await apps[0].call('/remove?name=foo', body.id)).body.attributes).toEqual({})
    const after = await apps[1].call('/get', body.id)
    expect(after.body).toEqual({ id: body.id, attributes: {} })
    expect(after.announced).toBeUndefined()
  })

  // NonStickySessionsIntegrationTest.testNoStaleSessionsWithNonStickySessions
  it('keeps no copy in the process', async () => {
    const apps = await twoApps(memoryNodes(1), { lockingMode })
    const { body } = await apps[0].call('/set?foo=bar')
    await apps[1].call('/set?foo=baz', body.id)
    expect((await apps[0].call('/get', body.id)).body.attributes).toEqual({ foo: 'baz' })
    expect(apps[0].manager.statistics.activeSessions).toBe(0)
  })

  // testNonStickySessionIsValidEvenWhenAccessedReadonly
  it('counts read-only requests as use', async () => {
    const apps = await twoApps(memoryNodes(1), { lockingMode, maxInactiveInterval: 1, touchAfterSeconds: 0 })
    const { body } = await apps[0].call('/set?foo=bar')
    for (let i = 0; i < 4; i++) {
      await sleep(400)
      expect((await apps[i % 2]!.call('/get', body.id)).body.id).toBe(body.id)
    }
  })
})

describe.each(LOCKING)('with lockingMode %s, parallel requests', (lockingMode) => {
  // testParallelRequestsToSameTomcatInstanceIssue111, testParallelRequestsDontCauseDataLoss
  it('wait for each other, in one process and across, and lose nothing', async () => {
    const apps = await twoApps(memoryNodes(2), { lockingMode, lockTimeoutMs: 5000 })
    const { body } = await apps[0].call('/set?k1=v1')
    const slow = apps[0].call('/sleep?ms=200&k2=v2', body.id)
    await sleep(50)
    const started = performance.now()
    const both = [apps[0].call('/set?k3=v3', body.id), apps[1].call('/set?k4=v4', body.id)]
    await Promise.all([slow, ...both])
    expect(performance.now() - started).toBeGreaterThan(100)
    const { attributes } = (await apps[1].call('/get', body.id)).body
    expect(attributes).toEqual({ k1: 'v1', k2: 'v2', k3: 'v3', k4: 'v4' })
  })
})

describe("lockingMode 'auto'", () => {
  // testReadOnlyRequestsDontLockSessionForAutoLocking
  it('does not lock for requests that were seen to change nothing', async () => {
    const apps = await twoApps(memoryNodes(1), { lockingMode: 'auto', lockTimeoutMs: 5000 })
    const { body } = await apps[0].call('/set?foo=bar')
    for (const app of apps) {
      await app.call('/get', body.id)
      await app.call('/sleep?ms=1', body.id)
    }
    const start = performance.now()
    await Promise.all([apps[0].call('/sleep?ms=300', body.id), apps[0].call('/sleep?ms=300', body.id)])
    expect(performance.now() - start).toBeLessThan(550)
    let isOver = false
    const modifying = apps[0].call('/set?foo=baz', body.id).then(() => apps[0].call('/sleep?ms=300&x=1', body.id))
    const ended = modifying.then(() => {
      isOver = true
    })
    await sleep(100)
    expect((await apps[1].call('/get', body.id)).body.id).toBe(body.id)
    expect(isOver).toBe(false)
    await ended
    expect(apps[1].manager.statistics.msmStatNumNonStickySessionsReadOnlyRequest).toBeGreaterThan(0)
  })
})

describe("lockingMode 'uriPattern'", () => {
  // testRequestsDontLockSessionForNotMatchingUriPattern, with a pattern that does match here
  it('locks for paths that match, and for no others', async () => {
    const apps = await twoApps(memoryNodes(1), { lockingMode: 'uriPattern:/sleep', lockTimeoutMs: 5000 })
    const { body } = await apps[0].call('/set?foo=bar')
    const start = performance.now()
    const locked = Promise.all([apps[0].call('/sleep?ms=200', body.id), apps[1].call('/sleep?ms=200', body.id)])
    await sleep(50)
    await apps[1].call('/get', body.id)
    expect(performance.now() - start).toBeLessThan(180)
    await locked
    expect(performance.now() - start).toBeGreaterThan(390)
  })
})

describe("lockingMode 'app'", () => {
  it('locks from lock() to unlock(), and shows what others have stored meanwhile', async () => {
    const nodes = memoryNodes(1)
    const options = { ...nodes.options, sticky: false, lockingMode: 'app', lockTimeoutMs: 5000 } as const
    const start = (): Promise<App> =>
      startApp(options, (app) => {
        app.get('/increase', async (request, response) => {
          await request.session.lock()
          const count = Number(request.session.count ?? 0)
          await sleep(2)
          request.session.count = count + 1
          await request.session.unlock()
          response.json({ id: request.session.id, attributes: {} })
        })
      })
    const apps = [await start(), await start()]
    const { body } = await apps[0]!.call('/set?foo=bar')
    await Promise.all(Array.from({ length: 40 }, (_, i) => apps[i % 2]!.call('/increase', body.id)))
    expect((await apps[0]!.call('/get', body.id)).body.attributes).toEqual({ foo: 'bar', count: 40 })
    expect(await nodes.get('n1').get(`lock:${body.id}`)).toBeUndefined()
  })
})

// testInvalidateSessionShouldReleaseLockIssue144, testInvalidatedSessionRemovedFromMemcached
it('leaves nothing of a destroyed session but its tombstone, and announces nothing', async () => {
  const nodes = memoryNodes(2)
  const apps = await twoApps(nodes, { lockingMode: 'all' })
  const { body } = await apps[0].call('/set?foo=bar')
  const out = await apps[0].call('/out', body.id)
  expect(out.announced).toBeUndefined()
  await expect
    .poll(async () => (await nodes.get('n1').get(`lock:${body.id}`)) ?? (await nodes.get('n2').get(`lock:${body.id}`)))
    .toBeUndefined()
  for (const nodeId of ['n1', 'n2']) {
    for (const prefix of ['', 'validity:', 'bak:', 'bak:validity:']) {
      expect(await nodes.get(nodeId).get(prefix + body.id)).toBeUndefined()
    }
    expect((await nodes.get(nodeId).get(`gone:${body.id.slice(0, 32)}`))?.value.toString()).toBe('destroyed')
  }
})

// testInvalidSessionId, testInvalidNonStickySessionDoesNotCallOnBackupWithoutLoadedSessionIssue137
it('gives a client with an unknown id a new one, and asks the nodes once for many requests', async () => {
  const nodes = memoryNodes(2)
  const [app] = await twoApps(nodes)
  await app.call('/get')
  nodes.log.length = 0
  const unknown = `${'A'.repeat(32)}-n1`
  const answers = await Promise.all(Array.from({ length: 50 }, () => app.call('/get', unknown)))
  for (const { body } of answers) expect(body.id.slice(0, 32)).not.toBe(unknown.slice(0, 32))
  const during = nodes.log.length
  await app.call('/get', unknown)
  expect(nodes.log.length).toBe(during)
  expect((await app.call('/get', '12345')).body.id).toMatch(/^[0-9A-F]{32}-n[12]$/)
  expect(nodes.log.length).toBe(during)
})

// testIgnoredResourcesWithSessionCookieDontCauseSessionStaleness
it('leaves ignored requests without session, cookie and store (GH401)', async () => {
  const nodes = memoryNodes(1)
  const apps = await twoApps(nodes, { requestUriIgnorePattern: '.*\\.(ico|png|gif|jpg|css|js)$', lockingMode: 'auto' })
  const { body } = await apps[0].call('/set?foo=bar')
  await expect.poll(() => nodes.log.length).toBeGreaterThan(1)
  nodes.log.length = 0
  const pixel = await apps[0].call('/pixel.gif', body.id)
  expect(pixel.announced).toBeUndefined()
  expect(pixel.body).toMatchObject({ session: 'undefined' })
  expect(nodes.log).toEqual([])
  expect((await apps[0].call('/set?bar=baz', body.id)).announced).toBeUndefined()
  expect((await apps[1].call('/get', body.id)).body).toEqual({ id: body.id, attributes: { foo: 'bar', bar: 'baz' } })
})

describe('lazy: true', () => {
  // testSessionNotLoadedForNoSessionAccess
  it('loads nothing unless asked, but notes the use', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false, lazy: true, touchAfterSeconds: 0 }, (express) => {
      express.get('/nothing', (request, response) => void response.json({ session: typeof request.session }))
      express.get('/load', async (request, response) => {
        const session = await request.loadSession()
        session.count = Number(session.count ?? 0) + 1
        response.json({ id: session.id, attributes: session, same: session === request.session })
      })
    })
    const first = await app.call('/load')
    expect(first.body).toMatchObject({ attributes: { count: 1 }, same: true })
    const id = first.announced!
    await expect.poll(() => nodes.log.some((line) => line.includes('bak:validity'))).toBe(true)
    nodes.log.length = 0
    expect((await app.call('/nothing', id)).body).toEqual({ session: 'undefined' })
    const own = id.slice(33)
    await expect.poll(() => nodes.log).toContain(`replace ${own} validity:${id}`)
    expect(nodes.log).not.toContain(`get ${own} ${id}`)
    expect((await app.call('/load', id)).body.attributes).toEqual({ count: 2 })
  })

  it('gives a request that asks several times at once one session', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, sticky: false, lazy: true, lockingMode: 'all' }, (express) => {
      express.get('/load', async (request, response) => {
        const [one, other] = await Promise.all([request.loadSession(), request.loadSession()])
        one.seen = true
        response.json({ id: one.id, attributes: other })
      })
    })
    const { announced } = await app.call('/load')
    expect((await app.call('/load', announced)).body.attributes).toEqual({ seen: true })
  })
})

describe('conflicts in the default mode', () => {
  const start = (nodes: MemoryNodes, options: SessionManagerOptions): Promise<App> =>
    startApp({ ...nodes.options, sticky: false, ...options }, (app) => {
      app.get('/slow', async (request, response) => {
        const { value, wait } = request.query
        request.session.name = value
        request.session[`only-${value}`] = true
        await sleep(Number(wait))
        response.json({ id: request.session.id, attributes: request.session })
      })
    })
  const race = async (options: SessionManagerOptions) => {
    const app = await start(memoryNodes(1), options)
    const conflicts: unknown[] = []
    app.manager.on('conflict', (event) => void conflicts.push(event))
    const { announced } = await app.call('/set?name=base')
    const answers = await Promise.all([
      app.call('/slow?value=late&wait=60', announced),
      app.call('/slow?value=early&wait=0', announced),
    ])
    const { attributes } = (await app.call('/get', announced)).body
    return { attributes, conflicts, statuses: answers.map(({ status }) => status) }
  }

  it('take the later change of the same attribute, and both of different ones, and tell', async () => {
    const { attributes, conflicts, statuses } = await race({})
    expect(attributes).toEqual({ name: 'late', 'only-late': true, 'only-early': true })
    expect(statuses).toEqual([200, 200])
    expect(conflicts).toEqual([
      { session: expect.stringMatching(/^[0-9a-f]{8}$/), attributes: ['name'], resolution: 'mine' },
    ])
  })

  it("take the earlier change with conflictPolicy 'theirs'", async () => {
    const { attributes } = await race({ conflictPolicy: 'theirs' })
    expect(attributes).toEqual({ name: 'early', 'only-late': true, 'only-early': true })
  })

  it("answer 409 and store nothing of the request with conflictPolicy 'reject'", async () => {
    const { attributes, statuses } = await race({ conflictPolicy: 'reject' })
    expect(attributes).toEqual({ name: 'early', 'only-early': true })
    expect(statuses).toEqual([409, 200])
  })

  it('are resolved by mergeAttribute', async () => {
    const seen: unknown[] = []
    const { attributes } = await race({
      mergeAttribute: (...values) => {
        seen.push(values)
        return `${values[2]}+${values[3]}`
      },
    })
    expect(attributes).toMatchObject({ name: 'late+early' })
    expect(seen).toEqual([['name', 'base', 'late', 'early']])
  })
})

describe('when no node answers', () => {
  const stopped = async (options: SessionManagerOptions) => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: false, operationTimeout: 300, ...options })
    const { announced } = await app.call('/set?k=v')
    await expect.poll(() => nodes.log.filter((line) => line.includes('bak:')).length).toBe(2)
    nodes.get('n1').stop()
    nodes.get('n2').stop()
    return { app, nodes, id: announced! }
  }

  it('a request with a session is answered 503 within two operationTimeouts, its cookie untouched', async () => {
    const { app, nodes, id } = await stopped({})
    const start = performance.now()
    const answer = await app.call('/get', id)
    expect(performance.now() - start).toBeLessThan(600)
    expect(answer.status).toBe(503)
    expect(answer.announced).toBeUndefined()
    nodes.get('n1').start()
    nodes.get('n2').start()
    await expect.poll(() => app.manager.health().status, { timeout: 5000 }).toBe('ok')
    expect((await app.call('/get', id)).body.attributes).toEqual({ k: 'v' })
  })

  it("the request gets an empty session that is not stored with storageFailurePolicy 'anonymous'", async () => {
    const { app, id } = await stopped({ storageFailurePolicy: 'anonymous' })
    const answer = await app.call('/set?other=1', id)
    expect(answer.status).toBe(200)
    expect(answer.body.attributes).toEqual({ other: '1' })
    expect(answer.announced).toBeUndefined()
  })

  it("with commitFailurePolicy 'respond' the app answers, and a new session is not announced", async () => {
    const { app } = await stopped({ commitFailurePolicy: 'respond' })
    const failures: unknown[] = []
    app.manager.on('backupFailed', (event) => void failures.push(event))
    const answer = await app.call('/set?k=v')
    expect(answer.status).toBe(200)
    expect(answer.announced).toBeUndefined()
    expect(failures).toHaveLength(1)
    expect(app.manager.statistics.msmStatNumBackupFailures).toBe(1)
  })

  it('an answer whose session can not be stored becomes a 503, with nothing of the body', async () => {
    const { app } = await stopped({})
    const answer = await app.call('/set?k=v')
    expect(answer.status).toBe(503)
    expect(answer.body).toEqual({ error: expect.stringMatching(/No node/) })
    expect(answer.announced).toBeUndefined()
  })

  it('health tells', async () => {
    const { app, id } = await stopped({})
    await app.call('/get', id)
    expect(app.manager.health()).toMatchObject({ status: 'down', mode: 'non-sticky' })
  })
})

describe('lockTimeoutPolicy', () => {
  it.each([
    ['reject', 503],
    ['proceed', 200],
  ] as const)('%s answers a request that does not get the lock %i', async (lockTimeoutPolicy, status) => {
    const nodes = memoryNodes(1)
    const [app] = await twoApps(nodes, { lockingMode: 'all', lockTimeoutMs: 50, lockTimeoutPolicy })
    const events: unknown[] = []
    app.manager.on('lockTimeout', (event) => void events.push(event))
    const { announced } = await app.call('/set?k=v')
    // As Tomcat would take it.
    await expect.poll(() => nodes.get('n1').get(`lock:${announced}`)).toBeUndefined()
    await nodes.get('n1').set(`lock:${announced}`, Buffer.from('locked'), 5)
    const answer = await app.call('/set?k=w', announced)
    expect(answer.status).toBe(status)
    expect(events).toMatchObject([{ rejected: lockTimeoutPolicy === 'reject' }])
    expect((await nodes.get('n1').get(`lock:${announced}`))?.value.toString()).toBe('locked')
  })
})

it('waits for a destroy that the handler does not wait for', async () => {
  const nodes = memoryNodes(1)
  const app = await startApp({ ...nodes.options, sticky: false }, (express) => {
    express.get('/careless', (request, response) => {
      void request.session.destroy()
      response.json({ id: '', attributes: {} })
    })
  })
  const { announced } = await app.call('/set?k=v')
  await app.call('/careless', announced)
  expect(await nodes.get('n1').get(announced!)).toBeUndefined()
})
