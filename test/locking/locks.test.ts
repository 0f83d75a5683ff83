import { afterEach, describe, expect, it, vi } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { LockQueue } from '../../lib/locking/lock-queue.ts'
import { ReadOnlyRequests } from '../../lib/locking/read-only-requests.ts'
import { StorageLock } from '../../lib/locking/storage-lock.ts'
import { StorageNode } from '../../lib/storage/storage-node.ts'

afterEach(() => void vi.useRealTimers())

describe('the queue of a process', () => {
  it('grants at once what is free, and then in the order of asking', async () => {
    const queue = new LockQueue()
    expect(queue.enter('k', 1000)).toBe(true)
    const order: number[] = []
    const waiting = [1, 2, 3].map(async (i) => {
      expect(await queue.enter('k', 1000)).toBe(true)
      order.push(i)
      queue.leave('k')
    })
    expect(queue.hasWaiting('k')).toBe(true)
    queue.leave('k')
    await Promise.all(waiting)
    expect(order).toEqual([1, 2, 3])
    expect(queue.size).toBe(0)
  })

  it('keeps keys apart', () => {
    const queue = new LockQueue()
    expect(queue.enter('one', 1000)).toBe(true)
    expect(queue.enter('other', 1000)).toBe(true)
  })

  it('lets no one wait for longer than he wants, and passes him over', async () => {
    vi.useFakeTimers()
    const queue = new LockQueue()
    queue.enter('k', 0)
    const impatient = queue.enter('k', 50)
    const patient = queue.enter('k', 500)
    await vi.advanceTimersByTimeAsync(50)
    expect(await impatient).toBe(false)
    queue.leave('k')
    expect(await patient).toBe(true)
    queue.leave('k')
    expect(queue.size).toBe(0)
  })
})

describe('a lock in a store', () => {
  function node(): { node: StorageNode; client: MemoryStorageClient } {
    const client = new MemoryStorageClient()
    const observer = { operation: () => {}, down: () => {} }
    const address = { nodeId: 'n1', kind: 'memory', host: '', port: 0, label: 'n1' } as const
    return { client, node: new StorageNode(address, client, { operationTimeout: 1000, maxItemSize: 1000 }, observer) }
  }
  const never = (): void => expect.unreachable()

  it('is for one owner at a time, and only that one gives it back', async () => {
    const { node: one, client } = node()
    const lock = (await StorageLock.take(one, 'lock', 5, 0, never))!
    expect(lock.isHeld).toBe(true)
    expect(await StorageLock.take(one, 'lock', 5, 30, never)).toBeUndefined()
    // It expired, and another has it now.
    await client.set('lock', Buffer.from('another'), 5)
    await lock.release()
    expect((await client.get('lock'))?.value.toString()).toBe('another')
  })

  it('is given to who waits, soon after it is given back', async () => {
    const { node: one } = node()
    const lock = (await StorageLock.take(one, 'lock', 5, 0, never))!
    const waiting = StorageLock.take(one, 'lock', 5, 5000, never)
    await lock.release()
    const next = await waiting
    expect(next?.isHeld).toBe(true)
    await next!.release()
  })

  it('is renewed while its owner lives', async () => {
    const { node: one, client } = node()
    const lock = (await StorageLock.take(one, 'lock', 1, 0, never))!
    const swap = vi.spyOn(client, 'compareAndSwap')
    await expect.poll(() => swap.mock.calls.length, { timeout: 5000 }).toBeGreaterThan(3)
    expect(lock.isHeld).toBe(true)
    expect(await client.get('lock')).toBeDefined()
    await lock.release()
    expect(await client.get('lock')).toBeUndefined()
  })

  it('tells its owner when another has it', async () => {
    const { node: one, client } = node()
    const lost = vi.fn()
    const lock = (await StorageLock.take(one, 'lock', 1, 0, lost))!
    await client.set('lock', Buffer.from('another'), 5)
    await expect.poll(() => lost.mock.calls.length).toBe(1)
    expect(lock.isHeld).toBe(false)
  })

  it('is found to be ours if the answer to taking it was lost', async () => {
    const { node: one, client } = node()
    const add = client.add.bind(client)
    const unavailable = Object.assign(new Error('reset'), { code: 'ECONNRESET' })
    vi.spyOn(client, 'add').mockImplementationOnce(async (...args) => {
      await add(...args)
      throw unavailable
    })
    vi.spyOn(one, 'isAvailable', 'get').mockReturnValue(true)
    vi.spyOn(one, 'markDown').mockImplementation(() => {})
    expect((await StorageLock.take(one, 'lock', 5, 0, never))?.isHeld).toBe(true)
  })
})

// ReadOnlyRequestsCacheTest
describe("what lockingMode 'auto' learns", () => {
  it('is that a request is read-only, until it changes something, and then never again', () => {
    const requests = new ReadOnlyRequests()
    expect(requests.isReadOnly('GET', '/a')).toBe(false)
    requests.learn('GET', '/a', false)
    expect(requests.isReadOnly('GET', '/a?page=2')).toBe(true)
    expect(requests.isReadOnly('POST', '/a')).toBe(false)
    requests.learn('GET', '/a', true)
    requests.learn('GET', '/a', false)
    expect(requests.isReadOnly('GET', '/a')).toBe(false)
  })

  it('is bounded, and forgotten after its time', () => {
    vi.useFakeTimers()
    const requests = new ReadOnlyRequests({ maxReadOnly: 2, maxModifying: 1, lifetime: 1000 })
    for (const path of ['/a', '/b', '/c']) requests.learn('GET', path, false)
    expect(['/a', '/b', '/c'].map((path) => requests.isReadOnly('GET', path))).toEqual([false, true, true])
    vi.advanceTimersByTime(1000)
    expect(requests.isReadOnly('GET', '/c')).toBe(false)
    requests.learn('GET', '/d', true)
    vi.advanceTimersByTime(1000)
    requests.learn('GET', '/d', false)
    expect(requests.isReadOnly('GET', '/d')).toBe(true)
  })
})
