// One process of an app, as a user would write it. Started with a JSON object of { framework, options } as its argument;
// `options.mergeAttribute: 'add'` stands for a function that adds up what counters were increased by.
import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'

const { framework, options, clock, isFenced = true } = JSON.parse(process.argv[2])
if (clock) {
  const { now } = Date
  Date.now = () => now() + clock
}
if (!isFenced) {
  const { memcachedStorage } = await import('../../../dist/adapters/storage/memcached.js')
  options.storage = (address, clientOptions) => {
    const client = memcachedStorage(address, clientOptions)
    client.compareAndSwap = async (key, value, ttl) => ((await client.replace(key, value, ttl)) ? 'stored' : 'missing')
    return client
  }
}
const quiet = { info() {}, warn() {}, error: console.error }
if (options.mergeAttribute === 'add')
  options.mergeAttribute = (_name, base = 0, mine = 0, theirs = 0) => mine + theirs - base

/** Requests to /hold that have read their session. */
let holding = 0

/** What the app does with a session, whatever the framework; undefined for a path that it does not know. */
const actions = {
  '/count': (session) => ({ count: increase(session), id: session.id, pid: process.pid }),
  '/read': (session) => ({ count: session.count ?? null, id: session.id }),
  // Reads, waits and writes: what others write meanwhile must not be lost.
  '/slow-count': async (session) => {
    const count = session.count ?? 0
    await pause(2)
    session.count = count + 1
    return { count: session.count }
  },
  // Goes on for longer than a lease lasts.
  '/hold': async (session, query) => {
    const count = session.count ?? 0
    holding++
    await pause(Number(query.get('ms')))
    holding--
    session.count = count + 1
    return { count: session.count, id: session.id }
  },
  '/fill': (session, query) => {
    session.filling = 'x'.repeat(Number(query.get('bytes')))
    return { count: session.count, id: session.id }
  },
  '/mark': (session, query) => {
    session[query.get('name')] = 1
    return {}
  },
  '/marks': (session) => ({ marks: Object.keys(session).filter((name) => name.startsWith('mark-')).length }),
  '/logout': async (session) => {
    await session.destroy()
    return {}
  },
}

function increase(session) {
  session.count = (session.count ?? 0) + 1
  return session.count
}

async function express() {
  const { default: express } = await import('express')
  const { session } = await import('memcached-session-manager/express')
  const app = express()
  const sessions = session({ ...options, logger: quiet })
  app.get('/nodes', (_request, response) => response.json(sessions.manager.nodes))
  app.get('/holding', (_request, response) => response.json(holding))
  app.get('/health', (_request, response) => response.json(sessions.manager.health()))
  app.get('/statistics', (_request, response) => response.json(sessions.manager.statistics))
  app.use(sessions)
  for (const path in actions) {
    app.get(path, async (request, response) => {
      response.json(await actions[path](request.session, new URL(request.url, 'http://localhost').searchParams))
    })
  }
  // As Express's own, but for telling stderr.
  app.use((error, _request, response, _next) => {
    response.status(error.status ?? 500).json({ error: error.message })
  })
  return { handler: app, manager: sessions.manager }
}

async function koa() {
  const { default: Koa } = await import('koa')
  const { session } = await import('memcached-session-manager/koa')
  const app = new Koa()
  const sessions = session({ ...options, logger: quiet })
  app.use(async (context, next) => {
    if (context.path === '/nodes') context.body = sessions.manager.nodes
    else await next()
  })
  app.use(sessions)
  app.use(async (context) => {
    const action = actions[context.path]
    if (action) context.body = await action(context.session, context.URL.searchParams)
  })
  return { handler: app.callback(), manager: sessions.manager }
}

const { handler, manager } = await (framework === 'koa' ? koa() : express())
await manager.start()
let isEnding = false
const server = createServer((request, response) => {
  // The balancer is to ask another process next time.
  if (isEnding) response.shouldKeepAlive = false
  handler(request, response)
}).listen(Number(process.env.PORT), '127.0.0.1', () => {
  process.send?.('listening')
})
// With drainOnSignal the manager ends the process.
if (!options.drainOnSignal)
  process.on('SIGTERM', () => {
    isEnding = true
    server.close(async () => {
      await manager.stop()
      process.disconnect?.()
    })
    server.closeIdleConnections()
  })
