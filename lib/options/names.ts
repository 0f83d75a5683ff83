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

/**
 * Refuses options that nobody knows, with the nearest name that is known, and those that only Tomcat can have, with what
 * to do instead.
 *
 * @throws TypeError
 */
export function checkNames(given: object, known: readonly string[], path = ''): void {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue
    const instead = path === '' && Object.hasOwn(TOMCAT_ONLY, name) ? TOMCAT_ONLY[name] : undefined
    if (instead !== undefined) throw new TypeError(`The option ${name} is not supported. ${instead}`)
    throw new TypeError(`Unknown option ${path}${name}. Did you mean ${path}${nearestName(name, known)}?`)
  }
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
