import { detach, Session } from '../../session/session.ts'

/** A session that this process is the primary of, and what is known of its backup. */
export class StickySession extends Session {
  /** The id without node id and route; never changes. */
  readonly base: string
  /** The id under which the store has the session as `storedBytes`; undefined if it has to be stored in any case. */
  storedId: string | undefined
  /** The attributes as they were stored last, encoded. */
  storedBytes: Buffer | undefined
  /** The attributes as the last commit encoded them, until they are stored. */
  unsavedBytes: Buffer | undefined
  /** Epoch seconds at which the stored copy expires; 0: never. */
  storedUntil = 0
  /** Ids under which older copies may still be stored; they are deleted once a newer copy is. */
  staleIds: string[] | undefined
  /** The record this session was taken over with, until its key is deleted. */
  takenOver: { readonly id: string; readonly record: Buffer } | undefined
  /** The backup under way, and the one that waits for it to end. */
  backup: Promise<boolean> | undefined
  nextBackup: Promise<boolean> | undefined

  constructor(base: string, id: string, maxInactiveInterval: number, now: number) {
    super(id, maxInactiveInterval, {}, now)
    this.base = base
  }

  /** Gives the session a new id; the copy under the old one is deleted when the new one is stored. */
  changeId(id: string): void {
    if (id === this.id) return
    if (this.storedId !== undefined) this.leave(this.storedId)
    this.id = id
    this.storedId = undefined
  }

  /** Copies the stored bytes out of the larger buffer that they are a slice of, and keep in memory. */
  compact(): void {
    const bytes = this.storedBytes
    if (bytes && bytes.buffer.byteLength > bytes.length) this.storedBytes = detach(bytes)
  }

  /** Remembers that a copy may be left under this id. */
  leave(id: string): void {
    this.staleIds ??= []
    if (!this.staleIds.includes(id)) this.staleIds.push(id)
  }
}
