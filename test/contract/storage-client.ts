import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { NodeAddress, StorageClient, StorageClientFactory, StorageClientOptions } from '../../lib/ports.ts'

/** A server (or whatever holds the items) that the contract is checked against. */
export interface StorageUnderTest {
  /** All clients it makes for the address see the same items. */
  readonly factory: StorageClientFactory
  readonly address: NodeAddress
  /** Makes the server forget everything and be a new process, at the same address. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export const silentLogger: StorageClientOptions['logger'] = { info() {}, warn() {}, error() {} }

export const clientOptions: StorageClientOptions = { operationTimeout: 5000, logger: silentLogger }

const DAY = 86_400

let keys = 0
/** A key that no other test uses. */
export function uniqueKey(): string {
  keys++
  return `key-${process.pid}-${keys}`
}

/** The suite that every StorageClient has to pass. `start` is called once, and has to start a real server. */
export function storageClientContract(name: string, { start }: { start(): Promise<StorageUnderTest> }): void {
  describe(`${name} as a StorageClient`, () => {
    let node: StorageUnderTest
    let client: StorageClient
    let key: string
    const value = Buffer.from('value')
    const other = Buffer.from('another value')
    const read = async (k: string): Promise<string | undefined> => (await client.get(k))?.value.toString()

    beforeAll(async () => {
      node = await start()
    })
    afterAll(() => node.stop())
    beforeEach(() => {
      client = node.factory(node.address, clientOptions)
      key = uniqueKey()
    })
    afterEach(() => client.close())

    describe('get and set', () => {
      it('answer undefined for a key that is not there', async () => {
        expect(await client.get(key)).toBeUndefined()
      })

      it('give back the value that was set, and the latest one', async () => {
        await client.set(key, value, 100)
        expect(await read(key)).toBe('value')
        await client.set(key, other, 0)
        expect(await read(key)).toBe('another value')
      })

      it('answer for several keys of a session at once, each with a version of its own, if the client can', async () => {
        if (!client.getMany) return
        const id = randomBytes(16).toString('hex').toUpperCase()
        const names = [`${id}-n1`, `validity:${id}-n1`, `bak:${id}-n1`]
        await client.set(names[0]!, value, 100)
        await client.set(names[2]!, other, 100)
        const [first, second, third] = await client.getMany(names)
        expect([first?.value, second, third?.value]).toEqual([value, undefined, other])
        expect(await client.compareAndSwap(names[2]!, value, 100, third?.version)).toBe('stored')
        expect(await client.compareAndSwap(names[0]!, other, 100, third?.version)).toBe('conflict')
      })

      it('keep every byte', async () => {
        const bytes = Buffer.from(Array.from({ length: 1024 }, (_, index) => index & 0xff))
        await client.set(key, bytes, 100)
        expect((await client.get(key))?.value.equals(bytes)).toBe(true)
      })

      it('keep an empty value, which is not a miss', async () => {
        await client.set(key, Buffer.alloc(0), 100)
        expect((await client.get(key))?.value).toEqual(Buffer.alloc(0))
      })

      it('keep a value of nearly 1 MiB', async () => {
        const large = Buffer.alloc(1_048_000, 'large ')
        await client.set(key, large, 100)
        expect((await client.get(key))?.value.equals(large)).toBe(true)
      })

      it('keep a key of 250 characters', async () => {
        const long = `${key}${'!'.repeat(250 - key.length)}`
        await client.set(long, value, 100)
        expect(await read(long)).toBe('value')
      })

      it('do not look at the buffer again once the value is set', async () => {
        const buffer = Buffer.from('value')
        await client.set(key, buffer, 100)
        buffer.fill('x')
        expect(await read(key)).toBe('value')
      })

      it('hand out values that no later operation changes', async () => {
        await client.set(key, value, 100)
        const item = await client.get(key)
        await client.set(key, other, 100)
        await Promise.all(Array.from({ length: 50 }, () => client.get(key)))
        expect(item?.value.toString()).toBe('value')
      })

      it('hand out values whose changes do not reach the store', async () => {
        await client.set(key, value, 100)
        const item = await client.get(key)
        item?.value.fill('x')
        expect(await read(key)).toBe('value')
      })
    })

    describe('add', () => {
      it('stores only what is absent', async () => {
        expect(await client.add(key, value, 100)).toBe(true)
        expect(await client.add(key, other, 100)).toBe(false)
        expect(await read(key)).toBe('value')
      })

      it('stores without an expiry, too', async () => {
        expect(await client.add(key, value, 0)).toBe(true)
        expect(await client.add(key, other, 0)).toBe(false)
      })

      it('stores again after a delete', async () => {
        await client.add(key, value, 100)
        await client.delete(key)
        expect(await client.add(key, other, 100)).toBe(true)
      })

      it('lets exactly one of many at the same time win', async () => {
        const second = node.factory(node.address, clientOptions)
        const clients = [client, second]
        const results = await Promise.all(
          Array.from({ length: 40 }, (_, index) => clients[index % 2]!.add(key, Buffer.from(`${index}`), 100)),
        )
        await second.close()
        expect(results.filter(Boolean)).toHaveLength(1)
        expect(await read(key)).toBe(`${results.indexOf(true)}`)
      })
    })

    describe('replace', () => {
      it('stores only what is present', async () => {
        expect(await client.replace(key, value, 100)).toBe(false)
        expect(await client.get(key)).toBeUndefined()
        await client.set(key, value, 100)
        expect(await client.replace(key, other, 100)).toBe(true)
        expect(await client.replace(key, value, 0)).toBe(true)
        expect(await read(key)).toBe('value')
      })

      it('does not bring back what was deleted', async () => {
        await client.set(key, value, 100)
        await client.delete(key)
        expect(await client.replace(key, other, 0)).toBe(false)
        expect(await client.get(key)).toBeUndefined()
      })
    })

    describe('compareAndSwap', () => {
      it('stores over the version that it names', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        expect(await client.compareAndSwap(key, other, 100, base?.version)).toBe('stored')
        expect(await read(key)).toBe('another value')
      })

      it('finds a conflict after a change, and leaves it', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        await client.set(key, other, 100)
        expect(await client.compareAndSwap(key, Buffer.from('late'), 100, base?.version)).toBe('conflict')
        expect(await read(key)).toBe('another value')
      })

      it('finds a conflict after its own success', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        expect(await client.compareAndSwap(key, other, 0, base?.version)).toBe('stored')
        expect(await client.compareAndSwap(key, value, 0, base?.version)).toBe('conflict')
      })

      it('finds the item missing after a delete, and does not bring it back', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        await client.delete(key)
        expect(await client.compareAndSwap(key, other, 100, base?.version)).toBe('missing')
        expect(await client.get(key)).toBeUndefined()
      })

      it('finds a conflict with another item under the key', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        await client.delete(key)
        await client.add(key, other, 100)
        expect(await client.compareAndSwap(key, value, 100, base?.version)).toBe('conflict')
      })

      it('works for an empty value', async () => {
        await client.set(key, Buffer.alloc(0), 100)
        const base = await client.get(key)
        expect(await client.compareAndSwap(key, Buffer.alloc(0), 100, base?.version)).toBe('stored')
      })

      it('does not see a touch as a change', async () => {
        await client.set(key, value, 100)
        const base = await client.get(key)
        await client.touch(key, 200)
        expect(await client.compareAndSwap(key, other, 100, base?.version)).toBe('stored')
      })

      it('loses no update of many at the same time', async () => {
        const second = node.factory(node.address, clientOptions)
        await client.set(key, Buffer.from('0'), 100)
        const increment = async (using: StorageClient): Promise<void> => {
          for (;;) {
            const base = await using.get(key)
            const next = Buffer.from(`${Number(base?.value) + 1}`)
            if ((await using.compareAndSwap(key, next, 100, base?.version)) === 'stored') return
          }
        }
        await Promise.all(Array.from({ length: 20 }, (_, index) => increment(index % 2 ? client : second)))
        await second.close()
        expect(await read(key)).toBe('20')
      })

      it('never overwrites with a version that another client read', async () => {
        const second = node.factory(node.address, clientOptions)
        await client.set(key, value, 100)
        const base = await second.get(key)
        await second.close()
        await client.set(key, other, 100)
        expect(await client.compareAndSwap(key, value, 100, base?.version)).toBe('conflict')
        await client.delete(key)
        expect(await client.compareAndSwap(key, value, 100, base?.version)).toBe('missing')
      })
    })

    describe('delete and deleteIfEquals', () => {
      it('remove what is there and say whether it was', async () => {
        await client.set(key, value, 100)
        expect(await client.delete(key)).toBe(true)
        expect(await client.get(key)).toBeUndefined()
        expect(await client.delete(key)).toBe(false)
      })

      it('remove a value only if it is the given one', async () => {
        await client.set(key, value, 100)
        expect(await client.deleteIfEquals(key, Buffer.from('valu'))).toBe(false)
        expect(await client.deleteIfEquals(key, other)).toBe(false)
        expect(await read(key)).toBe('value')
        expect(await client.deleteIfEquals(key, value)).toBe(true)
        expect(await client.get(key)).toBeUndefined()
        expect(await client.deleteIfEquals(key, value)).toBe(false)
      })

      it('compare every byte', async () => {
        const bytes = Buffer.from([0, 255, 13, 10, 0])
        await client.set(key, bytes, 100)
        expect(await client.deleteIfEquals(key, Buffer.from([0, 255, 13, 10, 1]))).toBe(false)
        expect(await client.deleteIfEquals(key, bytes)).toBe(true)
      })

      it('never remove what another one has put there meanwhile', async () => {
        const second = node.factory(node.address, clientOptions)
        for (let round = 0; round < 30; round++) {
          await client.set(key, value, 100)
          await Promise.all([client.deleteIfEquals(key, value), second.set(key, other, 100)])
          expect(await read(key)).toBe('another value')
        }
        await second.close()
      })

      it('let exactly one of many remove it', async () => {
        await client.set(key, value, 100)
        const results = await Promise.all(Array.from({ length: 20 }, () => client.deleteIfEquals(key, value)))
        expect(results.filter(Boolean)).toHaveLength(1)
      })
    })

    describe('touch and expiry', () => {
      it('say whether the touched key is there, with and without an expiry', async () => {
        expect(await client.touch(key, 100)).toBe(false)
        expect(await client.touch(key, 0)).toBe(false)
        await client.set(key, value, 0)
        expect(await client.touch(key, 0)).toBe(true)
        expect(await client.touch(key, 100)).toBe(true)
        expect(await client.touch(key, 0)).toBe(true)
        expect(await read(key)).toBe('value')
      })

      it('remove an item after its seconds, whichever operation gave them, and no other', async () => {
        const stored = (name: string, ttl: number): Promise<void> => client.set(`${key}-${name}`, value, ttl)
        await Promise.all(
          ['replace', 'swap', 'touch', 'longer', 'stays', 'forever', 'untouched'].map((k) => stored(k, 1)),
        )
        const base = await client.get(`${key}-swap`)
        await Promise.all([
          // Each of these is to go,
          stored('set', 1),
          client.add(`${key}-add`, value, 1),
          client.replace(`${key}-replace`, value, 1),
          client.compareAndSwap(`${key}-swap`, value, 1, base?.version),
          client.touch(`${key}-touch`, 1),
          // and each of these to stay.
          client.touch(`${key}-longer`, 100),
          stored('stays', 100),
          stored('forever', 0),
          client.touch(`${key}-untouched`, 0),
          stored('31 days', 31 * DAY),
          client.add(`${key}-a year`, value, 365 * DAY),
        ])
        const present = async (names: string[]): Promise<string[]> => {
          const items = await Promise.all(names.map((k) => client.get(`${key}-${k}`)))
          return names.filter((_, index) => items[index] !== undefined)
        }
        const going = ['set', 'add', 'replace', 'swap', 'touch']
        const staying = ['longer', 'stays', 'forever', 'untouched', '31 days', 'a year']
        expect(await present(staying)).toEqual(staying)
        await vi.waitFor(async () => expect(await present(going)).toEqual([]), { timeout: 8000, interval: 50 })
        expect(await present(staying)).toEqual(staying)
        // What has expired is absent for every operation.
        expect(await client.touch(`${key}-set`, 100)).toBe(false)
        expect(await client.replace(`${key}-set`, value, 100)).toBe(false)
        expect(await client.delete(`${key}-replace`)).toBe(false)
        expect(await client.compareAndSwap(`${key}-swap`, value, 100, base?.version)).toBe('missing')
        expect(await client.add(`${key}-add`, value, 100)).toBe(true)
      })

      it('take expiries beyond 30 days from every operation', async () => {
        expect(await client.add(key, value, 31 * DAY)).toBe(true)
        expect(await client.replace(key, value, 31 * DAY)).toBe(true)
        const base = await client.get(key)
        expect(await client.compareAndSwap(key, other, 31 * DAY, base?.version)).toBe('stored')
        expect(await client.touch(key, 31 * DAY)).toBe(true)
        expect(await read(key)).toBe('another value')
      })

      it('take an expiry of 30 days and the largest one that is possible', async () => {
        await client.set(key, value, 30 * DAY)
        expect(await read(key)).toBe('value')
        await client.set(key, other, Number.MAX_SAFE_INTEGER)
        expect(await read(key)).toBe('another value')
      })
    })

    describe('many operations at once', () => {
      it('keep their replies apart', async () => {
        const numbers = Array.from({ length: 1000 }, (_, index) => index)
        await Promise.all(numbers.map((n) => client.set(`${key}-${n}`, Buffer.from(`value ${n}`), 100)))
        const results = await Promise.all(
          numbers.map(async (n) => {
            if (n % 5 === 0) return client.touch(`${key}-${n}`, 100)
            if (n % 5 === 1) return client.get(`${key}-none-${n}`)
            if (n % 5 === 2) return client.add(`${key}-${n}`, value, 100)
            return read(`${key}-${n}`)
          }),
        )
        expect(results).toEqual(
          numbers.map((n) => [true, undefined, false][n % 5] ?? (n % 5 > 2 ? `value ${n}` : undefined)),
        )
      })

      it('on one key take effect in the order in which they were asked for', async () => {
        const operations = Array.from({ length: 100 }, (_, index) => client.set(key, Buffer.from(`${index}`), 100))
        const last = read(key)
        await Promise.all(operations)
        expect(await last).toBe('99')
      })
    })

    describe('probe', () => {
      it('identifies the server process, over a new connection, too', async () => {
        const identity = await client.probe()
        expect(identity).not.toBe('')
        expect(await client.probe()).toBe(identity)
        client.reset()
        expect(await client.probe()).toBe(identity)
        const second = node.factory(node.address, clientOptions)
        expect(await second.probe()).toBe(identity)
        await second.close()
      })

      it('answers the same when asked many times at once', async () => {
        const identities = await Promise.all(Array.from({ length: 10 }, () => client.probe()))
        expect(new Set(identities).size).toBe(1)
      })

      it('tells another process after a restart, which has lost everything', async () => {
        const before = await client.probe()
        await client.set(key, value, 100)
        await node.restart()
        expect(await client.probe()).not.toBe(before)
        expect(await client.get(key)).toBeUndefined()
      })
    })

    describe('reset and close', () => {
      it('go on working after a reset, before and after the first call', async () => {
        client.reset()
        await client.set(key, value, 100)
        client.reset()
        client.reset()
        expect(await read(key)).toBe('value')
      })

      it('reject every call after close, without connecting again', async () => {
        await client.get(key)
        await client.close()
        const closed = { code: 'ERR_MSM_STATE' }
        await expect(client.get(key)).rejects.toMatchObject(closed)
        await expect(client.set(key, value, 1)).rejects.toMatchObject(closed)
        await expect(client.add(key, value, 1)).rejects.toMatchObject(closed)
        await expect(client.replace(key, value, 1)).rejects.toMatchObject(closed)
        await expect(client.compareAndSwap(key, value, 1, Buffer.alloc(0))).rejects.toMatchObject(closed)
        await expect(client.delete(key)).rejects.toMatchObject(closed)
        await expect(client.deleteIfEquals(key, value)).rejects.toMatchObject(closed)
        await expect(client.touch(key, 1)).rejects.toMatchObject(closed)
        await expect(client.probe()).rejects.toMatchObject(closed)
        expect(() => client.reset()).not.toThrow()
      })

      it('close twice, and without ever having connected', async () => {
        await client.get(key)
        await client.close()
        await client.close()
        await node.factory(node.address, clientOptions).close()
      })

      it('leave no socket and no timer behind', async () => {
        const count = (type: string): number =>
          process.getActiveResourcesInfo().filter((resource) => resource === type).length
        const [sockets, timers] = [count('TCPSocketWrap'), count('Timeout')]
        await Promise.all([client.set(key, value, 100), client.get(key), client.probe()])
        client.reset()
        await client.get(key)
        await client.close()
        const clean = (): boolean => count('TCPSocketWrap') <= sockets && count('Timeout') <= timers
        for (let turn = 0; turn < 100 && !clean(); turn++) await sleep(10)
        expect(clean()).toBe(true)
      })
    })
  })
}
