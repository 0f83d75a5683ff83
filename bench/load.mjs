// Generates the load of one route, in a process of its own. Prints what it measured.
import autocannon from 'autocannon'

const { url, path, cookies, duration, expected } = JSON.parse(process.argv[2])
let next = 0
const result = await autocannon({
  url,
  duration,
  connections: cookies.length,
  requests: [{ path }],
  setupClient: (client) => client.setHeaders({ cookie: cookies[next++ % cookies.length] }),
  verifyBody: (body) => body === expected,
})
const { requests, latency, errors, timeouts, non2xx, mismatches } = result
process.stdout.write(
  JSON.stringify({
    rps: requests.average,
    total: requests.total,
    p50: latency.p50,
    p99: latency.p99,
    failed: errors + timeouts + non2xx + mismatches,
  }),
)
