import { randomFillSync } from 'node:crypto'

/** Bytes of randomness an id has unless `sessionIdLength` says otherwise (Tomcat's default). */
export const DEFAULT_SESSION_ID_BYTES = 16
/** Ids drawn from one refill of the random pool: a call into the CSPRNG costs more than the id itself. */
const POOLED_IDS = 256
/** Longest id taken from a client, if the caller sets no bound of its own: memcached's limit for a key. */
const MAX_ID_LENGTH = 250

const NODE_ID = /^\w{1,64}$/
const CUSTOM_BASE = /^[A-Za-z0-9_-]{16,128}$/
const JVM_ROUTE = /^[A-Za-z0-9._-]{1,64}$/

/** The parts of an id that has the exact form `<base>[-<node id>][.<jvmRoute>]`. */
export interface SessionIdParts {
  readonly id: string
  /** The random hex digits; they never change for relocation or takeover. */
  readonly base: string
  readonly nodeId: string | undefined
  readonly jvmRoute: string | undefined
}

export interface SessionIdFormatOptions {
  /** Random bytes of an id; twice as many hex digits. @default 16 */
  readonly sessionIdLength?: number
  /** Appended to every new id. */
  readonly jvmRoute?: string | undefined
  /** Characters; a longer id from a client is refused, so that no key made from it is too long. @default 250 */
  readonly maxSessionIdLength?: number
  /** True if the app makes the bases itself: 16 to 128 letters, digits, dashes and underscores. @default false */
  readonly hasCustomIds?: boolean
  /** Ids of the nodes that ids may name; undefined if they name none. Only needed with custom ids, that may hold dashes. */
  readonly nodeIds?: readonly string[]
}

/** True for word characters, 1 to 64 of them: what may stand before a node's address. */
export function isNodeId(value: string): boolean {
  return NODE_ID.test(value)
}

/** True for 1 to 64 letters, digits, dots, dashes and underscores. */
export function isJvmRoute(value: string): boolean {
  return JVM_ROUTE.test(value)
}

/** Where the route begins: at the first dot, as a route may hold dots and dashes itself (GH274, GH105). */
function endOfLeftPart(id: string): number {
  const dot = id.indexOf('.')
  return dot < 0 ? id.length : dot
}

/** The index of the dash before the node id, or -1 if the id has none. */
function nodeDash(id: string, end: number): number {
  const dash = end === 0 ? -1 : id.lastIndexOf('-', end - 1)
  return dash > 0 && isNodeId(id.slice(dash + 1, end)) ? dash : -1
}

/**
 * The node id of any session id, undefined if it has none (SessionIdFormatTest.testExtractMemcachedId). Takes ids of
 * any alphabet, also ones whose base holds dashes (GH380); never give it a storage key (GH350).
 */
export function extractNodeId(id: string): string | undefined {
  const end = endOfLeftPart(id)
  const dash = nodeDash(id, end)
  return dash < 0 ? undefined : id.slice(dash + 1, end)
}

/** All that follows the first dot, undefined if there is nothing. */
export function extractJvmRoute(id: string): string | undefined {
  const end = endOfLeftPart(id)
  return end + 1 < id.length ? id.slice(end + 1) : undefined
}

/** The id without node id and route. */
export function extractBase(id: string): string {
  const end = endOfLeftPart(id)
  const dash = nodeDash(id, end)
  return id.slice(0, dash < 0 ? end : dash)
}

/** Adds a node id to an id that has none: `foo.jvm1` and `n` give `foo-n.jvm1` (testCreateSessionId). */
export function createSessionId(id: string, nodeId?: string): string {
  if (nodeId === undefined) return id
  const end = endOfLeftPart(id)
  return `${id.slice(0, end)}-${nodeId}${id.slice(end)}`
}

/** Replaces the node id, or adds it: `foo-n.jvm1` and `m` give `foo-m.jvm1` (testCreateNewSessionId). */
export function createNewSessionId(id: string, newNodeId: string): string {
  const end = endOfLeftPart(id)
  const dash = nodeDash(id, end)
  return `${id.slice(0, dash < 0 ? end : dash)}-${newNodeId}${id.slice(end)}`
}

/** Replaces the route, adds it, or takes it away if `jvmRoute` is undefined. */
export function changeJvmRoute(id: string, jvmRoute: string | undefined): string {
  const left = id.slice(0, endOfLeftPart(id))
  return jvmRoute === undefined ? left : `${left}.${jvmRoute}`
}

/** True if the id names a node, whatever its base and route look like (testIsValid). */
export function isValidWithNodeId(id: string): boolean {
  const end = endOfLeftPart(id)
  return nodeDash(id, end) > 0 && end + 1 !== id.length
}

/** Puts an id together from its parts. */
export function joinSessionId(base: string, nodeId: string | undefined, jvmRoute: string | undefined): string {
  const left = nodeId === undefined ? base : `${base}-${nodeId}`
  return jvmRoute === undefined ? left : `${left}.${jvmRoute}`
}

/** Makes session ids, and takes apart those that come from clients. */
export class SessionIdFormat {
  /** Hex digits of the base. */
  readonly baseLength: number
  readonly jvmRoute: string | undefined
  readonly #maxLength: number
  readonly #exact: RegExp
  readonly #customNodeIds: readonly string[] | undefined
  readonly #bytes: number
  readonly #pool: Buffer
  #used: number

  /** @throws TypeError if the route or the length can't be part of an id. */
  constructor(options: SessionIdFormatOptions = {}) {
    const bytes = options.sessionIdLength ?? DEFAULT_SESSION_ID_BYTES
    if (!Number.isInteger(bytes) || bytes < 1) {
      throw new TypeError(`sessionIdLength: ${bytes} is not a whole number of bytes, 1 or more.`)
    }
    if (options.jvmRoute !== undefined && !isJvmRoute(options.jvmRoute)) {
      throw new TypeError(
        `jvmRoute: ${JSON.stringify(options.jvmRoute)} is not 1 to 64 letters, digits, dots, dashes and underscores.`,
      )
    }
    this.#bytes = bytes
    this.baseLength = 2 * bytes
    this.jvmRoute = options.jvmRoute
    this.#maxLength = options.maxSessionIdLength ?? MAX_ID_LENGTH
    this.#customNodeIds = options.hasCustomIds ? (options.nodeIds ?? []) : undefined
    // Each part ends at a character the part before cannot hold, so there is nothing to backtrack into.
    this.#exact = new RegExp(`^([0-9A-F]{${this.baseLength}})(?:-(\\w{1,64}))?(?:\\.([A-Za-z0-9._-]{1,64}))?$`)
    this.#pool = Buffer.allocUnsafeSlow(bytes * POOLED_IDS)
    this.#used = this.#pool.length
  }

  /** A new id from a cryptographic random source, with this process's route, on the given node. */
  generate(nodeId?: string): string {
    return joinSessionId(this.generateBase(), nodeId, this.jvmRoute)
  }

  /** An id of this process with the given base. */
  withBase(base: string, nodeId?: string): string {
    return joinSessionId(base, nodeId, this.jvmRoute)
  }

  /** The base that the app made. @throws TypeError if it has not the form of one */
  checkBase(base: unknown): string {
    if (typeof base === 'string' && CUSTOM_BASE.test(base)) return base
    throw new TypeError('genid: must return 16 to 128 letters, digits, dashes and underscores.')
  }

  /** The part of a new id that is random. */
  generateBase(): string {
    if (this.#used === this.#pool.length) {
      randomFillSync(this.#pool)
      this.#used = 0
    }
    const start = this.#used
    this.#used += this.#bytes
    return this.#pool.toString('hex', start, this.#used).toUpperCase()
  }

  /** The parts of an id of exactly our form, undefined for anything else. Meant for whatever a client sends. */
  parse(id: string): SessionIdParts | undefined {
    if (this.#customNodeIds) return this.#parseCustom(id, this.#customNodeIds)
    if (id.length < this.baseLength || id.length > this.#maxLength) return undefined
    const match = this.#exact.exec(id)
    if (match === null) return undefined
    return { id, base: match[1]!, nodeId: match[2], jvmRoute: match[3] }
  }

  /** A base of the app's own may hold dashes, so what follows the last one is a node id only if it is one of ours. */
  #parseCustom(id: string, nodeIds: readonly string[]): SessionIdParts | undefined {
    if (id.length > this.#maxLength) return undefined
    const nodeId = extractNodeId(id)
    const isNode = nodeId !== undefined && nodeIds.includes(nodeId)
    const end = endOfLeftPart(id)
    const base = isNode ? extractBase(id) : id.slice(0, end)
    const jvmRoute = end === id.length ? undefined : id.slice(end + 1)
    if (!CUSTOM_BASE.test(base) || (jvmRoute !== undefined && !isJvmRoute(jvmRoute))) return undefined
    return { id, base, nodeId: isNode ? nodeId : undefined, jvmRoute }
  }

  /** Puts the parts of an id together again. */
  format(parts: Omit<SessionIdParts, 'id'>): string {
    return joinSessionId(parts.base, parts.nodeId, parts.jvmRoute)
  }

  join(base: string, nodeId?: string, jvmRoute?: string): string {
    return joinSessionId(base, nodeId, jvmRoute)
  }
}
