import { createHash } from 'node:crypto'
import { messageOf, SessionManagerError } from '../errors.ts'
import { hashSessionId } from '../ids/id-hash.ts'
import { extractBase } from '../ids/session-id-format.ts'
import type { SessionMode } from '../modes/session-mode.ts'
import type { Session } from '../session/session.ts'
import type { SessionContext } from '../session-context.ts'
import { type ListEntry, ReplicatedList } from '../storage/replicated-list.ts'

/** Seconds in which a session that is listed need not be stored yet: its login may be under way. */
const LOGIN_UNDER_WAY = 60
const MIN_TTL = 3600
/** Parts of the idle time in each of which the first request renews the expiry of the list. */
const PARTS = 4

/** A session of a principal, as `manager.findByPrincipal` returns it. */
export interface PrincipalSession {
  readonly id: string
  readonly creationTime: Date
  readonly lastAccessedTime: Date
}

/** Which sessions belong to whom: a list in the store for each principal, found by the hash of the name. */
export class PrincipalIndex {
  readonly #context: SessionContext
  readonly #lists: ReplicatedList
  readonly #mode: () => SessionMode
  /** True once this process has had a session with a principal. */
  areUsed = false

  constructor(context: SessionContext, mode: () => SessionMode) {
    this.#context = context
    this.#lists = new ReplicatedList(context)
    this.#mode = mode
  }

  /** True if the session is not listed, or not under its principal and its id of now. */
  isChanged(session: Session): boolean {
    const { listedPrincipal } = session
    if (principalOf(session) !== listedPrincipal) return true
    return listedPrincipal !== undefined && session.listedId !== session.id
  }

  /**
   * Lists the session under its principal, before it is stored.
   * @throws SessionManagerError ERR_MSM_TOO_MANY_SESSIONS with status 403, if the limit is reached and that is the policy
   */
  async update(session: Session): Promise<void> {
    const name = principalOf(session)
    const former = session.listedPrincipal
    if (name !== undefined) await this.#add(name, session)
    session.listedPrincipal = name
    session.listedId = session.id
    this.areUsed = true
    if (former !== undefined && former !== name) await this.#remove(former, session)
  }

  /** A session was loaded that is listed already. */
  loaded(session: Session): void {
    session.listedPrincipal = principalOf(session)
    session.listedId = session.id
    if (session.listedPrincipal !== undefined) this.areUsed = true
  }

  /** The session was destroyed. */
  async forget(session: Session): Promise<void> {
    const name = session.listedPrincipal
    if (name === undefined) return
    session.listedPrincipal = undefined
    await this.#remove(name, session).catch((error) =>
      this.#context.logger.debug?.(`A session is left in the list of its principal: ${messageOf(error)}`),
    )
  }

  /** Keeps the list as long as the session: once in each quarter of the idle time. */
  async used(session: Session): Promise<void> {
    const name = session.listedPrincipal
    const part = (session.maxInactiveInterval * 1000) / PARTS
    if (name === undefined || part <= 0) return
    if (Math.floor(session.lastAccessedTime / part) === Math.floor(session.thisAccessedTime / part)) return
    const { keys } = this.#context
    if (await this.#lists.touch(keys.principal(hashOf(name)), this.#ttl(session))) return
    await this.#list(name, session)
  }

  /** @throws SessionManagerError with status 503 if no node answers */
  async find(name: string): Promise<Session[]> {
    const entries = await this.#lists.read(this.#context.keys.principal(hashOf(name)))
    const sessions = await Promise.all(entries.map((entry) => this.#open(name, entry)))
    return sessions.filter((session) => session !== undefined)
  }

  async #add(name: string, session: Session): Promise<void> {
    const entries = await this.#list(name, session)
    const { maxSessionsPerPrincipal: limit, principalLimitPolicy } = this.#context.options
    if (limit < 0 || entries.length <= limit) return
    const live: (Session | ListEntry)[] = []
    let position = -1
    for (const entry of entries) {
      if (extractBase(entry[0]) === extractBase(session.id)) position = live.push(entry) - 1
      else {
        const other = await this.#open(name, entry)
        if (other) live.push(other)
        else if (isUnderWay(entry)) live.push(entry)
      }
    }
    if (live.length <= limit) return
    if (principalLimitPolicy === 'destroy-oldest') {
      const oldest = live.filter((_other, i) => i !== position).slice(0, live.length - limit)
      for (const other of oldest) {
        if (!Array.isArray(other)) await this.#mode().remove(other as Session, 'principal')
      }
      return
    }
    // In the order of the list, so that of logins at the same time exactly as many get in as may.
    if (position < limit) return
    await this.#remove(name, session)
    this.#context.statistics.increment('rejectedSessions')
    throw new SessionManagerError(
      'ERR_MSM_TOO_MANY_SESSIONS',
      `This principal has ${limit} sessions already, which is all that maxSessionsPerPrincipal allows.`,
      { status: 403 },
    )
  }

  #list(name: string, session: Session): Promise<ListEntry[]> {
    const base = extractBase(session.id)
    return this.#lists.add(
      this.#context.keys.principal(hashOf(name)),
      session.id,
      this.#ttl(session),
      (other) => extractBase(other) === base,
    )
  }

  async #remove(name: string, session: Session): Promise<void> {
    const base = extractBase(session.id)
    const key = this.#context.keys.principal(hashOf(name))
    await this.#lists.remove(key, this.#ttl(session), (other) => extractBase(other) === base)
  }

  /** The session of an entry, if it is still there and still belongs to the principal. */
  async #open(name: string, [id]: ListEntry): Promise<Session | undefined> {
    const parts = this.#context.ids.parse(id)
    if (!parts) return undefined
    try {
      const session = await this.#mode().find(parts)
      return session && principalOf(session) === name ? session : undefined
    } catch (error) {
      this.#context.logger.warn(`Could not look up session ${hashSessionId(id)}: ${messageOf(error)}`)
      throw error
    }
  }

  #ttl(session: Session): number {
    return session.maxInactiveInterval <= 0 ? 0 : Math.max(MIN_TTL, 2 * session.maxInactiveInterval)
  }
}

/** The name of who is logged in. */
function principalOf(session: Session): string | undefined {
  const { principal } = session.attributes
  return typeof principal === 'string' && principal !== '' ? principal : undefined
}

function isUnderWay([, addedAt]: ListEntry): boolean {
  return Math.abs(Date.now() / 1000 - addedAt) < LOGIN_UNDER_WAY
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 32)
}
