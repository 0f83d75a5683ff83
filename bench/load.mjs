// Generates the load of one route at a time, as it is told, with one session per connection.
import autocannon from 'autocannon'
import { COUNT } from './contenders.mjs'

/** Milliseconds between the moments at which a run can end. */
const GRAIN = 20
/** Seconds after which a route that has not answered is given up. */
const LONGEST = 2

process.on('message', (parameters) => {
  generate(parameters).then(
    (result) => process.send(result),
    (error) => process.send({ error: error.message }),
  )
})
process.on('disconnect', () => process.exit())

async function generate({ url, path, expected, cookies, seconds }) {
  let next = 0
  let first = 0
  let last = 0
  let status = 0
  let wrong = 0
  const times = []
  const run = autocannon({
    url,
    duration: seconds,
    sampleInt: GRAIN,
    connections: cookies.length,
    requests: [{ path }],
    setupClient: (client) => client.setHeaders({ cookie: cookies[next++ % cookies.length] }),
    // Called after the listener below, which has counted what is not 200.
    verifyBody: (body) => status !== 200 || (expected === COUNT ? /^[1-9]\d*$/.test(body) : body === expected),
  })
  run.on('response', (_client, statusCode, _bytes, milliseconds) => {
    last = performance.now()
    first ||= last
    status = statusCode
    if (status !== 200) wrong++
    times.push(milliseconds)
  })
  const { errors, timeouts, mismatches } = await run
  if (times.length < 2) {
    // Where others use the cores, a short run may end before its first answer.
    if (seconds < LONGEST) return generate({ url, path, expected, cookies, seconds: seconds * 4 })
    throw new Error(`${path} was not answered in ${seconds.toFixed(1)} s`)
  }
  times.sort((a, b) => a - b)
  const quantile = (part) => times[Math.floor((times.length - 1) * part)]
  return {
    total: times.length,
    us: ((last - first) * 1000) / (times.length - 1),
    p50: quantile(0.5),
    p99: quantile(0.99),
    wrong: wrong + errors + timeouts + mismatches,
  }
}
