import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type AppOptions, AppProcess } from '../support/app-process.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'

const CLIENTS = 20
const ID = /^[0-9A-F]{32}-(n1|n2)$/

/** A browser that counts in its session, behind a balancer that sends each request to the next process. */
class Client {
  acknowledged = 0
  failures: string[] = []
  readonly #apps: readonly AppProcess[]
  #turn: number
  #cookie: string | undefined
  #base: string | undefined

  constructor(apps: readonly AppProcess[], turn: number) {
    this.#apps = apps
    this.#turn = turn
  }

  async run(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.#count()
      await pause(5)
    }
  }

  async #count(): Promise<void> {
    const app = this.#apps[this.#turn++ % this.#apps.length]!
    const headers: Record<string, string> = this.#cookie ? { cookie: `JSESSIONID=${this.#cookie}` } : {}
    let response: Response
    let answer: { count: number; id: string }
    try {
      response = await fetch(`${app.url}/count`, { headers })
      answer = (await response.json()) as typeof answer
    } catch {
      // That process was killed; the balancer asks the other one.
      return
    }
    if (response.status !== 200) {
      this.failures.push(`status ${response.status}`)
      return
    }
    const cookie = /JSESSIONID=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1]
    if (cookie !== undefined) this.#cookie = cookie
    if (!ID.test(answer.id)) this.failures.push(`id ${answer.id}`)
    const base = answer.id.slice(0, 32)
    if (this.#base !== undefined && base !== this.#base) this.failures.push('session lost')
    if (answer.count <= this.acknowledged) this.failures.push(`${answer.count} after ${this.acknowledged}`)
    this.#base = base
    this.acknowledged = answer.count
  }
}

describe.each([
  ['memcached', startMemcached, ''],
  ['Redis', startRedis, 'redis://'],
] as const)('two processes on two %s nodes, and no stickiness', (_name, startServer, scheme) => {
  it.each(['optimistic', 'all'] as const)(
    'lose no session and no answered change when any of the four is killed, with lockingMode %s',
    { timeout: 60_000 },
    async (lockingMode) => {
      const servers: Server[] = [await startServer(), await startServer()]
      onTestFinished(async () => {
        for (const server of servers) await server.stop()
      })
      const options: AppOptions = {
        memcachedNodes: servers.map(({ port }, i) => `n${i + 1}:${scheme}127.0.0.1:${port}`).join(','),
        sticky: false,
        lockingMode,
      }
      const apps = [await AppProcess.start('express', options), await AppProcess.start('express', options)]
      onTestFinished(async () => {
        for (const app of apps) await app.kill()
      })
      const clients = Array.from({ length: CLIENTS }, (_, i) => new Client(apps, i))
      let isOver = false
      const load = Promise.all(clients.map((client) => client.run(() => isOver)))
      const eachMakes = async (requests: number): Promise<void> => {
        const targets = clients.map((client) => client.acknowledged + requests)
        await expect
          .poll(() => clients.every((client, i) => client.acknowledged >= targets[i]!), {
            timeout: 30_000,
            interval: 20,
          })
          .toBe(true)
      }
      await eachMakes(3)
      for (const victim of [...servers, ...apps]) {
        await victim.kill('SIGKILL')
        await eachMakes(5)
        await victim.start()
        await expect
          .poll(async () => (await Promise.all(apps.map((app) => app.seesAllNodes()))).every(Boolean), {
            timeout: 10_000,
            interval: 50,
          })
          .toBe(true)
        await eachMakes(3)
      }
      isOver = true
      await load
      expect(clients.flatMap((client) => client.failures)).toEqual([])
    },
  )
})
