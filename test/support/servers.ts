import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findServer } from './install-servers.ts'

/** Milliseconds a server gets until it answers. */
const START_LIMIT = 15_000
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** A server process on 127.0.0.1 that a test started and may end. */
export class Server {
  readonly host = '127.0.0.1'
  readonly port: number
  readonly #start: () => ChildProcess
  readonly #sign: { send: string; expect: string } | undefined
  #child: ChildProcess | undefined

  constructor(port: number, start: () => ChildProcess, sign?: { send: string; expect: string }) {
    this.port = port
    this.#start = start
    this.#sign = sign
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Starts the process, and waits until it answers. */
  async start(): Promise<this> {
    const child = this.#start()
    this.#child = child
    running.add(child)
    child.once('exit', () => running.delete(child))
    const limit = Date.now() + START_LIMIT
    while (!(await answers(this.port, this.#sign))) {
      if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with code ${child.exitCode}`)
      if (Date.now() > limit) throw new Error(`${child.spawnfile} does not answer on port ${this.port}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return this
  }

  /** Ends the process, and waits for its end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill(signal)
    if (signal !== 'SIGKILL') child.kill('SIGCONT')
    await exit
  }

  async stop(): Promise<void> {
    await this.kill('SIGKILL')
  }

  /** Ends it at once and starts it again on the same port: it has forgotten everything. */
  async restart(): Promise<void> {
    await this.kill()
    await this.start()
  }

  /** Stops the process as it is, and waits until each of its threads has stopped: nothing is answered from then on. */
  async pause(): Promise<void> {
    this.#child?.kill('SIGSTOP')
    while (!isStopped(this.pid)) await new Promise((resolve) => setTimeout(resolve, 1))
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }
}

/** A port that is free now; a server that is restarted finds it free again. */
export async function freePort(): Promise<number> {
  for (;;) {
    // Below the ports that outgoing connections are given: one of those would take it while the server is down.
    const port = 12_000 + Math.floor(Math.random() * 20_000)
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!free) continue
    server.close()
    await once(server, 'close')
    return port
  }
}

export interface StartOptions {
  port?: number
  args?: string[]
  /** Environment variables besides those of this process. */
  env?: Record<string, string>
}

export async function startMemcached({ port, args = [], env }: StartOptions = {}): Promise<Server> {
  const own = port ?? (await freePort())
  const asRoot = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
  const server = new Server(
    own,
    () => run('memcached', ['-l', '127.0.0.1', '-p', `${own}`, '-U', '0', '-t', '1', ...asRoot, ...args], env),
    // The version command of the binary protocol: it is answered before a login, too.
    { send: `\x80\x0b${'\0'.repeat(22)}`, expect: '\x81\x0b' },
  )
  return server.start()
}

/** @param options `config`: a configuration file, which a Sentinel needs and rewrites */
export async function startRedis(options: StartOptions & { config?: string } = {}): Promise<Server> {
  const { args = [], config } = options
  const own = options.port ?? (await freePort())
  const address = ['--port', `${own}`, '--bind', '127.0.0.1']
  const fixed = config
    ? [config, ...address]
    : // A replica keeps a file of what it got from its master, whatever is told of saving.
      [...address, '--dir', temporaryFolder('redis-'), '--save', '', '--appendonly', 'no', '--loglevel', 'warning']
  const server = new Server(own, () => run('redis-server', [...fixed, ...args]), {
    send: 'PING\r\n',
    // A server with a password refuses, which is an answer.
    expect: args.includes('--requirepass') ? '-NOAUTH' : '+PONG',
  })
  return server.start()
}

/** nginx with `http` as the content of its http block, listening on `port`. */
export async function startNginx(port: number, http: string): Promise<Server> {
  const folder = temporaryFolder('nginx-')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join('\n')
  const config = join(folder, 'nginx.conf')
  // One process, so that ending it by its pid ends all of it.
  writeFileSync(
    config,
    `daemon off;\nmaster_process off;\npid ${folder}/pid;\nerror_log stderr crit;\nevents {}\n` +
      `http {\naccess_log off;\n${temporary}\n${http}\n}\n`,
  )
  return new Server(port, () => run('nginx', ['-c', config, '-p', folder, '-e', 'stderr'])).start()
}

const folders: string[] = []
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** Removed when this process ends. */
export function temporaryFolder(prefix: string): string {
  const folder = mkdtempSync(join(tmpdir(), prefix))
  folders.push(folder)
  return folder
}

function run(command: string, args: string[], env: Record<string, string> = {}): ChildProcess {
  const path = findServer(command)
  if (!path) throw new Error(`${command} is not installed`)
  return spawn(path, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Whether SIGSTOP has reached all threads; only Linux tells. */
function isStopped(pid: number): boolean {
  const tasks = `/proc/${pid}/task`
  if (!existsSync(tasks)) return true
  return readdirSync(tasks).every((task) => /\) [TtZX] /.test(readFileSync(`${tasks}/${task}/stat`, 'latin1')))
}

function answers(port: number, sign: { send: string; expect: string } | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const settle = (result: boolean): void => {
      socket.destroy()
      resolve(result)
    }
    socket.setTimeout(500, () => settle(false))
    socket.once('error', () => settle(false))
    socket.once('connect', () => (sign ? socket.write(sign.send, 'latin1') : settle(true)))
    socket.on('data', (data) => settle(sign === undefined || data.toString('latin1').startsWith(sign.expect)))
    socket.once('close', () => settle(false))
  })
}
