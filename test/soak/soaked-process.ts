import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { freePort } from '../support/servers.ts'
import type { ProcessReport } from './app.ts'

const APP = fileURLToPath(new URL('./app.js', import.meta.url))
/** Milliseconds a process has to answer, or to end. */
const PATIENCE = 15_000
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** An app process that reports on itself, and that a fault may end and start again on the same port. */
export class SoakedProcess {
  readonly name: string
  readonly port: number
  /** Since it was last started. */
  reports: ProcessReport[] = []
  /** Before there was any load, and after there is none any more. */
  idle: { before?: ProcessReport; after?: ProcessReport } = {}
  /** The longest delays of the event loop, of all its lives. */
  delayP99 = 0
  delayMax = 0
  restarts = 0
  startedAt = 0
  readonly problems: string[] = []
  readonly #settings: string
  #child: ChildProcess | undefined
  #errors = ''
  #isEnding = false

  private constructor(name: string, port: number, options: object) {
    this.name = name
    this.port = port
    this.#settings = JSON.stringify(options)
  }

  static async start(name: string, options: object): Promise<SoakedProcess> {
    const app = new SoakedProcess(name, await freePort(), options)
    await app.start()
    return app
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async start(): Promise<void> {
    const child = fork(APP, [this.#settings], {
      env: { ...process.env, PORT: `${this.port}`, NODE_ENV: 'production' },
      execArgv: ['--expose-gc', '--unhandled-rejections=strict'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    running.add(child)
    this.#child = child
    this.#isEnding = false
    this.reports = []
    child.stderr!.on('data', (chunk) => {
      this.#errors = (this.#errors + chunk).slice(-2000)
    })
    child.once('exit', (code, signal) => {
      running.delete(child)
      if (!this.#isEnding) this.problems.push(`${this.name} ended by itself (${signal ?? code}): ${this.#errors}`)
    })
    const [message] = await Promise.race([once(child, 'message'), once(child, 'exit')])
    if (message !== 'listening') throw new Error(`${this.name} does not start: ${this.#errors}`)
    this.startedAt = Date.now()
    child.on('message', (report: ProcessReport) => {
      this.reports.push(report)
      this.delayP99 = Math.max(this.delayP99, report.delayP99)
      this.delayMax = Math.max(this.delayMax, report.delayMax)
    })
  }

  /** A report of now. */
  async ask(): Promise<ProcessReport> {
    this.#child!.send('report')
    const limit = Date.now() + PATIENCE
    for (const before = this.reports.length; Date.now() < limit; await new Promise((next) => setTimeout(next, 20))) {
      const asked = this.reports.slice(before).find((report) => report.isAsked)
      if (asked) return asked
    }
    throw new Error(`${this.name} does not report.`)
  }

  /** Ends it. SIGTERM asks it to, and is a problem if it does not, or not well. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    this.#isEnding = true
    const exit = once(child, 'exit')
    child.kill(signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE)
    const [code] = await exit
    clearTimeout(timer)
    if (signal === 'SIGTERM' && code !== 0) {
      this.problems.push(`${this.name} does not end by SIGTERM as it should (${code ?? 'killed'}): ${this.#errors}`)
    }
  }

  async restart(signal: 'SIGKILL' | 'SIGTERM', wait: Promise<void>): Promise<void> {
    await this.end(signal)
    await wait
    await this.start()
    this.restarts++
  }

  /** True if it sees all its nodes up. */
  async seesAllNodes(): Promise<boolean> {
    const response = await fetch(`${this.url}/nodes`)
    const nodes = (await response.json()) as { state: string }[]
    return nodes.every((node) => node.state === 'up')
  }
}
