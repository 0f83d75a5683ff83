import { isNodeId } from '../ids/session-id-format.ts'
import { show } from '../options/values.ts'
import type { NodeAddress } from '../ports.ts'
import { formatHost, GrammarError, isRedisUrl, parseHost, parseRedisUrl } from './redis-url.ts'

const FORM =
  "'host:port', a list 'n1:host:port,n2:host:port', a Redis URL 'redis://host:port/db', or a list " +
  "'n1:redis://host:port,n2:redis://host:port'"

/** In a URL, `user:password` whose `@host` was forgotten reads as a host with a strange port. */
const STRANGE_PORT =
  /(:\/\/(?:(?:\[[^\]\s]*\]|[^,\s/?:[]*)(?::\d{1,5})?,)*(?:\[[^\]\s]*\]|[^,\s/?:[]*)):(?!\d{1,5}(?:[,/\s?]|$)|rediss?(?:\+\w+)?:\/\/)\S*/gi

/** What `memcachedNodes` and `failoverNodes` say, checked and frozen. */
export class NodesConfig {
  /** In the order of the configuration, failover nodes included. */
  readonly addresses: readonly NodeAddress[]
  /** Empty for a single node without node id. */
  readonly nodeIds: readonly string[]
  /** The node ids that are not failover nodes. */
  readonly primaryNodeIds: readonly string[]
  /** In the order of `failoverNodes`. */
  readonly failoverNodeIds: readonly string[]
  /** False only for a single node without node id. */
  readonly encodesNodeId: boolean
  readonly #byId: ReadonlyMap<string, NodeAddress>

  constructor(addresses: readonly NodeAddress[], failoverNodeIds: readonly string[]) {
    this.#byId = new Map(addresses.flatMap((address) => (address.nodeId ? [[address.nodeId, address] as const] : [])))
    this.addresses = Object.freeze([...addresses])
    this.nodeIds = Object.freeze([...this.#byId.keys()])
    this.failoverNodeIds = Object.freeze([...failoverNodeIds])
    this.primaryNodeIds = Object.freeze(this.nodeIds.filter((id) => !failoverNodeIds.includes(id)))
    this.encodesNodeId = this.nodeIds.length > 0
    Object.freeze(this)
  }

  has(nodeId: string): boolean {
    return this.#byId.has(nodeId)
  }

  isFailoverNode(nodeId: string): boolean {
    return this.failoverNodeIds.includes(nodeId)
  }

  /** The address of a node, undefined if there is none of that id. */
  address(nodeId: string): NodeAddress | undefined {
    return this.#byId.get(nodeId)
  }

  /**
   * All other nodes in list order, beginning after the given one and wrapping around (NodeIdListTest).
   *
   * @throws TypeError for an unknown node id.
   */
  after(nodeId: string): readonly string[] {
    const at = this.nodeIds.indexOf(nodeId)
    if (at < 0) throw new TypeError(`${JSON.stringify(nodeId)} is not one of the nodes ${this.nodeIds.join(', ')}.`)
    return [...this.nodeIds.slice(at + 1), ...this.nodeIds.slice(0, at)]
  }
}

/**
 * Reads `memcachedNodes` and `failoverNodes` (MemcachedNodesManagerTest). Without `memcachedNodes` there is one node in
 * the memory of the process.
 *
 * @throws TypeError that names option, value and right form, and shows no password.
 */
export function parseNodes(memcachedNodes: string | undefined, failoverNodes?: string | null): NodesConfig {
  const addresses = memcachedNodes === undefined ? [memoryNode()] : parseAddresses(memcachedNodes)
  return new NodesConfig(addresses, parseFailoverNodes(failoverNodes, addresses))
}

/** `value` without any part that could be a password: fit for an error message or a log line. */
export function redactNodes(value: string): string {
  let text = value
  const at = text.lastIndexOf('@')
  if (at >= 0) {
    const scheme = text.indexOf('://')
    // After an '@' the first scheme is that of another node, and a password may stand before it.
    text = `${text.slice(0, scheme >= 0 && scheme < text.indexOf('@') ? scheme + 3 : 0)}***${text.slice(at)}`
  }
  return text
    .replace(STRANGE_PORT, '$1:***')
    .replace(/(rediss?[a-z+]*:\/)(?!\/)\S*/gi, '$1***')
    .replace(/\?\S*/g, '?***')
}

function memoryNode(): NodeAddress {
  return Object.freeze({ nodeId: undefined, kind: 'memory', host: '', port: 0, label: 'memory' })
}

function parseAddresses(value: unknown): NodeAddress[] {
  if (typeof value !== 'string') throw refused(value, 'it is no string')
  if (value.trim() === '')
    throw refused(value, 'it is empty; leave it out to keep sessions in the memory of the process')
  if (/(?:^|[\s,:])https?:\/\//i.test(value)) {
    throw refused(value, 'http:// URLs of Couchbase are not supported')
  }
  const addresses = splitEntries(value.trim()).map((entry) => parseEntry(value, entry))
  if (new Set(addresses.map((address) => address.kind)).size > 1) {
    throw refused(value, "memcached and Redis nodes can't be mixed")
  }
  const seen = new Set<string | undefined>()
  for (const { nodeId } of addresses) {
    if (addresses.length > 1 && nodeId === undefined) {
      throw refused(value, 'each of several nodes needs a node id of its own, as in n1:host:port,n2:host:port')
    }
    if (seen.has(nodeId)) throw refused(value, `the node id ${nodeId} is there twice`)
    seen.add(nodeId)
  }
  return addresses
}

/** Comma or white space separates entries, but a comma within a Redis URL only if another URL begins behind it. */
function splitEntries(value: string): string[] {
  return value
    .replace(/\s*,\s*/g, ',')
    .split(/\s+|,(?=(?:[^\s,:/@]*:)?[a-z][a-z+]*:\/\/)/i)
    .flatMap((part) => (part.includes('://') ? [part] : part.split(',')))
}

function parseEntry(value: string, entry: string): NodeAddress {
  const url = /^(?:([^:/]*):)?([a-z][a-z+]*:\/\/.*)$/is.exec(entry)
  try {
    return Object.freeze(url ? parseUrlEntry(url[1], url[2]!) : parseMemcachedEntry(entry))
  } catch (error) {
    if (error instanceof GrammarError)
      throw refused(value, `in ${redactNodes(entry) || 'an empty entry'}: ${error.message}`)
    throw error
  }
}

function parseUrlEntry(nodeId: string | undefined, url: string): NodeAddress {
  if (!isRedisUrl(url))
    throw new GrammarError('the scheme is not redis://, rediss://, redis+sentinel:// or redis+cluster://')
  checkNodeId(nodeId)
  const { hosts, label } = parseRedisUrl(url)
  return { nodeId, kind: 'redis', ...hosts[0]!, url, label: withNodeId(nodeId, label) }
}

function parseMemcachedEntry(entry: string): NodeAddress {
  if (entry === '') throw new GrammarError('a separator has no node beside it')
  const single = parseHost(entry)
  if (single) return { nodeId: undefined, kind: 'memcached', ...single, label: formatHost(single) }
  const colon = entry.indexOf(':')
  const address = colon < 0 ? undefined : parseHost(entry.slice(colon + 1))
  if (!address) throw new GrammarError('it is not host:port or id:host:port with a port from 1 to 65535')
  const nodeId = entry.slice(0, colon)
  checkNodeId(nodeId)
  return { nodeId, kind: 'memcached', ...address, label: withNodeId(nodeId, formatHost(address)) }
}

function checkNodeId(nodeId: string | undefined): void {
  if (nodeId !== undefined && !isNodeId(nodeId)) {
    throw new GrammarError('a node id is 1 to 64 letters, digits and underscores')
  }
}

function withNodeId(nodeId: string | undefined, label: string): string {
  return nodeId === undefined ? label : `${nodeId}:${label}`
}

function parseFailoverNodes(value: unknown, addresses: readonly NodeAddress[]): string[] {
  if (value === undefined || value === null) return []
  const form = "It must be a comma list of node ids that are in memcachedNodes, such as 'n1'."
  const shown = show(typeof value === 'string' ? redactNodes(value) : value)
  const wrong = (reason: string) => new TypeError(`failoverNodes: ${shown} is not valid: ${reason}. ${form}`)
  if (typeof value !== 'string') throw wrong('it is no string')
  const ids = [...new Set(value.split(/[\s,]+/).filter((id) => id !== ''))]
  if (ids.length === 0) return []
  if (addresses.length === 1) throw wrong('a single node has nothing to fail over to; leave failoverNodes out')
  const known = addresses.map((address) => address.nodeId)
  const unknown = ids.find((id) => !known.includes(id))
  if (unknown !== undefined) throw wrong(`${redactNodes(unknown)} is not one of the nodes ${known.join(', ')}`)
  if (ids.length === known.length) throw wrong('all nodes are failover nodes, so no node is left for normal use')
  return ids
}

function refused(value: unknown, reason: string): TypeError {
  const shown = typeof value === 'string' ? JSON.stringify(redactNodes(value)) : `a value of type ${typeof value}`
  return new TypeError(`memcachedNodes: ${shown} is not valid: ${reason}. It must be ${FORM}.`)
}
