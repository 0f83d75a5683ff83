import { isIPv6 } from 'node:net'

export type RedisTopology = 'single' | 'sentinel' | 'cluster'

export interface HostAndPort {
  /** An IPv6 address stands without brackets. */
  readonly host: string
  readonly port: number
}

/** A Redis URL taken apart. User and password are decoded; never log them, log `label`. */
export interface RedisUrl {
  readonly topology: RedisTopology
  readonly tls: boolean
  readonly username: string | undefined
  readonly password: string | undefined
  /** One server, or the Sentinels, or the Cluster members to ask first. */
  readonly hosts: readonly HostAndPort[]
  readonly db: number
  /** Sentinel only: the name of the master group. */
  readonly masterName: string | undefined
  /** What follows `?`, without it; kept for the adapter, empty if there is none. */
  readonly query: string
  /** Safe to show: scheme, hosts and db. */
  readonly label: string
}

const SCHEME = /^(rediss?)(?:\+(sentinel|cluster))?:\/\//i
const HOST = /^[\w.-]{1,253}$/
const PORT = /^\d{1,5}$/
const DEFAULT_PORT: Record<RedisTopology, number> = { single: 6379, sentinel: 26379, cluster: 6379 }
const FORM: Record<RedisTopology, string> = {
  single: 'redis://[[user]:password@]host[:port][/db]',
  sentinel: 'redis+sentinel://[[user]:password@]host[:port],host[:port]/master-name[/db]',
  cluster: 'redis+cluster://[[user]:password@]host[:port],host[:port]',
}

/** What is wrong with a part of the configuration. Holds no password, so it may be shown. */
export class GrammarError extends Error {}

export function isRedisUrl(text: string): boolean {
  return SCHEME.test(text)
}

/**
 * Takes apart `redis://`, `rediss://`, `redis+sentinel://` and `redis+cluster://` URLs. An `@` in the password may
 * stand as it is or as `%40`: the last one is what separates the host (GH327).
 *
 * @throws GrammarError, whose message shows no part of user and password.
 */
export function parseRedisUrl(url: string): RedisUrl {
  const scheme = SCHEME.exec(url)
  if (scheme === null) throw new GrammarError(`it is no Redis URL; it must be ${FORM.single}`)
  const topology = (scheme[2]?.toLowerCase() ?? 'single') as RedisTopology
  const form = FORM[topology]
  const rest = url.slice(scheme[0].length)
  const at = rest.lastIndexOf('@')
  const credentials = at < 0 ? {} : parseCredentials(rest.slice(0, at))
  const [, authority = '', path = '', query = ''] = /^([^/?#]*)([^?#]*)\??(.*)$/s.exec(rest.slice(at + 1))!

  if (topology === 'single' && authority.includes(',')) {
    throw new GrammarError(
      'it names several hosts; several servers are written as n1:redis://host1,n2:redis://host2, ' +
        `a Cluster as ${FORM.cluster}, and memcached and Redis nodes can't be mixed`,
    )
  }
  const hosts = authority.split(',').map((part) => {
    const address = parseHost(part, DEFAULT_PORT[topology])
    if (!address) throw new GrammarError(`a host or port in it is not valid; the form is ${form}`)
    return Object.freeze(address)
  })
  const { db, masterName } = parsePath(path, topology)
  const shown = hosts.map(formatHost).join(',')
  const suffix = topology === 'cluster' ? '' : masterName === undefined ? `/${db}` : `/${masterName}/${db}`
  return Object.freeze({
    topology,
    tls: scheme[1]!.toLowerCase() === 'rediss',
    username: credentials.username,
    password: credentials.password,
    hosts: Object.freeze(hosts),
    db,
    masterName,
    query,
    label: `${scheme[0].toLowerCase()}${shown}${suffix}`,
  })
}

/** `host`, `host:port` or the same with a bracketed IPv6 address; undefined if it is none of them. */
export function parseHost(text: string, defaultPort?: number): HostAndPort | undefined {
  const bracket = text.startsWith('[') ? text.indexOf(']') : -1
  const end = bracket > 0 ? bracket + 1 : text.indexOf(':')
  const name = end < 0 ? text : text.slice(0, end)
  const host = bracket > 0 ? name.slice(1, -1) : name
  if (bracket > 0 ? !isIPv6(host) : !HOST.test(host)) return undefined
  if (name === text) return defaultPort === undefined ? undefined : { host, port: defaultPort }
  const digits = text.slice(end + 1)
  const port = Number(digits)
  if (text[end] !== ':' || !PORT.test(digits) || port < 1 || port > 65535) return undefined
  return { host, port }
}

export function formatHost({ host, port }: HostAndPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function parseCredentials(userInfo: string): { username?: string | undefined; password?: string | undefined } {
  // Any of these would begin the path or the query, and an '@' there could make a piece of a password the host.
  if (/[/?#]/.test(userInfo)) {
    throw new GrammarError(
      '/, ? and # in a user or password are written %2F, %3F and %23, and an @ after the host is written %40',
    )
  }
  const colon = userInfo.indexOf(':')
  try {
    const username = decodeURIComponent(colon < 0 ? userInfo : userInfo.slice(0, colon))
    const password = colon < 0 ? '' : decodeURIComponent(userInfo.slice(colon + 1))
    return { username: username || undefined, password: password || undefined }
  } catch {
    throw new GrammarError('the user or password holds a % that begins no escape; a % itself is written %25')
  }
}

function parsePath(path: string, topology: RedisTopology): { db: number; masterName: string | undefined } {
  const [, first = '', second = '', ...more] = path.split('/')
  const masterName = topology === 'sentinel' ? first : undefined
  const db = topology === 'sentinel' ? second : first
  const tooMuch = more.length > 0 || (topology !== 'sentinel' && second !== '')
  if (tooMuch || !/^\d{0,5}$/.test(db) || (masterName !== undefined && !/^[\w.-]+$/.test(masterName))) {
    throw new GrammarError(`its path is not valid; the form is ${FORM[topology]}`)
  }
  if (topology === 'cluster' && Number(db) !== 0) throw new GrammarError('a Redis Cluster has no db but 0')
  return { db: Number(db), masterName }
}
