/** The right of one request to change a session, exclusive until it is released. */
export interface SessionLock {
  /** False once the lock was released, or its lease ended while the request was stopped. */
  readonly isHeld: boolean
  /** Gives the lock to the next that waits. Doing it again has no effect. */
  release(): void
}
