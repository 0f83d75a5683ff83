// An app that tells all it can: every log line, every event, every error with all that hangs on it. Started with the
// options of the session manager as JSON; a line on stdin ends it.
import { subscribe } from 'node:diagnostics_channel'
import { setTimeout as pause } from 'node:timers/promises'
import { inspect } from 'node:util'
import express from 'express'
import { session } from 'memcached-session-manager/express'

const tell = (what, value) => console.log(what, inspect(value, { depth: 30, showHidden: true, getters: false }))
const options = JSON.parse(process.argv[2])
const sessions = session({ ...options, logger: console })
const { manager } = sessions
const EVENTS = 'created destroyed idChanged backupFailed recordRejected conflict lockTimeout lockLost nodeDown nodeUp'
for (const name of EVENTS.split(' ')) {
  manager.on(name, (event) => {
    tell(name, event)
    if (event.error) console.error(event.error)
  })
  subscribe(`memcached-session-manager:${name}`, (message) => tell(name, message))
}
process.on('warning', (warning) => tell('warning', warning))

const app = express()
app.use(sessions)
app.get('/set', (request, response) => {
  Object.assign(request.session, request.query)
  response.json({})
})
app.get('/get', (request, response) => response.json({ ...request.session }))
app.get('/large', (request, response) => {
  request.session.large = 'x'.repeat(1_200_000)
  response.json({})
})
app.get('/function', (request, response) => {
  request.session[request.query.name] = () => 'value-that-is-private'
  response.json({})
})
app.get('/slow', async (request, response) => {
  request.session.slow = Number(request.session.slow ?? 0) + 1
  await pause(300)
  response.json({})
})
app.get('/save', async (request, response) => {
  request.session.saved = Date.now()
  await request.session.save()
  response.json({})
})
app.get('/login', async (request, response) => {
  await request.session.regenerate({ keep: true })
  request.session.principal = 'ann'
  response.json({})
})
app.get('/others', async (_request, response) => {
  await manager.destroyByPrincipal('ann')
  response.json({})
})
app.get('/out', async (request, response) => {
  await request.session.destroy()
  response.json({})
})
app.get('/state', (_request, response) => {
  const state = { health: manager.health(), nodes: manager.nodes, statistics: manager.statistics }
  tell('state', state)
  tell('manager', [manager, sessions])
  console.log(JSON.stringify([state, manager]), String(manager))
  response.json({})
})
app.use((error, _request, response, _next) => {
  console.error(error)
  tell('error', error)
  response.status(error.status ?? 500).json({ error: error.message, stack: error.stack })
})
await manager.start()
const server = app.listen(0, '127.0.0.1', () => process.send(server.address().port))
process.once('message', async () => {
  server.close()
  server.closeAllConnections()
  await manager.stop()
  process.disconnect()
})
