import type { SessionAttributes } from '../ports.ts'
import type { SessionRecord } from '../records/session-record.ts'

const NOTHING = Buffer.alloc(0)

/**
 * One session: its id, its times and its attributes, as MSM's session record has them. What an app sees of it is a
 * facade made for each request (see session-facade.ts).
 */
export class Session {
  /** The whole id, with node id and route. */
  id: string
  creationTime: number
  lastAccessedTime: number
  thisAccessedTime: number
  /** Seconds of idle time after which the session expires; 0 or less: never. */
  maxInactiveInterval: number
  /** Epoch milliseconds at which the session ends, however much it is used. */
  endsAt: number = Number.POSITIVE_INFINITY
  lastBackupTime = 0
  isNew = true
  /** False once the session was destroyed or has expired. */
  isValid = true
  /** False as long as neither this process nor a store would find the session by its id: it must not be announced. */
  isFindable = true
  /** What a Tomcat stored about the login, carried verbatim. */
  authType = 0
  principal: Buffer = NOTHING
  savedRequest: Buffer = NOTHING
  savedPrincipal: Buffer = NOTHING
  attributes: SessionAttributes
  /** The principal in whose list the session is. */
  listedPrincipal: string | undefined
  /** The id under which it is in that list. */
  listedId: string | undefined

  constructor(id: string, maxInactiveInterval: number, attributes: SessionAttributes, now: number) {
    this.id = id
    this.maxInactiveInterval = maxInactiveInterval
    this.attributes = attributes
    this.creationTime = now
    this.lastAccessedTime = now
    this.thisAccessedTime = now
  }

  /** Takes over all but id and attributes of a record. */
  restore(record: SessionRecord): void {
    this.creationTime = record.creationTime
    this.lastAccessedTime = record.lastAccessedTime
    this.thisAccessedTime = record.thisAccessedTime
    this.maxInactiveInterval = record.maxInactiveInterval
    this.lastBackupTime = record.lastBackupTime
    this.isNew = record.isNew
    this.authType = record.authType
    // The record's buffers are views on the whole item; a copy lets go of it.
    this.principal = detach(record.principal)
    this.savedRequest = detach(record.savedRequest)
    this.savedPrincipal = detach(record.savedPrincipal)
  }

  /** Takes over what another session holds, but not its id and its times. */
  continueFrom(session: Session): void {
    this.attributes = { ...session.attributes }
    this.maxInactiveInterval = session.maxInactiveInterval
    this.authType = session.authType
    this.principal = session.principal
    this.savedRequest = session.savedRequest
    this.savedPrincipal = session.savedPrincipal
  }

  toRecord(attributes: Buffer, now: number): SessionRecord {
    return {
      version: 2,
      creationTime: this.creationTime,
      lastAccessedTime: this.lastAccessedTime,
      maxInactiveInterval: this.maxInactiveInterval,
      isNew: this.isNew,
      isValid: this.isValid,
      thisAccessedTime: this.thisAccessedTime,
      lastBackupTime: now,
      id: this.id,
      authType: this.authType,
      principal: this.principal,
      savedRequest: this.savedRequest,
      savedPrincipal: this.savedPrincipal,
      attributes,
    }
  }

  /** A request of this session begins. */
  access(now: number): void {
    this.lastAccessedTime = this.thisAccessedTime
    this.thisAccessedTime = now
  }

  /** A request of this session ends: from here on the session is idle, and no longer new. */
  endAccess(now: number): void {
    this.isNew = false
    this.lastAccessedTime = this.thisAccessedTime
    this.thisAccessedTime = now
  }

  idleSeconds(now: number): number {
    return Math.max(0, Math.floor((now - this.thisAccessedTime) / 1000))
  }

  /** Sets when the session ends at the latest; 0 seconds: never. */
  limitLifetime(maxLifetimeSeconds: number): void {
    this.endsAt = maxLifetimeSeconds > 0 ? this.creationTime + maxLifetimeSeconds * 1000 : Number.POSITIVE_INFINITY
  }

  isExpired(now: number): boolean {
    if (now >= this.endsAt) return true
    return this.maxInactiveInterval > 0 && this.idleSeconds(now) >= this.maxInactiveInterval
  }
}

/** A copy that keeps nothing but itself in memory. */
export function detach(bytes: Buffer): Buffer {
  if (bytes.length === 0) return NOTHING
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}
