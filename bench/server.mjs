// One contender: a server with the three routes, on the port and the store it is told. Production mode, usual settings.
import { content } from './content.mjs'

const { framework, session, url, memcached, size } = JSON.parse(process.argv[2])
const quiet = { info() {}, warn() {}, error: console.error }
const HOUR = 3600
/** What a bare framework counts, as it has no session to do so. */
let written = 0

async function ours(subpath) {
  const { session: middleware } = await import(`memcached-session-manager/${subpath}`)
  return {
    middleware,
    options: {
      logger: quiet,
      maxInactiveInterval: HOUR,
      ...session.options,
      memcachedNodes: session.nodes === 'redis' ? url : session.nodes === 'memcached' ? memcached : undefined,
    },
  }
}

async function redisStore() {
  const { RedisStore } = await import('connect-redis')
  const { createClient } = await import('redis')
  const client = createClient({ url })
  await client.connect()
  return new RedisStore({ client, ttl: HOUR })
}

const frameworks = {
  async express() {
    const { default: express } = await import('express')
    const app = express()
    if (session.kind === 'empty') app.use((_req, _res, next) => next())
    if (session.kind === 'ours') {
      const { middleware, options } = await ours('express')
      app.use(middleware(options))
    } else if (session.kind === 'express-session') {
      const { default: expressSession } = await import('express-session')
      let store
      if (session.store === 'redis') store = await redisStore()
      if (session.store === 'memcached') {
        const { default: connect } = await import('connect-memcached')
        store = new (connect(expressSession))({ hosts: [memcached.split(':').slice(-2).join(':')], ttl: HOUR })
      }
      app.use(expressSession({ secret: 'keyboard cat', resave: false, saveUninitialized: false, store }))
    }
    app.get('/fill', (req, res) => {
      if (req.session) Object.assign(req.session, content(size))
      res.send('filled')
    })
    app.get('/none', (_req, res) => res.send('none'))
    app.get('/read', (req, res) => res.send(req.session ? req.session.locale : 'en-GB'))
    app.get('/write', (req, res) => {
      res.send(String(req.session ? ++req.session.views : ++written))
    })
    app.get('/views', (req, res) => res.send(String(req.session?.views)))
    return app
  },
  async koa() {
    const { default: Koa } = await import('koa')
    const app = new Koa()
    if (session.kind === 'ours') {
      const { middleware, options } = await ours('koa')
      app.use(middleware(options))
    } else if (session.kind === 'koa-session') {
      const { default: koaSession } = await import('koa-session')
      app.keys = ['keyboard cat']
      app.use(koaSession({ store: await koaStore(), maxAge: HOUR * 1000 }, app))
    }
    app.use((ctx) => {
      if (ctx.path === '/read') ctx.body = ctx.session ? ctx.session.locale : 'en-GB'
      else if (ctx.path === '/write') {
        ctx.body = String(ctx.session ? ++ctx.session.views : ++written)
      } else if (ctx.path === '/views') ctx.body = String(ctx.session?.views)
      else if (ctx.path === '/fill') {
        if (ctx.session) Object.assign(ctx.session, content(size))
        ctx.body = 'filled'
      } else ctx.body = 'none'
    })
    return app.callback()
  },
  async fastify() {
    const { default: Fastify } = await import('fastify')
    const app = Fastify()
    if (session.kind === 'ours') {
      const { middleware, options } = await ours('fastify')
      await app.register(middleware, options)
    } else if (session.kind === '@fastify/session') {
      await app.register(import('@fastify/cookie'))
      const store = session.store === 'redis' ? await redisStore() : undefined
      await app.register(import('@fastify/session'), {
        secret: 'a secret with at least thirty-two characters',
        saveUninitialized: false,
        cookie: { secure: false },
        ...(store ? { store } : {}),
      })
    }
    app.get('/fill', (request, reply) => {
      if (request.session) for (const [name, value] of Object.entries(content(size))) request.session.set(name, value)
      reply.send('filled')
    })
    app.get('/none', (_request, reply) => reply.send('none'))
    app.get('/read', (request, reply) => reply.send(request.session ? request.session.locale : 'en-GB'))
    app.get('/write', (request, reply) => {
      reply.send(String(request.session ? ++request.session.views : ++written))
    })
    app.get('/views', (request, reply) => reply.send(String(request.session?.views)))
    await app.ready()
    return (request, response) => app.routing(request, response)
  },
}

/** koa-session has no store in memory of its own; one over ioredis is what its README shows. */
async function koaStore() {
  if (session.store === 'redis') {
    const { Redis } = await import('ioredis')
    const redis = new Redis(url)
    return {
      get: async (key) => JSON.parse((await redis.get(key)) ?? 'null'),
      set: (key, value) => redis.set(key, JSON.stringify(value), 'EX', HOUR),
      destroy: (key) => redis.del(key),
    }
  }
  const sessions = new Map()
  return {
    get: async (key) => JSON.parse(sessions.get(key) ?? 'null'),
    set: async (key, value) => void sessions.set(key, JSON.stringify(value)),
    destroy: async (key) => void sessions.delete(key),
  }
}

const { createServer } = await import('node:http')
const server = createServer(await frameworks[framework]())
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
process.on('message', () => process.send({ cpu: process.cpuUsage() }))
process.on('disconnect', () => process.exit())
