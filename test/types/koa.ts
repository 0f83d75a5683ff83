import Koa from 'koa'
import { session } from 'memcached-session-manager/koa'

declare module 'memcached-session-manager' {
  interface SessionData {
    views: number
  }
}

const app = new Koa()
app.use(session({ memcachedNodes: 'redis://localhost', sticky: false }))
app.use(async (ctx, next) => {
  const views: number | undefined = ctx.session.views
  ctx.session.views = (views ?? 0) + 1
  // @ts-expect-error: an attribute of another type
  ctx.session.views = 'many'
  ctx.session.maxAge = 1000
  ctx.session = null
  ctx.session = { views: 1 }
  await ctx.session.save()
  const loaded = await ctx.loadSession()
  ctx.body = { isNew: loaded.isNew, key: ctx.session.externalKey }
  await next()
})
