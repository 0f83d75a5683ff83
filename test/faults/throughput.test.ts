import autocannon from 'autocannon'
import { afterAll, expect, it, onTestFinished } from 'vitest'
import { FaultWorld, SETUPS } from '../support/fault-world.ts'

const IS_FULL = process.env.MSM_FAULTS === 'full'
const CONNECTIONS = 16
/** Seconds of load. */
const DURATION = IS_FULL ? 4 : 1
/** Part of the requests of a healthy store that are to be served with one dead node of two; less on a busy machine. */
const PART = IS_FULL ? 0.9 : 0.6
const measured: string[] = []

it.each(SETUPS.filter(({ nodes }) => nodes === 2))('one dead node of two, $name: throughput', async (setup) => {
  const world = await FaultWorld.start(setup)
  onTestFinished(() => world.stop())
  const [app] = world.apps
  const ask = async (cookie: string): Promise<string> => {
    const response = await fetch(`${app!.url}/count`, { headers: { cookie } })
    return response.headers.get('set-cookie')?.split(';')[0] ?? cookie
  }
  let cookies = await Promise.all(Array.from({ length: CONNECTIONS }, () => ask('')))
  let next = 0
  const load = async (): Promise<number> => {
    const { requests, non2xx } = await autocannon({
      url: `${app!.url}/count`,
      connections: CONNECTIONS,
      duration: DURATION,
      setupClient: (client) => client.setHeaders({ cookie: cookies[next++ % CONNECTIONS]! }),
    })
    expect(non2xx).toBe(0)
    return requests.average
  }
  await load()
  const healthy = await load()
  await world.servers[0]!.kill()
  // The first requests notice; clients learn the ids of the sessions that were moved.
  cookies = await Promise.all(cookies.map(ask))
  await load()
  const degraded = await load()
  measured.push(`| ${setup.name} | ${Math.round((degraded / healthy) * 100)} % |`)
  expect(degraded / healthy).toBeGreaterThan(PART)
})

afterAll(() => {
  if (IS_FULL) process.stdout.write(`\n| one dead node of two | throughput |\n| --- | --- |\n${measured.join('\n')}\n`)
})
