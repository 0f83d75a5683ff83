import dns from 'node:dns'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { StorageClient } from '../../lib/ports.ts'
import type { Server } from '../support/servers.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { uniqueKey } from './storage-client.ts'

export interface NetworkedStorage {
  startServer(): Promise<Server>
  /** By default with an `operationTimeout` that is long enough not to end a test by itself. */
  connect(host: string, port: number, operationTimeout?: number): StorageClient
}

const UNAVAILABLE = { code: 'ERR_MSM_NODE_UNAVAILABLE' }
const value = Buffer.from('value')
const late = Buffer.from('late')

/** What a StorageClient that talks to a server has to do when the network or the server fails. */
export function storageClientFaultContract(name: string, storage: NetworkedStorage): void {
  describe(`${name} when things fail`, () => {
    let server: Server
    let proxy: TcpProxy
    /** Through the proxy. */
    let client: StorageClient
    /** Past the proxy. */
    let direct: StorageClient
    let key: string
    const read = async (from = client): Promise<string | undefined> => (await from.get(key))?.value.toString()
    const heldBack = async (): Promise<void> => {
      await vi.waitFor(() => expect(proxy.bytes.held).toBeGreaterThan(0), { interval: 2 })
    }
    /** Rejects within a time that no deadline has a part in. */
    const failsAtOnce = async (operation: Promise<unknown>): Promise<void> => {
      const before = performance.now()
      await expect(operation).rejects.toMatchObject(UNAVAILABLE)
      expect(performance.now() - before).toBeLessThan(500)
    }

    beforeAll(async () => {
      server = await storage.startServer()
    })
    afterAll(() => server.stop())
    beforeEach(async () => {
      proxy = await TcpProxy.start(server)
      client = storage.connect(proxy.host, proxy.port)
      direct = storage.connect(server.host, server.port)
      key = uniqueKey()
      await direct.set(key, value, 100)
    })
    afterEach(async () => {
      await Promise.all([client.close(), direct.close()])
      await proxy.stop()
    })

    describe('connecting', () => {
      it('happens with the first call, and once for all that wait for it', async () => {
        await new Promise((resolve) => setImmediate(resolve))
        expect(proxy.connections).toBe(0)
        await Promise.all(Array.from({ length: 20 }, () => client.get(key)))
        expect(proxy.connections).toBe(1)
      })

      it('asks for the address of the host again, each time', async () => {
        const lookup = vi.spyOn(dns, 'lookup')
        const named = storage.connect('localhost', proxy.port)
        await named.get(key)
        named.reset()
        await named.get(key)
        await named.close()
        expect(lookup.mock.calls.map(([host]) => host)).toEqual(['localhost', 'localhost'])
        lookup.mockRestore()
      })

      it('fails the calls that need it when it is refused, and is tried again by the next one', async () => {
        proxy.reset()
        await failsAtOnce(client.get(key))
        await failsAtOnce(Promise.all([client.set(key, late, 100), client.probe()]))
        await proxy.heal()
        expect(await read()).toBe('value')
      })

      it('fails for a host that does not exist', async () => {
        const lost = storage.connect('does-not-exist.invalid', 1)
        await expect(lost.get(key)).rejects.toMatchObject(UNAVAILABLE)
        await lost.close()
      })

      it('is given up by a reset, and what waited for it is never sent', async () => {
        proxy.blackhole()
        const waiting = [client.set(key, late, 100), client.get(key), client.probe()]
        setImmediate(() => client.reset())
        await Promise.all(waiting.map(failsAtOnce))
        await proxy.heal()
        expect(await read()).toBe('value')
      })

      it('is not left half done by a reset or close in the same turn', async () => {
        const dropped = client.get(key)
        client.reset()
        await failsAtOnce(dropped)
        const second = client.get(key)
        const closing = client.close()
        await expect(second).rejects.toMatchObject({ code: 'ERR_MSM_STATE' })
        await closing
        await vi.waitFor(() => expect(proxy.open).toBe(0), { interval: 2 })
      })
    })

    describe('a connection that ends with calls in flight', () => {
      it.each([
        ['cleanly', () => proxy.closeGracefully()],
        ['by a reset of the server', () => proxy.reset()],
      ])('%s fails them at once, and the next call connects anew', async (_how, end) => {
        await client.get(key)
        proxy.silent()
        const inFlight = [client.get(key), client.touch(key, 100), client.probe(), client.deleteIfEquals(key, late)]
        await heldBack()
        end()
        await Promise.all(inFlight.map(failsAtOnce))
        await proxy.heal()
        expect(await read()).toBe('value')
      })

      it('fails them when the server is killed, and works again once it is back', async () => {
        await client.get(key)
        await server.pause()
        await Promise.all([failsAtOnce(client.get(key)), server.kill()])
        await expect(client.get(key)).rejects.toMatchObject(UNAVAILABLE)
        await server.start()
        expect(await read()).toBeUndefined()
        await client.set(key, late, 100)
        expect(await read()).toBe('late')
      })

      it('is noticed while nothing is in flight, too', async () => {
        await client.get(key)
        proxy.closeGracefully()
        await vi.waitFor(() => expect(proxy.open).toBe(0), { interval: 2 })
        expect(await read()).toBe('value')
        await server.restart()
        await client.set(key, late, 100)
        expect(await read()).toBe('late')
      })
    })

    describe('replies', () => {
      it('that are cut in the middle never mix with those of the next connection', async () => {
        const large = Buffer.alloc(5000, 'large ')
        await direct.set(key, large, 100)
        for (const bytes of [1, 10, 24, 100, 4000]) {
          await client.touch(key, 100)
          proxy.cutAfter(bytes)
          await failsAtOnce(Promise.all([client.get(key), client.get(key)]))
          const keys = Array.from({ length: 20 }, () => uniqueKey())
          await Promise.all(keys.map((each) => client.set(each, Buffer.from(each), 100)))
          const items = await Promise.all(keys.map((each) => client.get(each)))
          expect(items.map((item) => item?.value.toString())).toEqual(keys)
          expect((await client.get(key))?.value.equals(large)).toBe(true)
        }
      })

      it('may come in any pieces', async () => {
        for (const size of [1, 7, 23, 25]) {
          proxy.slice(size)
          const [item, missing, added, identity] = await Promise.all([
            client.get(key),
            client.get(uniqueKey()),
            client.add(key, late, 100),
            client.probe(),
          ])
          expect([item?.value.toString(), missing, added]).toEqual(['value', undefined, false])
          expect(identity).toBe(await direct.probe())
        }
      })

      it('may be slow', async () => {
        proxy.delay(60)
        expect(await Promise.all([read(), client.add(key, late, 100)])).toEqual(['value', false])
      })
    })

    describe('a silent server', () => {
      it('holds no call longer than until reset, after which the next call has a connection of its own', async () => {
        await client.get(key)
        proxy.silent()
        const inFlight = [client.get(key), client.probe(), client.delete(uniqueKey())]
        await heldBack()
        client.reset()
        await Promise.all(inFlight.map(failsAtOnce))
        await proxy.heal()
        expect(await read()).toBe('value')
        expect(proxy.connections).toBe(2)
      })

      it('does not keep close from ending, nor the calls in flight from failing', async () => {
        await client.get(key)
        proxy.silent()
        const inFlight = client.get(key)
        await heldBack()
        const [result] = await Promise.allSettled([inFlight, client.close()])
        expect(result).toMatchObject({ status: 'rejected', reason: { code: 'ERR_MSM_STATE' } })
      })

      it('is given up in the end even if nobody resets, and works again after that', async () => {
        const impatient = storage.connect(proxy.host, proxy.port, 100)
        await vi.waitFor(() => impatient.get(key))
        proxy.blackhole()
        await expect(impatient.get(key)).rejects.toMatchObject(UNAVAILABLE)
        await expect(impatient.get(key)).rejects.toMatchObject(UNAVAILABLE)
        await proxy.heal()
        await vi.waitFor(async () => expect(await read(impatient)).toBe('value'))
        await impatient.close()
      })

      it('leaves the server alone with a late reply that nobody takes for his own', async () => {
        const [one, two] = [uniqueKey(), uniqueKey()]
        await Promise.all([direct.set(one, Buffer.from('one'), 100), direct.set(two, Buffer.from('two'), 100)])
        await client.get(key)
        proxy.silent()
        const inFlight = client.get(one)
        await heldBack()
        client.reset()
        await failsAtOnce(inFlight)
        const next = client.get(two)
        await proxy.heal()
        expect((await next)?.value.toString()).toBe('two')
      })
    })

    describe('a write that was reported as failed', () => {
      it('is not sent again over the next connection', async () => {
        await client.get(key)
        proxy.blackhole()
        const writes = [client.set(key, late, 100), client.replace(key, late, 100), client.delete(key)]
        await heldBack()
        client.reset()
        await Promise.all(writes.map(failsAtOnce))
        await proxy.heal()
        for (let round = 0; round < 5; round++) {
          expect(await read()).toBe('value')
          client.reset()
        }
        expect(await read(direct)).toBe('value')
      })

      it('is applied once at most by a server that was stopped and goes on', async () => {
        const [before, during] = [uniqueKey(), uniqueKey()]
        await client.get(key)
        await server.pause()
        const sent = proxy.bytes.toServer
        const inFlight = client.add(before, late, 100)
        await vi.waitFor(() => expect(proxy.bytes.toServer).toBeGreaterThan(sent), { interval: 2 })
        setImmediate(() => client.reset())
        await failsAtOnce(inFlight)
        // Over a connection that the stopped server has not even accepted.
        const waiting = client.add(during, late, 100)
        setImmediate(() => client.reset())
        await failsAtOnce(waiting)
        server.resume()
        // No timeout cancels what the server has been sent.
        await vi.waitFor(async () => expect(await direct.get(before)).toBeDefined(), { interval: 5 })
        // Taken away again, it must not come back.
        const applied: string[] = []
        for (let round = 0; round < 10; round++) {
          await client.touch(key, 100)
          for (const each of [before, during]) if (await direct.delete(each)) applied.push(each)
        }
        expect(new Set(applied).size).toBe(applied.length)
      })
    })

    describe('a restarted server', () => {
      it('finds a conflict with the versions of its predecessor, even where it counts the same', async () => {
        await server.restart()
        await client.set(key, value, 100)
        const base = await client.get(key)
        await server.restart()
        expect(await client.compareAndSwap(key, late, 100, base?.version)).toBe('missing')
        await direct.set(key, Buffer.from('other'), 100)
        expect(await client.compareAndSwap(key, late, 100, base?.version)).toBe('conflict')
        expect(await read()).toBe('other')
        const current = await client.get(key)
        expect(await client.compareAndSwap(key, late, 100, current?.version)).toBe('stored')
      })

      it('is known by its identity, which a mere loss of the connection leaves as it is', async () => {
        const before = await client.probe()
        proxy.closeGracefully()
        await vi.waitFor(() => expect(proxy.open).toBe(0), { interval: 2 })
        expect(await client.probe()).toBe(before)
        expect(proxy.connections).toBe(2)
        await server.restart()
        const after = await client.probe()
        expect(after).not.toBe(before)
        expect(await direct.probe()).toBe(after)
      })
    })

    it('keeps host and port in the message, the reason in the cause, and nothing else', async () => {
      proxy.reset()
      const error = await client.get(key).catch((reason: Error) => reason)
      expect((error as Error).message).toContain(`127.0.0.1:${proxy.port}`)
      expect((error as Error).cause).toMatchObject({ code: 'ECONNREFUSED' })
      expect((error as Error).message).not.toContain(key)
    })
  })
}
