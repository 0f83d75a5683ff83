import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { SessionManagerError } from '../../lib/errors.ts'
import type { NodeAddress, StorageClient } from '../../lib/ports.ts'
import { StorageNode } from '../../lib/storage/storage-node.ts'

const address: NodeAddress = { nodeId: 'n1', kind: 'memory', host: '', port: 0, label: 'n1:in-memory' }
const TIMEOUT = 100
const value = Buffer.from('value')

/** A guarded client whose methods can be replaced, and what was observed of it. */
function guarded(replaced: Partial<StorageClient> = {}) {
  const memory = new MemoryStorageClient()
  const asked: string[] = []
  const client = new Proxy(memory, {
    get(_target, method: keyof StorageClient) {
      const operation = (replaced[method] ?? (memory as StorageClient)[method]) as
        | ((...args: unknown[]) => unknown)
        | undefined
      if (!operation) return undefined
      return (...args: unknown[]) => {
        asked.push(method)
        return operation.apply(memory, args)
      }
    },
  })
  const observer = { operation: vi.fn(), down: vi.fn() }
  const node = new StorageNode(address, client, { operationTimeout: TIMEOUT, maxItemSize: 1000 }, observer)
  return { node, asked, observer }
}

const never = (): Promise<never> => new Promise(() => {})

describe('an operation that is not answered', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it.each<[string, (node: StorageNode) => Promise<unknown>]>([
    ['get', (node) => node.get('k')],
    ['set', (node) => node.set('k', value, 0)],
    ['add', (node) => node.add('k', value, 0)],
    ['replace', (node) => node.replace('k', value, 0)],
    ['compareAndSwap', (node) => node.compareAndSwap('k', value, 0, 1)],
    ['delete', (node) => node.delete('k')],
    ['deleteIfEquals', (node) => node.deleteIfEquals('k', value)],
    ['touch', (node) => node.touch('k', 0)],
    ['probe', (node) => node.probe()],
  ])('is given up after operationTimeout, whatever the client does: %s', async (method, run) => {
    const { node, asked, observer } = guarded({ [method]: never })
    const failed = expect(run(node)).rejects.toMatchObject({ code: 'ERR_MSM_TIMEOUT' })
    await vi.advanceTimersByTimeAsync(TIMEOUT - 1)
    expect(node.isAvailable).toBe(true)
    await vi.advanceTimersByTimeAsync(1)
    await failed
    expect(asked).toEqual([method, 'reset'])
    expect(node.isAvailable).toBe(false)
    expect(observer.down).toHaveBeenCalledOnce()
    expect(observer.operation).toHaveBeenCalledExactlyOnceWith(node, true, true)
  })

  it('does not keep others waiting, and its late answer is nobody else’s', async () => {
    let answer = (_item: undefined): void => {}
    const { node } = guarded({
      get: (key) =>
        key === 'slow' ? new Promise((resolve) => (answer = resolve)) : Promise.resolve({ value, version: 1 }),
    })
    const slow = expect(node.get('slow')).rejects.toMatchObject({ code: 'ERR_MSM_TIMEOUT' })
    // Operations that go on all the time: memjs starts its timeout anew with each of them.
    for (let i = 0; i < 9; i++) {
      await vi.advanceTimersByTimeAsync(10)
      expect(await node.get('fast')).toEqual({ value, version: 1 })
    }
    await vi.advanceTimersByTimeAsync(10)
    await slow
    answer(undefined)
  })

  it('takes no node down if it was this process that did not run, and the answer is there', async () => {
    vi.useRealTimers()
    const { node } = guarded({
      get: () => new Promise((resolve) => setTimeout(() => setImmediate(() => resolve(undefined)), 20)),
    })
    const got = node.get('k')
    const end = performance.now() + 3 * TIMEOUT
    while (performance.now() < end);
    await expect(got).resolves.toBeUndefined()
    expect(node.isAvailable).toBe(true)
  })
})

describe('what must not be sent', () => {
  it.each<[string, (node: StorageNode) => Promise<unknown>]>([
    ['an empty key', (node) => node.get('')],
    ['a key of 251 bytes', (node) => node.get('k'.repeat(251))],
    ['a key with a space', (node) => node.get('a b')],
    ['a key with a line break', (node) => node.set('a\r\nflush_all', value, 0)],
    ['a key that is no ASCII', (node) => node.delete('é')],
    ['a value over the limit', (node) => node.set('k', Buffer.alloc(1001), 0)],
    ['a negative expiry', (node) => node.set('k', value, -1)],
    ['half a second', (node) => node.add('k', value, 0.5)],
    ['no number as expiry', (node) => node.touch('k', Number.NaN)],
  ])('never reaches the client: %s', async (_what, run) => {
    const { node, asked } = guarded()
    await expect(run(node)).rejects.toMatchObject({ code: 'ERR_MSM_INVALID_ITEM' })
    expect(asked).toEqual([])
    expect(node.isAvailable).toBe(true)
  })
})

describe('the state of a node', () => {
  const failing = (code: 'ERR_MSM_STORAGE_REFUSED' | 'ERR_MSM_NODE_UNAVAILABLE') =>
    guarded({ get: () => Promise.reject(new SessionManagerError(code, 'no')) })

  it('is down after a failed connection, and then it is not asked', async () => {
    const { node, asked, observer } = failing('ERR_MSM_NODE_UNAVAILABLE')
    await expect(node.get('k')).rejects.toThrow('no')
    await expect(node.get('k')).rejects.toMatchObject({ code: 'ERR_MSM_NODE_UNAVAILABLE' })
    expect(asked).toEqual(['get'])
    expect(observer.down).toHaveBeenCalledOnce()
    await expect(node.probe()).resolves.toBeTypeOf('string')
    node.markUp()
    expect(node.isAvailable).toBe(true)
  })

  it('stays up if it answers, but refuses', async () => {
    const { node } = failing('ERR_MSM_STORAGE_REFUSED')
    await expect(node.get('k')).rejects.toThrow('no')
    expect(node.isAvailable).toBe(true)
    expect([node.operations, node.failures]).toEqual([1, 1])
  })

  it('lets what is under way end before it is closed', async () => {
    let answer = (): void => {}
    const { node, asked } = guarded({ set: () => new Promise<void>((resolve) => (answer = resolve)) })
    const set = node.set('k', value, 0)
    const closed = node.close()
    await Promise.resolve()
    expect(asked).toEqual(['set'])
    answer()
    await Promise.all([set, closed])
    expect(asked).toEqual(['set', 'close'])
  })
})

it('asks for several keys in one go where the client can, and for one after the other where it can not', async () => {
  const item = { value: Buffer.from('v'), version: 1 }
  const able = guarded({ getMany: async (keys) => keys.map((key) => (key === 'k2' ? item : undefined)) })
  expect(await able.node.getMany(['k1', 'k2'])).toEqual([undefined, item])
  expect(able.asked).toEqual(['getMany'])
  await expect(able.node.getMany(['k1', 'not a key'])).rejects.toMatchObject({ code: 'ERR_MSM_INVALID_ITEM' })
  expect(able.asked).toEqual(['getMany'])
  const plain = guarded()
  await plain.node.set('k2', Buffer.from('v'), 0)
  expect(await plain.node.getMany(['k1', 'k2'])).toMatchObject([undefined, { value: Buffer.from('v') }])
  expect(plain.asked).toEqual(['set', 'get', 'get'])
})

it('gives up asking for several keys when the deadline has passed', async () => {
  const { node } = guarded({ getMany: never, reset() {} })
  await expect(node.getMany(['k1', 'k2'])).rejects.toMatchObject({ code: 'ERR_MSM_TIMEOUT' })
  expect(node.isAvailable).toBe(false)
})
