import Fastify from 'fastify'
import { session } from 'memcached-session-manager/fastify'

declare module 'memcached-session-manager' {
  interface SessionData {
    views: number
  }
}

const app = Fastify()
await app.register(session, { memcachedNodes: 'n1:localhost:11211', sticky: 'false' })
app.get('/', async (request, reply) => {
  const views: number | undefined = request.session.views
  request.session.views = (views ?? 0) + 1
  // @ts-expect-error: an attribute of another type
  request.session.views = 'many'
  request.session.set('views', 2)
  const same: number | undefined = request.session.get('views')
  await request.session.regenerate(['views'])
  return { same, url: reply.encodeURL('/') }
})
app.sessionManager.on('conflict', ({ attributes }) => attributes.join())
// @ts-expect-error: no such option
await app.register(session, { memcachedNode: 'n1:localhost:11211' })
