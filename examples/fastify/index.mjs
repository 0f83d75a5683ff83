// A counter that stays exact on Fastify, with as many processes as you like on one Redis:
// npm install memcached-session-manager fastify, then node index.mjs, and open http://localhost:3000/
import Fastify from 'fastify'
import { session } from 'memcached-session-manager/fastify'

const app = Fastify()
await app.register(session, {
  memcachedNodes: process.env.MEMCACHED_NODES,
  sticky: process.env.MEMCACHED_NODES === undefined,
  transcoder: 'json',
  // Two requests that counted from the same value: add up what each of them has added.
  mergeAttribute: (_name, base = 0, mine = 0, theirs = 0) => mine + theirs - base,
})

app.get('/', async (request) => {
  request.session.views = (request.session.views ?? 0) + 1
  return { views: request.session.views }
})

app.get('/logout', async (request, reply) => {
  await request.session.destroy()
  return reply.redirect('/')
})

app.sessionManager.on('conflict', ({ attributes }) => console.log(`merged: ${attributes}`))

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
console.log('listening')
process.once('SIGTERM', () => app.close())
