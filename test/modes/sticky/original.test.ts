import { describe, expect, it, vi } from 'vitest'
import type { SessionManagerOptions, StorageClientFactory } from '../../../lib/index.ts'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

const next = (nodeId: string, count: number): string => `n${(Number(nodeId.slice(1)) % count) + 1}`

function start(nodes: MemoryNodes, options: SessionManagerOptions = {}): Promise<App> {
  return startApp({ ...nodes.options, sessionBackupAsync: false, ...options }, (app) => {
    app.get('/remove', (request, response) => {
      delete request.session.foo
      response.json({ id: request.session.id, attributes: request.session })
    })
  })
}

describe('what the tests of the original assert of sticky mode, besides what other tests here do', () => {
  it('testSessionUpdatedInMemcachedWhenSessionAttributeIsRemovedIssue106', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes, { jvmRoute: 'app1' })
    const { announced } = await app.call('/set?foo=bar')
    expect((await app.call('/get', announced)).body).toEqual({ id: announced, attributes: { foo: 'bar' } })
    await app.call('/remove', announced)
    const other = await start(nodes, { jvmRoute: 'app1' })
    expect((await other.call('/get', announced)).body).toEqual({ id: announced, attributes: {} })
  })

  it('testSessionIdIsNotChangedIfSingleNodeWithNoMemcachedNodeIdConfigured, testSessionFoundIf…, testTomcatFailoverWithSingleNodeWithoutConfiguredNodeId', async () => {
    const nodes = memoryNodes(1)
    // The same node, but without a name in session ids.
    const factory = nodes.options.storage as StorageClientFactory
    const storage: StorageClientFactory = (address, options) => factory({ ...address, nodeId: 'n1' }, options)
    const single = { memcachedNodes: 'in-memory:1', storage }
    const first = await start(nodes, { ...single, jvmRoute: 'tc1' })
    const { announced } = await first.call('/set?foo=bar')
    expect(announced).toMatch(/^[0-9A-F]{32}\.tc1$/)
    const again = await first.call('/get', announced)
    expect(again.body).toEqual({ id: announced, attributes: { foo: 'bar' } })
    expect(again.announced).toBeUndefined()
    const second = await start(nodes, { ...single, jvmRoute: 'tc2' })
    const moved = await second.call('/get', announced)
    expect(moved.announced).toBe(announced!.replace('tc1', 'tc2'))
    expect(moved.body.attributes).toEqual({ foo: 'bar' })
    expect(await nodes.get('n1').get(announced!)).toBeUndefined()
    expect(await nodes.get('n1').get(moved.announced!)).toBeDefined()
  })

  it('testConfiguredMemcachedNodeId, testSessionIdJvmRouteCompatibility', async () => {
    const { announced } = await (await start(memoryNodes(1), { jvmRoute: 'app1' })).call('/set?foo=bar')
    expect(announced).toMatch(/^[^-.]+-n1\.app1$/)
  })

  it('testInvalidSessionId', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes)
    const { status, announced } = await app.call('/set?foo=bar', '12345')
    expect(status).toBe(200)
    expect(announced).toMatch(/^[0-9A-F]{32}-n1$/)
    expect(nodes.log).toEqual([`set n1 ${announced}`])
  })

  it('testMultipleMemcachedNodesFailure', async () => {
    const nodes = memoryNodes(3)
    const app = await start(nodes)
    const { announced } = await app.call('/set?foo=bar')
    const own = announced!.slice(33)
    const left = next(own, 3)
    nodes.get(own).stop()
    nodes.get(next(left, 3)).stop()
    const moved = await app.call('/set?more=1', announced)
    expect(moved.announced).toBe(`${announced!.slice(0, 32)}-${left}`)
    const after = await app.call('/get', moved.announced)
    expect(after.announced).toBeUndefined()
    expect(after.body.attributes).toEqual({ foo: 'bar', more: '1' })
    expect(await nodes.get(left).get(moved.announced!)).toBeDefined()
  })

  it('testBackupSessionFailureWithoutMemcachedNodeIdConfigured105: one attempt, and the failure is told', async () => {
    const nodes = memoryNodes(1)
    const app = await start(nodes)
    const { announced } = await app.call('/set?foo=bar')
    const set = vi.spyOn(nodes.get('n1'), 'set').mockRejectedValue(new Error('no'))
    const failures: unknown[] = []
    app.manager.on('backupFailed', (event) => void failures.push(event))
    expect((await app.call('/set?foo=baz', announced)).body.attributes).toEqual({ foo: 'baz' })
    expect(set).toHaveBeenCalledOnce()
    expect(failures).toHaveLength(1)
    expect(app.manager.statistics.msmStatNumBackupFailures).toBe(1)
  })

  it('testHttpSessionActivationListenersNotifiedOnLoadWithoutJvmRoute: without routes the id stays', async () => {
    const nodes = memoryNodes(1)
    const { announced } = await (await start(nodes)).call('/set?foo=bar')
    const taken = await (await start(nodes)).call('/get', announced)
    expect(taken.body).toEqual({ id: announced, attributes: { foo: 'bar' } })
    expect(taken.announced).toBeUndefined()
  })

  it('testSessionModificationOnTomcatFailoverNotLost: the request that takes a session over may change it', async () => {
    const nodes = memoryNodes(1)
    const { announced } = await (await start(nodes, { jvmRoute: 'tc1' })).call('/set?foo=bar')
    const second = await start(nodes, { jvmRoute: 'tc2' })
    const moved = await second.call('/set?more=1', announced)
    expect(moved.announced).toBe(announced!.replace('tc1', 'tc2'))
    expect((await second.call('/get', moved.announced)).body.attributes).toEqual({ foo: 'bar', more: '1' })
  })
})
