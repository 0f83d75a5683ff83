import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { freePort } from './servers.ts'
import { TcpProxy } from './tcp-proxy.ts'

describe('TcpProxy', () => {
  let echo: Server
  let proxy: TcpProxy
  const sockets: Socket[] = []
  const received: string[] = []

  /** A connection through the proxy, and what it has got so far, and how it ended. */
  async function open(): Promise<{ socket: Socket; chunks: string[]; ended: () => string | undefined }> {
    const socket = connect({ port: proxy.port, host: proxy.host, noDelay: true })
    const chunks: string[] = []
    let ended: string | undefined
    socket.on('data', (data) => chunks.push(data.toString()))
    socket.on('end', () => {
      ended = 'FIN'
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      ended = error.code
    })
    sockets.push(socket)
    await once(socket, 'connect')
    return { socket, chunks, ended: () => ended }
  }
  const until = (check: () => void): Promise<void> => vi.waitFor(check, { interval: 2 })

  beforeEach(async () => {
    received.length = 0
    echo = createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      socket.on('data', (data) => {
        received.push(data.toString())
        socket.write(data)
      })
    })
    const port = await freePort()
    await new Promise<void>((resolve) => echo.listen(port, '127.0.0.1', resolve))
    proxy = await TcpProxy.start({ host: '127.0.0.1', port })
  })
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy()
    await proxy.stop()
    await new Promise((resolve) => echo.close(resolve))
  })

  it('forwards both ways, and counts', async () => {
    const { socket, chunks } = await open()
    socket.write('hello')
    await until(() => expect(chunks.join('')).toBe('hello'))
    expect(proxy).toMatchObject({ connections: 1, open: 1, bytes: { toServer: 5, toClient: 5, held: 0 } })
    socket.end()
    await until(() => expect(proxy.open).toBe(0))
  })

  it('holds everything back while silent, and delivers it when healed', async () => {
    const before = await open()
    proxy.silent()
    const after = await open()
    before.socket.write('one')
    after.socket.write('two')
    await until(() => expect(proxy.bytes.held).toBe(6))
    expect(received).toEqual([])
    await proxy.heal()
    await until(() => expect([before.chunks.join(''), after.chunks.join('')]).toEqual(['one', 'two']))
  })

  it('loses everything as a black hole, and resets what lost something when healed', async () => {
    const { socket, ended } = await open()
    proxy.blackhole()
    socket.write('lost')
    await until(() => expect(proxy.bytes.held).toBe(4))
    expect(ended()).toBeUndefined()
    await proxy.heal()
    await until(() => expect(ended()).toBe('ECONNRESET'))
    const { socket: next, chunks } = await open()
    next.write('kept')
    await until(() => expect(chunks.join('')).toBe('kept'))
    expect(received).toEqual(['kept'])
  })

  it('resets all connections and refuses new ones until healed', async () => {
    const { ended } = await open()
    proxy.reset()
    await until(() => expect(ended()).toBe('ECONNRESET'))
    await expect(open()).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await proxy.heal()
    await open()
  })

  it('ends connections with a FIN, and accepts new ones', async () => {
    const { ended } = await open()
    proxy.closeGracefully()
    await until(() => expect(ended()).toBe('FIN'))
    await open()
  })

  it('cuts a reply after some bytes, once', async () => {
    const { socket, chunks, ended } = await open()
    proxy.cutAfter(3)
    socket.write('a reply')
    await until(() => expect(ended()).toBe('FIN'))
    expect(chunks.join('')).toBe('a r')
    const next = await open()
    next.socket.write('another')
    await until(() => expect(next.chunks.join('')).toBe('another'))
  })

  it('slices replies', async () => {
    const { socket, chunks } = await open()
    proxy.slice(2)
    socket.write('abcde')
    await until(() => expect(chunks).toEqual(['ab', 'cd', 'e']))
  })

  it('delays replies, without adding up the delays', async () => {
    const { socket, chunks } = await open()
    proxy.delay(50)
    const start = performance.now()
    for (let index = 0; index < 10; index++) {
      socket.write(`${index}`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until(() => expect(chunks.join('')).toBe('0123456789'))
    expect(performance.now() - start).toBeGreaterThanOrEqual(49)
    expect(performance.now() - start).toBeLessThan(400)
  })
})
