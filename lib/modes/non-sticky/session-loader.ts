import { SessionManagerError } from '../../errors.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import { createNewSessionId, type SessionIdParts } from '../../ids/session-id-format.ts'
import type { StoredItem } from '../../ports.ts'
import { decodeSessionRecord, encodeSessionRecord } from '../../records/session-record.ts'
import { decodeValidityInfo, encodeValidityInfo, type ValidityInfo } from '../../records/validity-info.ts'
import type { SessionContext } from '../../session-context.ts'
import type { Deletions } from '../../storage/deletions.ts'
import { sessionExpiration, validityExpiration } from '../../storage/expiration.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import { rejectRecord } from '../reject-record.ts'
import { NonStickySession } from './non-sticky-session.ts'
import { putIfNewer, type SecondCopies } from './second-copies.ts'
import type { Tombstones } from './tombstones.ts'

/** Milliseconds for which the sessions of a node that had trouble are compared with their copies. */
const SUSPECT_AFTER_TROUBLE = 1_800_000

/**
 * Milliseconds for which the copy of a session is not taken for it after both its nodes were away at the same time: it may
 * be older than what is on the other, which is most likely back with the next probe.
 */
const WAIT_FOR_OTHER = 1500

/** A record found somewhere, as a primary node's or as a copy. */
interface Candidate {
  readonly session: NonStickySession
  readonly isCopy: boolean
}

/** Loads sessions: from the primary node, and if that is gone, was restarted or had trouble, from wherever the newest is. */
export class SessionLoader {
  readonly #context: SessionContext
  readonly #copies: SecondCopies
  readonly #tombstones: Tombstones
  readonly #deletions: Deletions
  readonly #searches = new Map<string, Promise<NonStickySession | undefined>>()

  constructor(context: SessionContext, copies: SecondCopies, tombstones: Tombstones, deletions: Deletions) {
    this.#context = context
    this.#deletions = deletions
    this.#copies = copies
    this.#tombstones = tombstones
  }

  /**
   * The session, as a copy of the caller's own; undefined if there is none (any more). Its id names another node if it
   * had to be moved.
   * @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE with status 503 if the nodes that may have it don't answer
   */
  async load(id: SessionIdParts): Promise<NonStickySession | undefined> {
    const { nodes, statistics } = this.#context
    const start = performance.now()
    const own = nodes.ofSession(id.id)
    const isAlone = nodes.config.nodeIds.length < 2
    let found: NonStickySession | undefined
    if (own && !own.isAvailable) await nodes.monitor.secondLook(own)
    if (own?.isAvailable && (isAlone || !nodes.monitor.hadTrouble(own, SUSPECT_AFTER_TROUBLE))) {
      let answer = await this.#ask(own, id.base, id.id, false)
      if (answer === 'failed') answer = await this.#askAgain(own, id)
      if (answer === 'failed') found = await this.#searchOnce(id, own, 'failed')
      else found = answer?.session ?? (isAlone ? undefined : await this.#searchOnce(id, own, 'miss'))
    } else {
      found = await this.#searchOnce(id, own, own?.isAvailable ? 'unasked' : 'failed')
    }
    if (found) statistics.record('sessionsLoadedFromMemcached', performance.now() - start)
    return found
  }

  /** One search for all requests that come with the same id at the same time; the others load what it has put in place. */
  async #searchOnce(
    id: SessionIdParts,
    own: StorageNode | undefined,
    answer: 'miss' | 'failed' | 'unasked',
  ): Promise<NonStickySession | undefined> {
    const under = this.#searches.get(id.id)
    if (!under) {
      const search = this.#search(id, own, answer).finally(() => this.#searches.delete(id.id))
      this.#searches.set(id.id, search)
      return search
    }
    const session = await under
    const parts = session && this.#context.ids.parse(session.id)
    const node = session && this.#context.nodes.ofSession(session.id)
    if (!parts || !node?.isAvailable) return undefined
    const found = await this.#ask(node, parts.base, parts.id, false)
    if (found === 'failed') throw unavailable()
    return found?.session
  }

  /** Looks for the newest record on all nodes, and puts it where it belongs. */
  async #search(
    id: SessionIdParts,
    own: StorageNode | undefined,
    answer: 'miss' | 'failed' | 'unasked',
  ): Promise<NonStickySession | undefined> {
    const { nodes } = this.#context
    if (answer === 'miss' && !nodes.hadTrouble(SUSPECT_AFTER_TROUBLE)) {
      // Most likely it never was one, or has expired: that must not cost more than asking for its copy.
      const copyNode = this.#copies.nodeFor(id.id)
      if (copyNode && !(await this.#ask(copyNode, id.base, id.id, true))) return undefined
    }
    const others = [...nodes.all()].filter((node) => node !== own)
    const available = others.filter((node) => node.isAvailable)
    const [isDestroyed, first, ...elsewhere] = await Promise.all([
      this.#tombstones.has(id.base),
      answer === 'unasked' ? this.#ask(own!, id.base, id.id, false) : undefined,
      ...available.flatMap((node) => [
        this.#ask(node, id.base, id.id, true),
        // A request that came before this one may have moved it there already.
        ...(node.id === undefined ? [] : [this.#ask(node, id.base, createNewSessionId(id.id, node.id), false)]),
      ]),
    ])
    if (isDestroyed) return undefined
    const atHome = first === 'failed' ? await this.#askAgain(own!, id) : first
    let newest: Candidate | undefined
    for (const candidate of [atHome, ...elsewhere]) {
      if (!candidate || candidate === 'failed') continue
      if (!newest || candidate.session.lastBackupTime > newest.session.lastBackupTime) newest = candidate
    }
    if (newest?.isCopy && own && wereAwayTogether(own, newest.session.stored!.node)) throw unavailable()
    if (newest) return this.#place(newest, id, own)
    const suspect = (node: StorageNode): boolean => nodes.monitor.hadTrouble(node, SUSPECT_AFTER_TROUBLE)
    const isHomeLost = own !== undefined && (answer === 'failed' || atHome === 'failed')
    const isCopyLost = others.some(suspect) || elsewhere.includes('failed')
    // A node that never had trouble is believed when it says that there is no such session.
    if (isHomeLost ? others.length === 0 || isCopyLost : own && suspect(own) && available.length < others.length) {
      throw unavailable()
    }
    return undefined
  }

  /** Makes what was found the record of a primary node again: of its own, if that is up, or else of the next. */
  async #place(
    { session, isCopy }: Candidate,
    id: SessionIdParts,
    own: StorageNode | undefined,
  ): Promise<NonStickySession | undefined> {
    const found = session.stored!.node
    if (!isCopy && found === own) return session
    const target = isCopy ? this.#homeFor(id, own) : found
    const newId = target.id === undefined ? id.id : createNewSessionId(id.id, target.id)
    if (isCopy && !(await this.#restoreOn(target, newId, session))) return undefined
    if (newId !== id.id) this.#moved(id, newId, target, session.lastBackupTime)
    const placed = await this.#ask(target, id.base, newId, false)
    if (placed === 'failed') throw unavailable()
    if (placed) placed.session.needsCopy = true
    return placed?.session
  }

  #homeFor(id: SessionIdParts, own: StorageNode | undefined): StorageNode {
    if (own?.isAvailable) return own
    const next = this.#context.selector.next(id.nodeId ?? '')
    const node = next === undefined ? undefined : this.#context.nodes.get(next)
    if (!node) throw unavailable()
    return node
  }

  /** Stores a copy as a primary record; false if the session was destroyed at the same time. */
  async #restoreOn(target: StorageNode, newId: string, session: NonStickySession): Promise<boolean> {
    const { keys } = this.#context
    const { value } = session.stored!
    const key = keys.session(newId)
    const record = newId === session.id ? value : encodeSessionRecord({ ...decodeSessionRecord(value), id: newId })
    this.#deletions.cancel(target, key)
    this.#deletions.cancel(target, keys.validity(newId))
    await putIfNewer(target, key, record, sessionExpiration(session.maxInactiveInterval))
    await target.set(keys.validity(newId), encodeValidityInfo(session), validityExpiration(session.maxInactiveInterval))
    // Looked for again, as who destroyed it meanwhile could not know of this record.
    if (!(await this.#tombstones.has(session.base))) return true
    await target.delete(key)
    return false
  }

  #moved({ id, nodeId }: SessionIdParts, newId: string, target: StorageNode, lastBackupTime: number): void {
    const { statistics, events, nodes, keys } = this.#context
    statistics.increment('numMemcachedFailover')
    events.emit('idChanged', {
      session: hashSessionId(newId),
      reason: 'relocation',
      ...(nodeId === undefined ? {} : { fromNode: nodeId }),
      ...(target.id === undefined ? {} : { toNode: target.id }),
    })
    const former = nodes.ofSession(id)
    if (former) {
      void this.#deletions.delete(former, keys.session(id), lastBackupTime)
    }
    void this.#copies.remove(id)
  }

  /** What its own node says that has failed, if only the connection was lost. */
  async #askAgain(own: StorageNode, { base, id }: SessionIdParts): Promise<Candidate | 'failed' | undefined> {
    await this.#context.nodes.monitor.secondLook(own)
    return own.isAvailable ? this.#ask(own, base, id, false) : 'failed'
  }

  /** The session as one node has it, as its primary or as a copy; `failed` if the node did not answer. */
  async #ask(node: StorageNode, base: string, id: string, asCopy: boolean): Promise<Candidate | 'failed' | undefined> {
    const { keys } = this.#context
    const key = asCopy ? keys.backup(id) : keys.session(id)
    try {
      const [item, validity] = await node.getMany([key, asCopy ? keys.validityBackup(id) : keys.validity(id)])
      const session = item && this.#restore(node, key, base, id, item, validity)
      return session && { session, isCopy: asCopy }
    } catch {
      // Counted, and logged if it took the node down.
      return 'failed'
    }
  }

  #restore(
    node: StorageNode,
    key: string,
    base: string,
    id: string,
    item: StoredItem,
    validity: StoredItem | undefined,
  ): NonStickySession | undefined {
    const { attributes } = this.#context
    try {
      const record = decodeSessionRecord(item.value)
      if (record.id !== id) throw new SessionManagerError('ERR_MSM_INVALID_RECORD', 'The record is of another session.')
      if (!record.isValid) return undefined
      const session = new NonStickySession(base, id, record.maxInactiveInterval, record.creationTime)
      session.adopt(record, {
        node,
        value: item.value,
        attributes: attributes.open(record.attributes, base),
        version: item.version,
      })
      session.isNew = false
      session.limitLifetime(this.#context.options.maxLifetimeSeconds)
      if (Date.now() >= session.endsAt) return undefined
      session.validity = validity && this.#validity(validity.value)
      if (session.validity) {
        // That the store still has it says that it is alive, whatever the clock of the machine that wrote it.
        session.lastAccessedTime = session.validity.lastAccessedTime
        session.thisAccessedTime = session.validity.thisAccessedTime
      } else if (session.isExpired(Date.now())) {
        this.#context.logger.debug?.(`Session ${hashSessionId(id)} has expired.`)
        return undefined
      }
      session.attributes = attributes.decode(session.stored!.attributes)
      this.#context.principals.loaded(session)
      return session
    } catch (error) {
      rejectRecord(this.#context, node, key, id, error)
      return undefined
    }
  }

  #validity(value: Buffer): ValidityInfo | undefined {
    try {
      return decodeValidityInfo(value)
    } catch {
      return undefined
    }
  }
}

function unavailable(): SessionManagerError {
  return new SessionManagerError(
    'ERR_MSM_STORAGE_UNAVAILABLE',
    'The nodes that may hold the session do not answer; it can be neither served nor taken for gone.',
    { status: 503 },
  )
}

/** True if a node that is away was so before the other came back, a moment ago. */
function wereAwayTogether(away: StorageNode, back: StorageNode): boolean {
  return !away.isAvailable && away.since <= back.since && Date.now() - back.since < WAIT_FOR_OTHER
}
