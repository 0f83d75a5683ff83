import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { freePort } from './servers.ts'

const APP = fileURLToPath(new URL('../integration/apps/app.mjs', import.meta.url))
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Options as they can be told to another process. */
export type AppOptions = Omit<SessionManagerOptions, 'mergeAttribute'> & { mergeAttribute?: 'add' }

/** What is wrong with a process on purpose. */
export interface Special {
  /** Milliseconds by which its clock is ahead. */
  clock?: number
  /** False: what it stores overwrites whatever is there. */
  isFenced?: boolean
}

/** A process of the test app, as built, which a test may kill and start again on the same port. */
export class AppProcess {
  readonly port: number
  readonly #settings: string
  #child: ChildProcess | undefined

  private constructor(port: number, framework: 'express' | 'koa', options: AppOptions, special: Special) {
    this.port = port
    this.#settings = JSON.stringify({ framework, options, ...special })
  }

  static async start(framework: 'express' | 'koa', options: AppOptions, special: Special = {}): Promise<AppProcess> {
    const app = new AppProcess(await freePort(), framework, options, special)
    await app.start()
    return app
  }

  async start(): Promise<void> {
    const env = { ...process.env, PORT: `${this.port}`, NODE_ENV: 'production' }
    const child = fork(APP, [this.#settings], { env, execArgv: ['--unhandled-rejections=strict'] })
    this.#child = child
    running.add(child)
    child.once('exit', () => running.delete(child))
    const [message] = await Promise.race([once(child, 'message'), once(child, 'exit')])
    if (message !== 'listening') throw new Error(`The app ended with code ${message}.`)
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    const exit = once(child, 'exit')
    child.kill(signal)
    if (signal !== 'SIGKILL') child.kill('SIGCONT')
    const [code] = (await exit) as [number | null]
    return code
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** Stops the process as it is, until `resume`. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** True if the app sees all its nodes up, and has nothing left to write. */
  async isCalm(): Promise<boolean> {
    const response = await fetch(`${this.url}/health`)
    const { status, backlog } = (await response.json()) as { status: string; backlog: number }
    return status === 'ok' && backlog === 0
  }

  async statistics(): Promise<Record<string, number>> {
    return (await (await fetch(`${this.url}/statistics`)).json()) as Record<string, number>
  }

  /** True if the app sees all its nodes up. */
  async seesAllNodes(): Promise<boolean> {
    const response = await fetch(`${this.url}/nodes`)
    const nodes = (await response.json()) as { state: string }[]
    return nodes.every((node) => node.state === 'up')
  }
}
