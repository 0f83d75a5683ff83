// One process of the app under soak. Started with the options as a JSON object; it tells its parent how it is every few
// seconds, and when it is asked. Node has to be started with --expose-gc.
import { createServer } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import express from 'express'
import { session } from '../../adapters/web/express.ts'

/** What a process tells of itself. */
export interface ProcessReport {
  /** Epoch milliseconds. */
  readonly at: number
  /** Bytes of the heap in use after a garbage collection. */
  readonly heapUsed: number
  readonly sockets: number
  readonly timers: number
  /** All active resources, sockets and timers included. */
  readonly handles: number
  /** Milliseconds since the report before. */
  readonly delayP99: number
  readonly delayMax: number
  /** True if it was asked for, and not only due. */
  readonly isAsked: boolean
}

const INTERVAL = 5000
/** Milliseconds after which the event loop has got over a garbage collection, which is no part of its delay. */
const RECOVERY = 100

const options = JSON.parse(process.argv[2]!)
const sessions = session({ ...options, logger: { info() {}, warn() {}, error: console.error } })
const { manager } = sessions

let isEnding = false
const app = express()
// Clients that keep their connections would keep this process, too.
app.use((_request, response, next) => {
  if (isEnding) response.set('connection', 'close')
  next()
})
app.get('/nodes', (_request, response) => void response.json(manager.nodes))
app.use(sessions)
/** Counts in the attribute that is asked for; a new session gets the owner that is named. */
app.get('/count', ({ session, query: { name, owner } }, response) => {
  const key = String(name)
  const count = ((session[key] as number | undefined) ?? 0) + 1
  session[key] = count
  session.owner ??= owner
  response.json({ count, owner: session.owner, id: session.id })
})
app.get('/read', ({ session }, response) => {
  response.json({ count: session.a ?? null, owner: session.owner ?? null, id: session.id })
})
app.get('/logout', async ({ session }, response) => {
  await session.destroy()
  response.json({})
})

const delay = monitorEventLoopDelay({ resolution: 10 })
delay.enable()

function report(isAsked: boolean): void {
  const [p99, max] = [delay.percentile(99), delay.max]
  globalThis.gc?.()
  const resources = process.getActiveResourcesInfo()
  const countOf = (kind: string): number => resources.filter((resource) => resource === kind).length
  const message: ProcessReport = {
    at: Date.now(),
    heapUsed: process.memoryUsage().heapUsed,
    sockets: countOf('TCPSocketWrap'),
    timers: countOf('Timeout'),
    handles: resources.length,
    delayP99: p99 / 1e6,
    delayMax: max / 1e6,
    isAsked,
  }
  process.send?.(message)
  setTimeout(() => delay.reset(), RECOVERY).unref()
}

await manager.start()
const server = createServer(app).listen(Number(process.env.PORT), '127.0.0.1', () => {
  delay.reset()
  process.send?.('listening')
})
const reports = setInterval(report, INTERVAL, false)
process.on('message', () => report(true))
process.on('SIGTERM', () => {
  isEnding = true
  clearInterval(reports)
  server.close(async () => {
    await manager.stop()
    process.disconnect?.()
  })
})
