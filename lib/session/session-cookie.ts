import type { ResolvedCookie } from '../options.ts'
import type { CookieAttributes, SessionAttributes } from '../ports.ts'

/** The attribute in which a session keeps what it changed of its cookie. */
export const COOKIE_ATTRIBUTE = 'cookie'

/** What a session changed of its cookie, as it is stored; `maxAge` in milliseconds. */
type CookieChanges = Partial<
  Pick<ResolvedCookie, 'path' | 'httpOnly' | 'partitioned'> & {
    maxAge: number
    domain: string
    secure: boolean
    sameSite: 'strict' | 'lax' | 'none' | false
    priority: 'low' | 'medium' | 'high'
  }
>

/** The session a cookie belongs to. */
export interface CookieOwner {
  readonly attributes: SessionAttributes
  /** Called before the first change; the attributes may be others afterwards. */
  change(): SessionAttributes
  /** The idle time of the session follows the lifetime of its cookie; seconds, undefined: the default. */
  setMaxInactiveInterval(seconds: number | undefined): void
}

/**
 * `req.session.cookie`, as express-session documents it: reads as the cookie that would be sent, and what is assigned
 * holds for this session from then on. Times are in milliseconds, as there.
 */
export class SessionCookie {
  readonly #owner: CookieOwner
  readonly #defaults: ResolvedCookie
  readonly #isSecure: boolean

  /** @param isSecure whether the request came by https */
  constructor(owner: CookieOwner, defaults: ResolvedCookie, isSecure: boolean) {
    this.#owner = owner
    this.#defaults = defaults
    this.#isSecure = isSecure
  }

  /** Milliseconds the browser keeps the cookie; undefined: until it is closed. Setting it sets the idle time as well. */
  get maxAge(): number | undefined {
    const { maxAge } = this.#changes
    return maxAge ?? (this.#defaults.maxAge === undefined ? undefined : this.#defaults.maxAge * 1000)
  }

  set maxAge(value: number | null | undefined) {
    if (value === null || value === undefined) {
      this.#set('maxAge', undefined)
      this.#owner.setMaxInactiveInterval(undefined)
      return
    }
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw new TypeError('session.cookie.maxAge: must be a number of milliseconds, or null.')
    }
    this.#set('maxAge', value)
    this.#owner.setMaxInactiveInterval(Math.max(1, Math.ceil(value / 1000)))
  }

  get originalMaxAge(): number | undefined {
    return this.maxAge
  }

  set originalMaxAge(value: number | null | undefined) {
    this.maxAge = value
  }

  /** When the browser forgets the cookie, if it were sent now; null: when it is closed. */
  get expires(): Date | null {
    return this.maxAge === undefined ? null : new Date(Date.now() + this.maxAge)
  }

  set expires(value: Date | string | number | boolean | null | undefined) {
    if (value === null || value === undefined || typeof value === 'boolean') {
      this.maxAge = null
      return
    }
    const at = new Date(value).getTime()
    if (Number.isNaN(at)) throw new TypeError('session.cookie.expires: must be a date, or null.')
    this.maxAge = at - Date.now()
  }

  get path(): string {
    return this.#changes.path ?? this.#defaults.path
  }

  set path(value: string) {
    this.#set('path', value)
  }

  get domain(): string | undefined {
    return this.#changes.domain ?? this.#defaults.domain
  }

  set domain(value: string | undefined) {
    this.#set('domain', value)
  }

  get httpOnly(): boolean {
    return this.#changes.httpOnly ?? this.#defaults.httpOnly
  }

  set httpOnly(value: boolean) {
    this.#set('httpOnly', value)
  }

  get secure(): boolean {
    const { secure } = this.#defaults
    return this.#changes.secure ?? (secure === 'auto' ? this.#isSecure : secure)
  }

  set secure(value: boolean) {
    this.#set('secure', value)
  }

  get sameSite(): 'strict' | 'lax' | 'none' | false {
    return this.#changes.sameSite ?? this.#defaults.sameSite ?? false
  }

  set sameSite(value: 'strict' | 'lax' | 'none' | boolean) {
    this.#set('sameSite', value === true ? 'strict' : value)
  }

  get partitioned(): boolean {
    return this.#changes.partitioned ?? this.#defaults.partitioned
  }

  set partitioned(value: boolean) {
    this.#set('partitioned', value)
  }

  get priority(): 'low' | 'medium' | 'high' | undefined {
    return this.#changes.priority ?? this.#defaults.priority
  }

  set priority(value: 'low' | 'medium' | 'high' | undefined) {
    this.#set('priority', value)
  }

  /** As the cookie is written. */
  toAttributes(): CookieAttributes {
    const { path, domain, httpOnly, secure, sameSite, partitioned, priority, maxAge } = this
    return {
      path,
      httpOnly,
      secure,
      partitioned,
      ...(domain === undefined ? {} : { domain }),
      ...(sameSite === false ? {} : { sameSite }),
      ...(priority === undefined ? {} : { priority }),
      ...(maxAge === undefined ? {} : { maxAge: Math.ceil(maxAge / 1000) }),
    }
  }

  toJSON(): object {
    const { originalMaxAge, expires, path, domain, httpOnly, secure, sameSite, partitioned, priority } = this
    return { originalMaxAge, expires, path, domain, httpOnly, secure, sameSite, partitioned, priority }
  }

  get #changes(): CookieChanges {
    const value = this.#owner.attributes[COOKIE_ATTRIBUTE]
    return typeof value === 'object' && value !== null ? (value as CookieChanges) : NO_CHANGES
  }

  #set<K extends keyof CookieChanges>(name: K, value: CookieChanges[K] | undefined): void {
    const changes: CookieChanges = { ...this.#changes }
    if (value === undefined) delete changes[name]
    else changes[name] = value
    const attributes = this.#owner.change()
    if (Object.keys(changes).length === 0) delete attributes[COOKIE_ATTRIBUTE]
    else attributes[COOKIE_ATTRIBUTE] = changes
  }
}

const NO_CHANGES: CookieChanges = Object.freeze({})
