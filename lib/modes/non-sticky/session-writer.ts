import { SessionManagerError } from '../../errors.ts'
import { hashSessionId } from '../../ids/id-hash.ts'
import { createNewSessionId, extractNodeId } from '../../ids/session-id-format.ts'
import type { SessionLocks } from '../../locking/session-locks.ts'
import type { StoredItem } from '../../ports.ts'
import { decodeSessionRecord, encodeSessionRecord, lastBackupTimeOf } from '../../records/session-record.ts'
import { encodeValidityInfo } from '../../records/validity-info.ts'
import type { SessionContext } from '../../session-context.ts'
import { sessionExpiration, validityExpiration } from '../../storage/expiration.ts'
import { isUnavailable, type StorageNode } from '../../storage/storage-node.ts'
import type { SessionUse } from '../session-mode.ts'
import { mergeAttributes } from './attribute-merge.ts'
import type { NonStickySession } from './non-sticky-session.ts'
import { putIfNewer, type SecondCopies } from './second-copies.ts'
import type { SessionLoader } from './session-loader.ts'
import type { Tombstones } from './tombstones.ts'

/** Refused writes after which the session is locked, and after which it is given up. */
const ATTEMPTS_WITHOUT_LOCK = 5
const MAX_ATTEMPTS = 50

/**
 * Writes sessions. A write names the version it is based on, unless nothing is to be fenced (`lockingMode: 'none'`), and
 * an existing session is only ever replaced: when the store refuses, the changes of both sides are merged, or the session
 * was destroyed and stays so.
 */
export class SessionWriter {
  readonly #context: SessionContext
  readonly #loader: SessionLoader
  readonly #copies: SecondCopies
  readonly #tombstones: Tombstones
  readonly #locks: SessionLocks

  constructor(
    context: SessionContext,
    loader: SessionLoader,
    copies: SecondCopies,
    tombstones: Tombstones,
    locks: SessionLocks,
  ) {
    this.#context = context
    this.#loader = loader
    this.#copies = copies
    this.#tombstones = tombstones
    this.#locks = locks
  }

  /**
   * Stores the session with these encoded attributes; its copies follow in the background.
   * @throws SessionManagerError if no node took it, or the session is gone, or on a conflict that is to be rejected
   */
  async write(session: NonStickySession, bytes: Buffer, use: SessionUse): Promise<void> {
    if (session.stored) await this.#update(session, bytes, use)
    else await this.#create(session, bytes, use)
    session.wasModified = true
  }

  /** Takes what the store has now as the base, with what this request has changed so far merged into it. */
  async refresh(session: NonStickySession): Promise<void> {
    const { nodes, keys, attributes } = this.#context
    const node = nodes.ofSession(session.id)
    const current = node?.isAvailable ? await node.get(keys.session(session.id)) : undefined
    if (current) this.#rebase(session, attributes.encode(session.attributes), node!, current)
  }

  async #create(session: NonStickySession, bytes: Buffer, use: SessionUse): Promise<void> {
    const { nodes, selector, keys } = this.#context
    // Each failure takes a node out, so this ends.
    for (;;) {
      let node = nodes.ofSession(session.id)
      if (!node?.isAvailable) {
        const nodeId = use.canChangeId ? selector.forNewSession() : undefined
        if (nodeId === undefined) throw unavailable('No node is there to store the session on.')
        session.id = createNewSessionId(session.id, nodeId)
        node = nodes.get(nodeId)!
      }
      const since = performance.now()
      const record = this.#record(session, bytes)
      const { maxInactiveInterval } = session
      try {
        const [isAdded] = await Promise.all([
          node.add(keys.session(session.id), record, sessionExpiration(maxInactiveInterval)),
          node.set(keys.validity(session.id), encodeValidityInfo(session), validityExpiration(maxInactiveInterval)),
        ])
        // An attempt that was given up may have been carried out all the same.
        if (!isAdded) await putIfNewer(node, keys.session(session.id), record, sessionExpiration(maxInactiveInterval))
      } catch (error) {
        if (isUnavailable(error) && use.canChangeId) continue
        throw error
      }
      this.#written(session, node, record, bytes, since)
      session.validity = timesOf(session)
      session.isNoted = true
      return
    }
  }

  async #update(session: NonStickySession, first: Buffer, use: SessionUse): Promise<void> {
    const { nodes, keys, options } = this.#context
    const isFenced = options.lockingMode.kind !== 'none'
    let bytes = first
    /** What was sent last without an answer: it may be stored all the same. */
    let unclear: Buffer | undefined
    let ownLock: Awaited<ReturnType<SessionLocks['acquire']>>
    try {
      for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
        if (attempt === ATTEMPTS_WITHOUT_LOCK && isFenced && !use.lock?.isHeld) {
          ownLock = await this.#locks.acquire(session.id)
        }
        const node = nodes.ofSession(session.id)
        if (node && !node.isAvailable) await nodes.monitor.secondLook(node)
        if (!node?.isAvailable) {
          const moved = await this.#relocate(session, use)
          if (!moved) return
          bytes = moved
          continue
        }
        const key = keys.session(session.id)
        const ttl = sessionExpiration(session.maxInactiveInterval)
        const since = performance.now()
        const record = this.#record(session, bytes)
        try {
          if (!isFenced) {
            if (await node.replace(key, record, ttl)) return this.#written(session, node, record, bytes, since)
          } else {
            const { version } = session.stored!
            const result = version === undefined ? 'conflict' : await node.compareAndSwap(key, record, ttl, version)
            if (result === 'stored') return this.#written(session, node, record, bytes, since)
            const current = result === 'conflict' ? readable(await node.get(key)) : undefined
            if (current) {
              if (unclear?.equals(current.value)) return this.#written(session, node, unclear, bytes, since)
              // Others have gone on from here, perhaps from what was sent: merging it again could count it twice.
              if (unclear && options.mergeAttribute && !current.value.equals(session.stored!.value))
                throw unknownResult()
              const merged = this.#rebase(session, bytes, node, current)
              if (!merged) return
              bytes = merged
              continue
            }
          }
        } catch (error) {
          if (!isUnavailable(error)) throw error
          unclear = record
          continue
        }
        const found = await this.#findAgain(session, bytes)
        if (!found) return
        bytes = found
      }
    } finally {
      ownLock?.release()
    }
    throw new SessionManagerError('ERR_MSM_CONFLICT', 'Too many requests change this session at the same time.', {
      status: 409,
    })
  }

  /**
   * The node of the session is gone while the request is under way. As long as the client can learn a new id, the session
   * moves to another node; after that the copy gets the changes, and the next request finds them there.
   */
  async #relocate(session: NonStickySession, use: SessionUse): Promise<Buffer | undefined> {
    const { attributes, nodes, selector, keys } = this.#context
    if (!use.canChangeId) return this.#writeCopyOnly(session)
    const { base, id } = session
    const found = await this.#loader.load({ id, base, nodeId: extractNodeId(id), jvmRoute: undefined })
    if (found) return this.#join(session, found)
    if (await this.#tombstones.has(base)) throw gone()
    // No other node has a copy, and nobody has destroyed it: what this request holds is the session.
    const next = selector.next(extractNodeId(id) ?? '')
    const node = next === undefined ? undefined : nodes.get(next)
    if (!node) throw unavailable('No node is there to store the session on.')
    const newId = createNewSessionId(id, next!)
    const bytes = attributes.encode(session.attributes)
    const sealed = attributes.seal(bytes, base)
    const record = encodeSessionRecord({ ...session.toRecord(sealed, this.#now(session)), id: newId })
    const ttl = sessionExpiration(session.maxInactiveInterval)
    await node.add(keys.session(newId), record, ttl)
    await node.set(keys.validity(newId), encodeValidityInfo(session), validityExpiration(session.maxInactiveInterval))
    if (await this.#tombstones.has(base)) {
      await node.delete(keys.session(newId))
      throw gone()
    }
    const moved = await this.#loader.load({ id: newId, base, nodeId: next, jvmRoute: undefined })
    if (!moved) throw gone()
    return this.#join(session, moved)
  }

  async #writeCopyOnly(session: NonStickySession): Promise<undefined> {
    const { attributes, keys } = this.#context
    const node = this.#copies.nodeFor(session.id)
    if (!node) throw unavailable('The node of the session is gone, and there is no other.')
    if (await this.#tombstones.has(session.base)) throw gone()
    const there = await node.get(keys.backup(session.id))
    if (there && session.stored && !there.value.equals(session.stored.value)) {
      this.#rebase(session, attributes.encode(session.attributes), session.stored.node, there)
    }
    const bytes = attributes.encode(session.attributes)
    const record = this.#record(session, bytes)
    await putIfNewer(node, keys.backup(session.id), record, sessionExpiration(session.maxInactiveInterval))
    return undefined
  }

  /** The store says that there is no such session: it was destroyed, has expired, or was lost with its node. */
  async #findAgain(session: NonStickySession, bytes: Buffer): Promise<Buffer | undefined> {
    const { id, base } = session
    const found = await this.#loader.load({ id, base, nodeId: extractNodeId(id), jvmRoute: undefined })
    if (!found) throw gone()
    return this.#join(session, found, bytes)
  }

  /** Continues with what was found elsewhere as the base, this request's changes merged into it. */
  #join(session: NonStickySession, found: NonStickySession, bytes?: Buffer): Buffer | undefined {
    const { attributes } = this.#context
    const stored = found.stored!
    session.id = found.id
    session.needsCopy = true
    const mine = bytes ?? attributes.encode(session.attributes)
    return this.#rebase(session, mine, stored.node, { value: stored.value, version: stored.version })
  }

  /**
   * Takes what the store has as the new base and merges this request's changes into it. The encoded result, or undefined
   * if that is what the store has already.
   */
  #rebase(session: NonStickySession, bytes: Buffer, node: StorageNode, current: StoredItem): Buffer | undefined {
    const { attributes, options, events } = this.#context
    const base = session.stored!
    const record = decodeSessionRecord(current.value)
    if (!record.isValid) throw gone()
    const theirs = attributes.open(record.attributes, session.base)
    const stored = { node, value: current.value, attributes: theirs, version: current.version }
    if (theirs.equals(base.attributes)) {
      // Nobody else changed an attribute; only the version was unknown, or times and presence were written.
      session.stored = stored
      session.lastBackupTime = Math.max(session.lastBackupTime, record.lastBackupTime)
      return bytes
    }
    const { attributes: merged, conflicts } = mergeAttributes(
      attributes.decode(base.attributes),
      session.attributes,
      attributes.decode(theirs),
      (all, name) => attributes.encodeOne(all, name),
      options,
    )
    if (conflicts.length > 0) {
      const resolution = options.mergeAttribute ? 'merged' : options.conflictPolicy === 'theirs' ? 'theirs' : 'mine'
      events.emit('conflict', { session: hashSessionId(session.id), attributes: [...conflicts], resolution })
    }
    const { thisAccessedTime, lastAccessedTime, maxInactiveInterval } = session
    session.restore(record)
    Object.assign(session, { thisAccessedTime, lastAccessedTime, maxInactiveInterval })
    session.attributes = merged
    session.stored = stored
    const result = attributes.encode(merged)
    return result.equals(theirs) ? undefined : result
  }

  #written(session: NonStickySession, node: StorageNode, record: Buffer, bytes: Buffer, since: number): void {
    const { statistics } = this.#context
    session.stored = { node, value: record, attributes: bytes, version: undefined }
    session.lastBackupTime = lastBackupTimeOf(record)
    session.isFindable = true
    session.needsCopy = false
    statistics.record('memcachedUpdate', performance.now() - since)
    statistics.record('cachedDataSize', record.length)
    this.copy(session, since)
  }

  /** Writes the copies of what is stored. */
  copy(session: NonStickySession, since: number): void {
    session.needsCopy = false
    this.#copies.write(
      {
        id: session.id,
        record: session.stored!.value,
        recordTtl: sessionExpiration(session.maxInactiveInterval),
        validity: encodeValidityInfo(timesOf(session)),
        validityTtl: validityExpiration(session.maxInactiveInterval),
      },
      since,
    )
  }

  #record(session: NonStickySession, bytes: Buffer): Buffer {
    const { attributes } = this.#context
    return encodeSessionRecord(session.toRecord(attributes.seal(bytes, session.base), this.#now(session)))
  }

  /** Later than the write this one is based on, whatever the clocks say: the newest of several copies is the latest one. */
  #now(session: NonStickySession): number {
    return Math.min(Number.MAX_SAFE_INTEGER, Math.max(Date.now(), session.lastBackupTime + 1))
  }
}

/** What is no record is as good as nothing: the copy is looked for. */
function readable(item: StoredItem | undefined): StoredItem | undefined {
  try {
    if (item) decodeSessionRecord(item.value)
    return item
  } catch {
    return undefined
  }
}

function timesOf({ maxInactiveInterval, lastAccessedTime, thisAccessedTime }: NonStickySession) {
  return { maxInactiveInterval, lastAccessedTime, thisAccessedTime }
}

function unavailable(message: string): SessionManagerError {
  return new SessionManagerError('ERR_MSM_STORAGE_UNAVAILABLE', message, { status: 503 })
}

function unknownResult(): SessionManagerError {
  return new SessionManagerError(
    'ERR_MSM_CONFLICT',
    'The node did not say whether it stored the session, and other requests have changed it since.',
    { status: 409 },
  )
}

function gone(): SessionManagerError {
  return new SessionManagerError('ERR_MSM_SESSION_INVALID', 'The session was destroyed meanwhile; nothing is stored.')
}
