import type { SessionRecord } from '../../records/session-record.ts'
import type { ValidityInfo } from '../../records/validity-info.ts'
import { Session } from '../../session/session.ts'
import type { StorageNode } from '../../storage/storage-node.ts'

/** What is known of a session in the store: the base of the next write. */
export interface StoredVersion {
  readonly node: StorageNode
  /** The whole record. */
  readonly value: Buffer
  /** The attributes in it, encoded. */
  readonly attributes: Buffer
  /** For a compare-and-swap; undefined after a write of our own, then it has to be asked for. */
  readonly version: unknown
}

/** One request's own copy of a session. */
export class NonStickySession extends Session {
  /** The id without node id and route; never changes. */
  readonly base: string
  /** Undefined as long as the session was never stored. */
  stored: StoredVersion | undefined
  /** As it was loaded; undefined if the store had none, or the session is new. */
  validity: ValidityInfo | undefined
  /** True once this request has stored a change. */
  wasModified = false
  /** True if this request has written the validity info already, with the session. */
  isNoted = false
  /** The copies on the second node have to be written whole. */
  needsCopy = false
  /** The commit under way; another one begins when it has ended. */
  committing: Promise<void> | undefined

  constructor(base: string, id: string, maxInactiveInterval: number, now: number) {
    super(id, maxInactiveInterval, {}, now)
    this.base = base
    this.isFindable = false
  }

  /** Takes over a record and what it was read with; the attributes have to be decoded by the caller. */
  adopt(record: SessionRecord, stored: StoredVersion): void {
    this.restore(record)
    this.id = record.id
    this.stored = stored
    this.isFindable = true
  }
}
