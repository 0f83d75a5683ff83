// The session of the page in its WebSocket, by ws and by Socket.IO:
// npm install memcached-session-manager express ws socket.io, then node index.mjs
import express from 'express'
import { session } from 'memcached-session-manager/express'
import { Server } from 'socket.io'
import { WebSocketServer } from 'ws'

const app = express()
const sessions = session({ memcachedNodes: process.env.MEMCACHED_NODES, transcoder: 'json' })
app.use(sessions)
app.get('/login', (req, res) => {
  req.session.user = req.query.name
  res.json({ user: req.session.user })
})
app.get('/', (req, res) => res.json({ user: req.session.user ?? null, messages: req.session.messages ?? 0 }))

const server = app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('listening'))

// ws: the upgrade request has the cookie, and there is no response to hold. What is changed is stored by save().
const sockets = new WebSocketServer({ noServer: true })
server.on('upgrade', async (request, socket, head) => {
  if (!request.url.startsWith('/ws')) return
  const page = await sessions.manager.fromRequest(request)
  if (!page?.user) {
    socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n')
    return
  }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    ws.send(`hello ${page.user}`)
    ws.on('message', async () => {
      await page.reload()
      page.messages = (page.messages ?? 0) + 1
      await page.save()
      ws.send(String(page.messages))
    })
  })
})

// Socket.IO: the same middleware.
const io = new Server(server)
io.engine.use(sessions)
io.on('connection', (socket) => {
  socket.on('who', (reply) => reply(socket.request.session.user ?? null))
})

process.once('SIGTERM', () => {
  for (const ws of sockets.clients) ws.terminate()
  io.close(() => sessions.manager.stop())
  server.closeAllConnections()
})
