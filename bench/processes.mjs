// The processes of a run: the server under test has one core, the stores and the load generator have the other.
import { fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'

const SERVER_CORE = '0'
const OTHER_CORE = '1'
/** Microseconds of one tick, in which /proc counts processor time. */
const TICK = 10_000
/** Milliseconds a process has to start, or to answer. */
const PATIENCE = 15_000

const children = new Set()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

function keep(child) {
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

/** Runs a module of this folder on one core. What it writes to stderr is in `errors`, the last of it. */
function forkPinned(core, file, args, execArgv) {
  const child = keep(
    fork(fileURLToPath(new URL(file, import.meta.url)), args, {
      execPath: 'taskset',
      execArgv: ['-c', core, process.execPath, ...execArgv],
      env: { ...process.env, NODE_ENV: 'production' },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    }),
  )
  child.errors = ''
  child.stderr.on('data', (chunk) => {
    child.errors = (child.errors + chunk).slice(-2000)
  })
  return child
}

/** The next message of a child. Rejects with what it said last if it ends, or says nothing for too long. */
function reply(child) {
  return new Promise((resolve, reject) => {
    const done = (settle, value) => {
      clearTimeout(timer)
      child.off('message', onMessage).off('exit', onExit).off('error', onError)
      settle(value)
    }
    const onMessage = (message) => (message.error ? done(reject, new Error(message.error)) : done(resolve, message))
    const onExit = () => done(reject, new Error(problemIn(child.errors)))
    const onError = (error) => done(reject, error)
    const timer = setTimeout(() => done(reject, new Error(`no answer for ${PATIENCE / 1000} s`)), PATIENCE)
    child.on('message', onMessage).once('exit', onExit).once('error', onError)
  })
}

function problemIn(errors) {
  const line = errors.split('\n').find((one) => /^\s*(?:\w*Error|Error)\b.*:/.test(one))
  return line?.trim() ?? errors.trim().split('\n').at(-1) ?? 'it ended without a word'
}

/** @throws Error that says what is missing on this machine */
export function checkMachine() {
  for (const core of [SERVER_CORE, OTHER_CORE]) {
    const { error, status } = spawnSync('taskset', ['-c', core, 'true'])
    if (error) throw new Error('taskset is missing; it is part of util-linux.')
    if (status !== 0) throw new Error(`There is no core ${core}: this needs two.`)
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export async function startStore(command, args) {
  const port = await freePort()
  const child = keep(spawn('taskset', ['-c', OTHER_CORE, command, ...args(port)], { stdio: 'ignore' }))
  for (let attempt = 0; attempt < 200 && child.exitCode === null; attempt++) {
    const socket = connect(port, '127.0.0.1')
    const isUp = await new Promise((resolve) => {
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    })
    socket.destroy()
    if (isUp) return { child, port, pid: child.pid }
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  throw new Error(`${command} can't be started: is it installed?`)
}

export async function startStores() {
  const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
  return {
    memcached: await startStore('memcached', (port) => [
      ...['-l', '127.0.0.1', '-p', `${port}`, '-U', '0', '-t', '1', '-m', '256'],
      ...asUser,
    ]),
    redis: await startStore('redis-server', (port) => [
      '--port',
      `${port}`,
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
    ]),
  }
}

/** Microseconds of processor time that a process has used so far, to the tick. */
export function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK
}

/** The server of one contender. */
export class Server {
  #child
  url

  /** @throws Error with what the server said, if it does not start */
  static async start(settings, { profile } = {}) {
    const server = new Server()
    const execArgv = [
      '--no-memory-reducer',
      ...(profile ? ['--cpu-prof', '--cpu-prof-interval', '200', '--cpu-prof-dir', profile] : []),
    ]
    server.#child = forkPinned(SERVER_CORE, 'server.mjs', [JSON.stringify(settings)], execArgv)
    const { port } = await reply(server.#child)
    server.url = `http://127.0.0.1:${port}`
    return server
  }

  /** Microseconds of processor time it has used so far. */
  async cpu() {
    this.#child.send('cpu')
    const { cpu } = await reply(this.#child)
    return cpu.user + cpu.system
  }

  async stop() {
    if (this.#child.exitCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.disconnect()
    await ended
  }
}

/** The load generator, in a process of its own. */
export class Load {
  #child = forkPinned(OTHER_CORE, 'load.mjs', [], [])

  /** @throws Error if it gets no answers at all */
  run(parameters) {
    this.#child.send(parameters)
    return reply(this.#child)
  }
}
