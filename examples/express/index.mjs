// A login on Express: npm install memcached-session-manager express, then node index.mjs, and open http://localhost:3000/
// With memcached: MEMCACHED_NODES=n1:localhost:11211,n2:localhost:11212 node index.mjs (and npm install memjs msgpackr)
import express from 'express'
import { session } from 'memcached-session-manager/express'

const app = express()
const sessions = session({
  memcachedNodes: process.env.MEMCACHED_NODES,
  jvmRoute: process.env.JVM_ROUTE,
  transcoder: 'json',
  requestUriIgnorePattern: '.*\\.(ico|png|css|js)',
})
app.use(sessions)

app.get('/', (req, res) => {
  req.session.views = (req.session.views ?? 0) + 1
  res.json({ user: req.session.user ?? null, views: req.session.views })
})

// A new id at login: one that an attacker has planted before is worth nothing then.
app.get('/login', async (req, res) => {
  await req.session.regenerate({ keep: true })
  req.session.user = req.query.name
  req.session.principal = req.query.name
  res.redirect('/')
})

app.get('/logout', async (req, res) => {
  await req.session.destroy()
  res.redirect('/')
})

// On all devices, but for this one.
app.get('/logout-others', async (req, res) => {
  const ended = await sessions.manager.destroyByPrincipal(req.session.principal, { except: req.sessionID })
  res.json({ ended })
})

app.get('/health', (_req, res) => res.json(sessions.manager.health()))

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('listening'))
process.once('SIGTERM', () => {
  server.close(() => sessions.manager.stop())
  server.closeIdleConnections()
})
