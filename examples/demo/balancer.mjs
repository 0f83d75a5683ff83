import { once } from 'node:events'
import { createServer, request as send } from 'node:http'

/** A round-robin balancer that sends a session back to the process that its cookie names, as long as that is there. */
export async function startBalancer(shops) {
  let turn = 0
  const server = createServer((request, response) => {
    const route = /JSESSIONID=[^;]*\.(\w+)/.exec(request.headers.cookie ?? '')?.[1]
    const alive = shops.filter((shop) => shop.isRunning)
    const shop = alive.find((each) => each.route === route) ?? alive[turn++ % alive.length]
    const { method, url, headers } = request
    const forward = send({ host: '127.0.0.1', port: shop.port, method, path: url, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    forward.once('error', () => response.writeHead(502).end())
    request.pipe(forward)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
