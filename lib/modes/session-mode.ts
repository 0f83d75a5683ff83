import type { DestroyReason } from '../events.ts'
import type { SessionIdParts } from '../ids/session-id-format.ts'
import type { MaybePromise } from '../maybe-promise.ts'
import type { Session } from '../session/session.ts'

/** What the sticky and the non-sticky mode do differently. One is chosen when the manager is made. */
export interface SessionMode {
  start(): void
  /** Finishes what is under way, within `limit` milliseconds, and stops all background work. */
  stop(limit: number): Promise<void>
  /** The session a client asks for, ready for a request, or undefined if there is none. */
  acquire(id: SessionIdParts): MaybePromise<Session | undefined>
  /** The session as this process holds it, without asking a store and without counting as an access. */
  peek(id: SessionIdParts): Session | undefined
  /** A new session; it is neither stored nor found before its first commit. */
  create(): Session
  /**
   * Stores what has to be stored. A promise if the response has to wait for it.
   * @param mayHaveChanged whether the request may have changed an attribute
   */
  commit(session: Session, mayHaveChanged: boolean): MaybePromise<void>
  /** Stores the session now. @throws SessionManagerError if no node took it. */
  save(session: Session): Promise<void>
  /** The session as the store has it, in place of what this request holds. */
  reload(session: Session): Promise<void>
  /** Ends the session, here and in the store. */
  remove(session: Session, reason: DestroyReason): Promise<void>
  readonly activeSessions: number
}
