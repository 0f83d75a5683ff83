// A cart on Koa: npm install memcached-session-manager koa, then node index.mjs, and open http://localhost:3000/add?item=apple
// With Redis: MEMCACHED_NODES=redis://localhost:6379 node index.mjs (and npm install ioredis msgpackr)
import Koa from 'koa'
import { session } from 'memcached-session-manager/koa'

const app = new Koa()
const sessions = session({
  memcachedNodes: process.env.MEMCACHED_NODES,
  sticky: process.env.MEMCACHED_NODES === undefined,
  transcoder: 'json',
})
app.use(sessions)

const routes = {
  '/': (ctx) => {
    ctx.body = { cart: ctx.session.cart ?? [] }
  },
  '/add': (ctx) => {
    ctx.session.cart = [...(ctx.session.cart ?? []), ctx.query.item]
    ctx.redirect('/')
  },
  // Kept for a month, also if the browser is closed.
  '/remember': (ctx) => {
    ctx.session.maxAge = 30 * 24 * 60 * 60 * 1000
    ctx.body = { until: ctx.session.cookie.expires }
  },
  '/empty': (ctx) => {
    ctx.session = null
    ctx.redirect('/')
  },
}
app.use((ctx) => routes[ctx.path]?.(ctx))

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('listening'))
process.once('SIGTERM', () => {
  server.close(() => sessions.manager.stop())
  server.closeIdleConnections()
})
