// One process of an app, as a user would write it. Started with a JSON object of { framework, options } as its argument.
import { createServer } from 'node:http'

const { framework, options } = JSON.parse(process.argv[2])
const quiet = { info() {}, warn() {}, error: console.error }

async function express() {
  const { default: express } = await import('express')
  const { session } = await import('memcached-session-manager/express')
  const app = express()
  const sessions = session({ ...options, logger: quiet })
  app.get('/nodes', (_request, response) => response.json(sessions.manager.nodes))
  app.use(sessions)
  app.get('/count', (request, response) => {
    request.session.count = (request.session.count ?? 0) + 1
    response.json({ count: request.session.count, id: request.session.id, pid: process.pid })
  })
  app.get('/read', (request, response) => response.json({ count: request.session.count ?? null }))
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
  app.use((context) => {
    if (context.path === '/count') context.session.count = (context.session.count ?? 0) + 1
    context.body = { count: context.session.count ?? null, id: context.session.id, pid: process.pid }
  })
  return { handler: app.callback(), manager: sessions.manager }
}

const { handler, manager } = await (framework === 'koa' ? koa() : express())
await manager.start()
const server = createServer(handler).listen(Number(process.env.PORT), '127.0.0.1', () => {
  process.send?.('listening')
})
process.on('SIGTERM', async () => {
  server.close()
  server.closeIdleConnections()
  await manager.stop()
  process.disconnect?.()
})
