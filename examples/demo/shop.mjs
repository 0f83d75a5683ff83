import { once } from 'node:events'
import express from 'express'
import { session } from 'memcached-session-manager/express'

const quiet = { info() {}, warn() {}, error: console.error }

/** One app process: an Express server with a session manager of its own, which can be killed and started again. */
export async function startShop({ route, failoverNode, nodes }) {
  let server
  let sessions
  let port = 0

  async function start() {
    sessions = session({
      memcachedNodes: nodes.addresses,
      failoverNodes: failoverNode,
      jvmRoute: route,
      sessionBackupAsync: false,
      sessionBackupTimeout: 1000,
      logger: quiet,
      ...nodes.options,
    })
    const app = express()
    app.use(sessions)
    app.get('/login/:user', (request, response) => {
      request.session.user = request.params.user
      request.session.cart = []
      response.json({})
    })
    app.get('/buy/:item', (request, response) => {
      request.session.cart?.push(request.params.item)
      response.json({})
    })
    app.get('/cart', (request, response) => {
      const { user, cart, id } = request.session
      response.json({ user, cart, id })
    })
    await sessions.manager.start()
    server = app.listen(port, '127.0.0.1')
    await once(server, 'listening')
    port = server.address().port
  }

  /** Ends it without a word to anybody: nothing that is only in its memory gets out. */
  async function kill() {
    if (!server) return
    server.close()
    server.closeAllConnections()
    server = undefined
    await sessions.manager.stop()
  }

  await start()
  return {
    route,
    start,
    kill,
    stop: kill,
    nodes: () => sessions.manager.nodes,
    get port() {
      return port
    },
    get isRunning() {
      return server !== undefined
    },
  }
}
