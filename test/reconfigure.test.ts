import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { startMemcached } from './support/servers.ts'
import { memoryNodes, startApp } from './support/web-app.ts'

const nodeOf = (id: string): string => id.slice(33)

describe('reconfigure', () => {
  // testReconfigureMemcachedNodesAtRuntimeFeature46
  it.each([true, false])('takes sessions to the nodes that are left, with sticky: %s', async (sticky) => {
    const nodes = memoryNodes(3)
    const app = await startApp({ ...nodes.options, memcachedNodes: 'n1:a:1,n2:b:1', sticky, sessionBackupAsync: false })
    const sessions = await Promise.all(Array.from({ length: 10 }, (_, i) => app.call(`/set?i=${i}`)))
    await expect.poll(() => app.manager.health().backlog).toBe(0)
    await app.manager.reconfigure({ memcachedNodes: 'n2:b:1,n3:c:1' })
    expect(app.manager.nodes.map(({ id }) => id)).toEqual(['n2', 'n3'])
    for (const [i, { announced }] of sessions.entries()) {
      const found = await app.call('/get', announced)
      expect(found.body.attributes).toEqual({ i: `${i}` })
      expect(['n2', 'n3']).toContain(nodeOf(found.announced ?? announced!))
    }
  })

  // testReconfigureFailoverNodesAtRuntimeFeature46
  it('changes which nodes are for failover only', async () => {
    const nodes = memoryNodes(3)
    const app = await startApp({ ...nodes.options, failoverNodes: 'n2 n3' })
    expect(nodeOf((await app.call('/set?k=v')).announced!)).toBe('n1')
    await app.manager.reconfigure({ failoverNodes: 'n1 n2' })
    expect(nodeOf((await app.call('/set?k=v')).announced!)).toBe('n3')
  })

  it.each([true, false])('takes all sessions along when sticky changes from %s', async (sticky) => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky, sessionBackupAsync: true })
    const sessions = await Promise.all(Array.from({ length: 10 }, (_, i) => app.call(`/set?i=${i}`)))
    await app.manager.reconfigure({ sticky: !sticky })
    expect(app.manager.health().mode).toBe(sticky ? 'non-sticky' : 'sticky')
    for (const [i, { announced }] of sessions.entries()) {
      expect((await app.call(`/set?more=${i}`, announced)).body.attributes).toEqual({ i: `${i}`, more: `${i}` })
    }
    await app.manager.reconfigure({ sticky })
    for (const [i, { announced }] of sessions.entries()) {
      expect((await app.call('/get', announced)).body.attributes).toEqual({ i: `${i}`, more: `${i}` })
    }
  })

  it('waits for requests under way when sticky changes, and lets new ones wait', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp({ ...nodes.options, sticky: true }, (express) => {
      express.get('/slow', async (request, response) => {
        await sleep(100)
        request.session.slow = 1
        response.json({ id: request.session.id, attributes: {} })
      })
    })
    const { announced } = await app.call('/set?k=v')
    const slow = app.call('/slow', announced)
    await sleep(30)
    const change = app.manager.reconfigure({ sticky: false })
    const during = app.call('/set?during=1', announced)
    await Promise.all([slow, change, during])
    expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v', slow: 1, during: '1' })
  })

  // testDisableMsmAtRuntime, testStartMsmDisabled
  it('switches storage off and on', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, enabled: false })
    nodes.get('n1').stop()
    const { announced } = await app.call('/set?k=v')
    expect(announced).toMatch(/^[0-9A-F]{32}$/)
    expect(nodes.log).toEqual([])
    nodes.get('n1').start()
    await app.manager.reconfigure({ enabled: true })
    const found = await app.call('/get', announced)
    expect(found.announced).toBe(`${announced}-n1`)
    expect(await nodes.get('n1').get(found.announced!)).toBeDefined()
    await app.manager.reconfigure({ enabled: false })
    nodes.log.length = 0
    expect((await app.call('/set?k=w', found.announced)).body.attributes).toEqual({ k: 'w' })
    expect(nodes.log).toEqual([])
  })

  it('changes locking, timeouts and idle time', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({ ...nodes.options, sticky: false })
    const { announced } = await app.call('/set?k=v')
    await app.manager.reconfigure({
      lockingMode: 'all',
      lockExpiration: 9,
      operationTimeout: 700,
      maxInactiveInterval: 60,
    })
    nodes.log.length = 0
    await app.call('/get', announced)
    expect(nodes.log).toContain(`add n1 lock:${announced}`)
    expect(app.manager.options).toMatchObject({ lockExpiration: 9, operationTimeout: 700, maxInactiveInterval: 60 })
    expect((await app.call('/get', announced)).body.attributes).toEqual({ k: 'v' })
  })

  it('refuses what is wrong or can not be changed, and goes on as before', async () => {
    const nodes = memoryNodes(2)
    const app = await startApp(nodes.options)
    await expect(app.manager.reconfigure({ memcachedNodes: 'n1:h' })).rejects.toThrow(TypeError)
    await expect(app.manager.reconfigure({ transcoder: 'json' } as never)).rejects.toThrow(
      /transcoder: can't be changed/,
    )
    expect((await app.call('/set?k=v')).status).toBe(200)
    expect(app.manager.nodes).toHaveLength(2)
  })

  it('leaves no connection to a node that is gone', async () => {
    const [one, other] = [await startMemcached(), await startMemcached()]
    onTestFinished(async () => {
      await one.stop()
      await other.stop()
    })
    const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
    const app = await startApp({ memcachedNodes: `n1:127.0.0.1:${one.port}` })
    await app.call('/set?k=v')
    const before = sockets()
    await app.manager.reconfigure({ memcachedNodes: `n1:127.0.0.1:${other.port}` })
    await app.call('/set?k=v')
    await expect.poll(sockets).toBeLessThanOrEqual(before)
  })
})
