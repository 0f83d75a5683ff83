import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { MemoryStorageClient } from 'memcached-session-manager/storage/memory'

const NAMES = ['m1', 'm2']

/** Two nodes in the memory of this process, which all of its session managers share. */
export async function memoryNodes() {
  const clients = new Map(NAMES.map((name) => [name, new MemoryStorageClient()]))
  // A manager that is killed closes its clients; the node itself goes on.
  const open = (name) => {
    const node = clients.get(name)
    return new Proxy(node, {
      get(_target, method) {
        if (method === 'close') return async () => {}
        return node[method].bind(node)
      },
    })
  }
  return {
    addresses: NAMES.map((name, i) => `${name}:in-this-process:${11211 + i}`).join(','),
    options: { storage: (address) => open(address.nodeId) },
    kill: async (name) => clients.get(name).stop(),
    start: async (name) => clients.get(name).start({ empty: true }),
    stop: async () => {},
  }
}

/** Two memcached servers, started for the demo on free ports. */
export async function memcachedNodes() {
  const servers = new Map()
  for (const name of NAMES) servers.set(name, { port: await freePort(), child: undefined })

  async function start(name) {
    const server = servers.get(name)
    const asRoot = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
    const child = spawn('memcached', ['-l', '127.0.0.1', '-p', `${server.port}`, '-U', '0', ...asRoot], {
      stdio: 'ignore',
    })
    const failed = once(child, 'error').then(([error]) => {
      throw new Error(`memcached can't be started (${error.code}). On Debian: apt-get install memcached`)
    })
    server.child = child
    await Promise.race([failed, answers(server.port)])
    failed.catch(() => {})
  }

  async function kill(name) {
    const { child } = servers.get(name)
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
  }

  const stop = () => Promise.all(NAMES.map(kill))
  try {
    await Promise.all(NAMES.map(start))
  } catch (error) {
    await stop()
    console.log(error.message)
    process.exit(1)
  }
  return {
    addresses: NAMES.map((name) => `${name}:127.0.0.1:${servers.get(name).port}`).join(','),
    options: {},
    kill,
    start,
    stop,
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

async function answers(port) {
  for (;;) {
    const connected = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (connected) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
