import type { DestroyReason } from '../events.ts'
import type { SessionIdParts } from '../ids/session-id-format.ts'
import type { SessionLock } from '../locking/session-lock.ts'
import type { MaybePromise } from '../maybe-promise.ts'
import type { Session } from '../session/session.ts'
import type { StorageNode } from '../storage/storage-node.ts'

/** One request's use of its session, as a mode sees it. */
export interface SessionUse {
  readonly method: string
  /** Path and query. */
  readonly url: string
  /** The lock this request has, if its mode took one. */
  lock: SessionLock | undefined
  /** False once the response head is sent: the client can learn no other id. */
  readonly canChangeId: boolean
  /** True if the request may have changed an attribute. */
  readonly mayHaveChanged: boolean
}

/** What the sticky and the non-sticky mode do differently. One is chosen when the manager is made. */
export interface SessionMode {
  start(): void
  /** Finishes what is under way, within `limit` milliseconds, and stops all background work. */
  stop(limit: number): Promise<void>
  /**
   * The session a client asks for, locked if it has to be, ready for a request, or undefined if there is none.
   * @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE if no node could be asked, ERR_MSM_LOCK_TIMEOUT
   */
  acquire(id: SessionIdParts, use: SessionUse): MaybePromise<Session | undefined>
  /**
   * The session wherever it is, without using it: no lock, no takeover.
   * @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE if no node could be asked
   */
  find(id: SessionIdParts): MaybePromise<Session | undefined>
  /** The session as this process holds it, without asking a store and without counting as an access. */
  peek(id: SessionIdParts): Session | undefined
  /**
   * A new session; it is neither stored nor found before its first commit.
   * @param base the part of the id that never changes, if the app makes it
   */
  create(base?: string): Session
  /**
   * Stores what has to be stored. A promise if the response has to wait for it.
   * @throws SessionManagerError if the response must be an error instead: a conflict, or what `commitFailurePolicy` says
   */
  commit(session: Session, use: SessionUse): MaybePromise<void>
  /** The request is over: gives its lock back, and notes that the session was in use. */
  release(session: Session | undefined, use: SessionUse): void
  /** A request that left its session alone is over: the session counts as used all the same. */
  touch(id: SessionIdParts): void
  /** Stores the session now. @throws SessionManagerError if no node took it. */
  save(session: Session, use: SessionUse): Promise<void>
  /** The session as the store has it. @throws SessionManagerError ERR_MSM_SESSION_INVALID if it is gone */
  reload(session: Session, use: SessionUse): Promise<Session>
  /** Takes back what this request has changed since the session was committed last. */
  discard(session: Session): void
  /** Takes the session's lock for this request, for `lockingMode: 'app'`. @throws SessionManagerError ERR_MSM_LOCK_TIMEOUT */
  lock(session: Session, use: SessionUse): Promise<void>
  /** Stores a new session that takes the place of another: requests with the other's id get it for some seconds. */
  replace(former: Session, session: Session, seconds: number): Promise<void>
  /** Ends the session, here and in the store. */
  remove(session: Session, reason: DestroyReason): Promise<void>
  /** Takes over the sessions that another mode holds, which was stopped. */
  takeIn(former: SessionMode): Promise<void>
  /** Moves sessions off nodes that are no longer configured, and onto new ones that should have them. */
  nodesChanged(removed: readonly StorageNode[], added: readonly StorageNode[]): Promise<void>
  /** The sessions this process holds. */
  sessions(): Iterable<Session>
  /** Sessions held by this process. */
  readonly activeSessions: number
  /** Writes that are under way or wait. */
  readonly backlog: number
}
