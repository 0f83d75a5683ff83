import { SessionManagerError } from '../../errors.ts'
import { createNewSessionId, type SessionIdParts } from '../../ids/session-id-format.ts'
import { decodeSessionRecord } from '../../records/session-record.ts'
import { detach } from '../../session/session.ts'
import type { SessionContext } from '../../session-context.ts'
import type { StorageNode } from '../../storage/storage-node.ts'
import { rejectRecord } from '../reject-record.ts'
import { StickySession } from './sticky-session.ts'

/** Milliseconds for which sessions of a node that had trouble are looked for on the others as well. */
const SEARCH_AFTER_TROUBLE = 3_600_000

/** Loads sessions from their backups: those of a process that died, and our own of before a restart. */
export class Takeover {
  readonly #context: SessionContext
  readonly #loading = new Map<string, Promise<StickySession | undefined>>()

  constructor(context: SessionContext) {
    this.#context = context
  }

  /**
   * The session as its backup has it, under the id of the backup. All requests that ask for it at the same time get the
   * same promise (GH282), and `adopt` is called once.
   */
  load(id: SessionIdParts, adopt: (session: StickySession) => void): Promise<StickySession | undefined> {
    const under = this.#loading.get(id.base)
    if (under) return under
    const loading = this.search(id)
      .then((session) => {
        if (session) adopt(session)
        return session
      })
      .finally(() => this.#loading.delete(id.base))
    this.#loading.set(id.base, loading)
    return loading
  }

  /** The copy stored under exactly this id, undefined if there is none that can be read. */
  async find(id: SessionIdParts): Promise<StickySession | undefined> {
    const node = this.#context.nodes.ofSession(id.id)
    return node?.isAvailable ? this.#read(node, id.base, id.id) : undefined
  }

  /** The copy of the session, on whatever node it is. */
  async search(id: SessionIdParts): Promise<StickySession | undefined> {
    const start = performance.now()
    const { nodes, statistics } = this.#context
    const own = nodes.ofSession(id.id)
    if (!own) return undefined
    let session = own.isAvailable ? await this.#read(own, id.base, id.id) : undefined
    if (!session && id.nodeId !== undefined && nodes.monitor.hadTrouble(own, SEARCH_AFTER_TROUBLE)) {
      // Its process may have moved it off that node, and died before the client could learn the new id.
      for (const node of nodes.all()) {
        if (session || node === own || !node.isAvailable) continue
        session = await this.#read(node, id.base, createNewSessionId(id.id, node.id!))
      }
    }
    if (session) statistics.record('sessionsLoadedFromMemcached', performance.now() - start)
    return session
  }

  async #read(node: StorageNode, base: string, id: string): Promise<StickySession | undefined> {
    const key = this.#context.keys.session(id)
    let value: Buffer | undefined
    try {
      value = (await node.get(key))?.value
    } catch {
      // Counted, and logged if it took the node down; for this request it is a miss.
      return undefined
    }
    if (!value) return undefined
    try {
      return this.#restore(value, base, id)
    } catch (error) {
      rejectRecord(this.#context, node, key, id, error)
      return undefined
    }
  }

  #restore(value: Buffer, base: string, id: string): StickySession | undefined {
    const record = decodeSessionRecord(value)
    if (record.id !== id)
      throw new SessionManagerError('ERR_MSM_INVALID_RECORD', 'The record is that of another session.')
    if (!record.isValid) return undefined
    const session = new StickySession(base, id, record.maxInactiveInterval, record.creationTime)
    session.restore(record)
    session.limitLifetime(this.#context.options.maxLifetimeSeconds)
    if (Date.now() >= session.endsAt) return undefined
    const bytes = this.#context.attributes.open(record.attributes, base)
    session.attributes = this.#context.attributes.decode(bytes)
    this.#context.principals.loaded(session)
    session.isNew = false
    session.storedId = id
    session.storedBytes = detach(bytes)
    session.takenOver = { id, record: value }
    return session
  }
}
