/** Attributes of the original that are about Java; what to do instead. */
const TOMCAT_ONLY: Readonly<Record<string, string>> = {
  backupThreadCount: 'It has no meaning in Node, which needs no threads for I/O: remove it.',
  memcachedProtocol: 'The memcached client speaks the binary protocol only: remove it.',
  transcoderFactoryClass:
    "Java serializers don't exist here: remove it, and choose with transcoder: 'msgpack' or 'json'.",
  copyCollectionsForSerialization:
    'Attributes are encoded before the request goes on, so nothing changes meanwhile: remove it.',
  customConverter: 'Pass a SessionTranscoder object as transcoder instead.',
  className: "It is Tomcat's name for the manager's class: remove it.",
}

/** Options of express-session and koa-session that have no meaning here; what to do instead. */
const PEERS_ONLY: Readonly<Record<string, string>> = {
  resave: 'A session is written when its attributes have changed, and only then: remove it.',
  store: "Sessions go to the nodes of memcachedNodes: write a string such as 'n1:10.0.0.1:11211,n2:10.0.0.2:11211'.",
  secret: 'Ids are not signed: they hold 128 random bits, and one that was not given out is never adopted. Remove it.',
  keys: 'Cookies are not signed: an id holds 128 random bits, and one that was not given out is never adopted.',
  signed: 'Cookies are not signed: an id holds 128 random bits, and one that was not given out is never adopted.',
  key: 'The name of the cookie is the option name.',
  renew: 'A cookie with a lifetime is sent again with every change; with rolling: true, with every response.',
  maxAge: 'The idle time is maxInactiveInterval, in seconds; the lifetime of the cookie is cookie.maxAge, in seconds.',
  ContextStore: "Sessions go to the nodes of memcachedNodes: write a string such as 'n1:10.0.0.1:11211'.",
  externalKey: "The id is found by sessionTracking: ['cookie', 'header'].",
}

/**
 * Refuses options that nobody knows, with the nearest name that is known, and those that only Tomcat can have, with what
 * to do instead.
 *
 * @throws TypeError
 */
export function checkNames(given: object, known: readonly string[], path = ''): void {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const instead = path === '' ? (own(TOMCAT_ONLY, name) ?? own(PEERS_ONLY, name)) : undefined
    if (instead !== undefined) throw new TypeError(`The option ${name} is not supported. ${instead}`)
    throw new TypeError(`Unknown option ${path}${name}. Did you mean ${path}${nearestName(name, known)}?`)
  }
}

function own(table: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined
}

/** The known name that takes the fewest edits to get to, upper and lower case being the same. */
export function nearestName(name: string, known: readonly string[]): string {
  const wanted = name.slice(0, 100).toLowerCase()
  let best = known[0]!
  let least = Number.POSITIVE_INFINITY
  for (const candidate of known) {
    const edits = editDistance(wanted, candidate.toLowerCase())
    if (edits < least) {
      best = candidate
      least = edits
    }
  }
  return best
}

/** The Levenshtein distance of two strings. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const substituted = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[to.length]!
}
