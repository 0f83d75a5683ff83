import fc from 'fast-check'
import { describe } from 'vitest'
import { type NodesConfig, parseNodes, redactNodes } from '../../lib/nodes/memcached-nodes.ts'
import { GrammarError, parseRedisUrl, type RedisUrl } from '../../lib/nodes/redis-url.ts'
import { anyText, anyValue, isFast, mutatedText, orMessage } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const SECRET = 'sEcReT'
const NODES = [
  'n1:localhost:11211,n2:localhost:11212',
  'localhost:11211',
  'n1:[::1]:11211 n2:10.0.0.1:1',
  `redis://:${SECRET}@cache:6379/2`,
  `rediss://user:${SECRET}@cache`,
  `n1:redis://:${SECRET}@c1:6379,n2:rediss://user:${SECRET}@c2:6379/1`,
  `redis+sentinel://:${SECRET}@s1,s2:26379/main/3`,
  `rediss+cluster://user:${SECRET}@c1,c2:7001`,
]
const PIECES = [
  ...['n1', 'n1:', ':', ',', ' ', '/', '//', '://', '?', '#', '[', ']', '[::1]', '%', '%zz', '\n', '\0', 'é', '.', '-'],
  ...[
    'redis://',
    'rediss://',
    'redis+sentinel://',
    'redis+cluster://',
    'http://',
    '0',
    '65536',
    '11211',
    '\ud800',
    'R',
  ],
]
const join = (pieces: readonly string[]): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...pieces), { maxLength: 14 }).map((parts) => parts.join(''))
const nodes = fc.oneof(
  mutatedText(fc.constantFrom(...NODES), PIECES),
  mutatedText(fc.constantFrom(...NODES), ['@', ...PIECES]),
  join(['@', ...PIECES]),
  anyText,
)

const isHost = (host: string): boolean => /^(?:[\w.-]{1,253}|[0-9a-f:.]+(?:%[\w.:-]+)?)$/i.test(host)
const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65536

function isSound({ addresses, nodeIds, primaryNodeIds, failoverNodeIds }: NodesConfig): boolean {
  return (
    addresses.length > 0 &&
    addresses.every(({ host, port, nodeId }) => isHost(host) && isPort(port) && /^\w{1,64}$/.test(nodeId ?? 'x')) &&
    new Set(nodeIds).size === nodeIds.length &&
    nodeIds.length === primaryNodeIds.length + failoverNodeIds.length
  )
}

describe('memcachedNodes', () => {
  fuzz(
    'of any text are sound nodes, or a TypeError that says so',
    fc.property(nodes, (text) => {
      const result = orMessage(() => parseNodes(text))
      return 'value' in result ? isSound(result.value) : result.message.startsWith('memcachedNodes: ')
    }),
  )
  fuzz(
    'of any type are nodes, or a TypeError that says so',
    fc.property(anyValue, (value) => {
      const result = orMessage(() => parseNodes(value as string))
      return 'value' in result || result.message.startsWith('memcachedNodes: ')
    }),
  )
  fuzz(
    'give the same nodes when they are written again',
    fc.property(nodes, (text) => {
      const result = orMessage(() => parseNodes(text))
      if ('message' in result || result.value.addresses[0]!.kind !== 'memcached') return true
      const labels = result.value.addresses.map(({ label }) => label).join(',')
      return parseNodes(labels).addresses.every(({ label }, i) => label === result.value.addresses[i]!.label)
    }),
  )
  fuzz(
    'show no password, in labels or in errors',
    fc.property(
      fc.constantFrom(...NODES),
      fc.nat(),
      fc.constantFrom('', ...PIECES),
      fc.boolean(),
      (text, position, piece, replaces) => {
        const at = position % (text.length + 1)
        const changed = text.slice(0, at) + piece + text.slice(replaces && !inSecret(text, at) ? at + 1 : at)
        const result = orMessage(() => parseNodes(changed))
        const shown = 'message' in result ? result.message : result.value.addresses.map(({ label }) => label).join()
        return !showsSecret(shown) && !showsSecret(redactNodes(changed))
      },
    ),
  )
  fuzz(
    'of a long text that repeats anything take no second',
    fc.property(fc.constantFrom(...PIECES, 'a'), fc.constantFrom(...PIECES, '@'), (one, other) => {
      const text = (one + other).repeat(2000)
      return isFast(() => orMessage(() => parseNodes(text)), 1000)
    }),
    100,
  )
})

describe('failoverNodes', () => {
  const pieces = ['n1', 'n2', 'n3', ',', ' ', '\n', '', 'n4', 'é', '__proto__']
  fuzz(
    'of any value are some of the nodes, or a TypeError that says so',
    fc.property(fc.oneof(join(pieces), anyValue), (value) => {
      const result = orMessage(() => parseNodes('n1:a:1,n2:b:2,n3:c:3', value as string))
      return 'value' in result ? isSound(result.value) : result.message.startsWith('failoverNodes: ')
    }),
  )
})

function inSecret(text: string, at: number): boolean {
  return [...text.matchAll(new RegExp(SECRET, 'g'))].some(({ index }) => at >= index && at < index + SECRET.length)
}

/** Four letters of it are enough to count. */
function showsSecret(shown: string): boolean {
  return ['sEcR', 'EcRe', 'cReT'].some((piece) => shown.includes(piece))
}

const redisUrl = fc.oneof(
  mutatedText(fc.constantFrom(...NODES.filter((text) => text.startsWith('redis'))), ['@', ...PIECES]),
  join(['@', ...PIECES]).map((text) => `redis://${text}`),
  anyText,
)

function parseOrRefuse(url: string): RedisUrl | undefined {
  try {
    return parseRedisUrl(url)
  } catch (error) {
    if (error instanceof GrammarError && !error.message.includes(SECRET)) return undefined
    throw error
  }
}

describe('a Redis URL', () => {
  fuzz(
    'of any text has sound parts, or is refused',
    fc.property(redisUrl, (url) => {
      const parsed = parseOrRefuse(url)
      if (!parsed) return true
      return (
        parsed.hosts.length > 0 &&
        parsed.hosts.every(({ host, port }) => isHost(host) && isPort(port)) &&
        Number.isInteger(parsed.db) &&
        parsed.db >= 0 &&
        (parsed.topology === 'sentinel') === (parsed.masterName !== undefined) &&
        parseRedisUrl(parsed.label).label === parsed.label
      )
    }),
  )
  fuzz(
    'gives user and password as they were encoded',
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.constantFrom('h', 'h:1', '[::1]:6379', 'h/3', 'h?a=b'),
      (username, password, rest) => {
        const url = `redis://${encodeURIComponent(username)}:${encodeURIComponent(password)}@${rest}`
        const parsed = parseRedisUrl(url)
        return parsed.username === (username || undefined) && parsed.password === (password || undefined)
      },
    ),
  )
})
