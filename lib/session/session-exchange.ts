import { messageOf, SessionManagerError } from '../errors.ts'
import type { ResponseHook } from '../http/response-hook.ts'
import { hashSessionId } from '../ids/id-hash.ts'
import type { SessionIdParts } from '../ids/session-id-format.ts'
import type { SessionLock } from '../locking/session-lock.ts'
import { isPromise, type MaybePromise } from '../maybe-promise.ts'
import type { SessionMode, SessionUse } from '../modes/session-mode.ts'
import type { SessionContext } from '../session-context.ts'
import type { Session } from './session.ts'
import { type Announcer, SessionAnnouncement } from './session-announcement.ts'
import { COOKIE_ATTRIBUTE, type SessionCookie } from './session-cookie.ts'
import { type FacadeHost, SessionFacade } from './session-facade.ts'

/** A request as the manager sees it; node's IncomingMessage is one. */
export interface SessionRequest {
  readonly method?: string | undefined
  readonly headers: { readonly cookie?: string | undefined; readonly [name: string]: string | string[] | undefined }
  readonly socket?: unknown
}

export interface RegenerateOptions {
  /** True: the new session has what was in the old one. @default false */
  keep?: boolean
}

/** How the manager reads the requests of one web framework; one constant object per adapter. */
export interface WebBinding<R extends SessionRequest = SessionRequest> {
  /** Shows the request its session again, after `regenerate`, `reload` or `destroy` has changed it. */
  show?(exchange: SessionExchange<R>): void
  /** The object all session facades of this framework inherit their properties and methods from. */
  readonly facadeTarget: object
  /** Path and query as the client sent them. */
  url(request: R): string
  /** True if the client came by https. */
  isSecure(request: R): boolean
}

/** One request and its session, from `SessionManager.begin` until its response has ended. */
export class SessionExchange<R extends SessionRequest = SessionRequest>
  implements FacadeHost, SessionUse, Announcer<R>
{
  readonly request: R
  /** True if `requestUriIgnorePattern` matches: the request touches no store and gets no cookie. */
  readonly isIgnored: boolean
  /** What the app sees as its session; undefined if the request is ignored, or not loaded yet, or after `destroy`. */
  facade: SessionFacade<SessionExchange<R>> | undefined
  lock: SessionLock | undefined
  /** For the adapter: what the app sees as its session, or has put in its place. */
  shown: unknown
  /** What holds back the response of this request, where it is found by way of the request. */
  responseHook: ResponseHook | undefined
  readonly #binding: WebBinding<R>
  readonly #context: SessionContext
  readonly #mode: SessionMode
  readonly #presented: SessionIdParts | undefined
  /** Made when there is something to announce, which most requests have not. */
  #announcement: SessionAnnouncement<R> | undefined
  /** The id the client knows, as far as it can be told. */
  #announced: string | undefined
  #isHeadSent = false
  #isLoaded = false
  #loading: MaybePromise<void> = undefined
  /** True if the session of this request is not to be stored or announced, as it could not be loaded or stored. */
  #isAnonymous = false
  /** True if the app wants the session left as it was stored. */
  #isDiscarded = false
  /** The session this request has made, as the client had none. */
  #created: Session | undefined
  #hasChanged = false
  #ending: Promise<void> | undefined
  /** What the app saw as its session when it called `destroy`, until that is done. */
  #leaving: SessionFacade<SessionExchange<R>> | undefined
  /** True once the app has ended its response. */
  #hasEnded = false
  /** True once the session's use by this request has ended. */
  #finished = false
  #lost = false

  constructor(
    request: R,
    binding: WebBinding<R>,
    context: SessionContext,
    mode: SessionMode,
    presented: SessionIdParts | undefined,
    isIgnored: boolean,
  ) {
    this.request = request
    this.isIgnored = isIgnored
    this.#binding = binding
    this.#context = context
    this.#mode = mode
    this.#presented = presented
    this.#announced = presented?.id
    if (!isIgnored) context.requests.begin()
  }

  get method(): string {
    return this.request.method ?? 'GET'
  }

  get url(): string {
    return this.#binding.url(this.request)
  }

  get canChangeId(): boolean {
    return !this.#isHeadSent
  }

  get mayHaveChanged(): boolean {
    return this.facade?.mayHaveChanged === true
  }

  /**
   * Finds the session, if that has not been done. A promise if a store has to be asked, or a lock waited for.
   * @throws SessionManagerError with an HTTP status, if the request can't be served
   */
  load(): MaybePromise<void> {
    if (this.#isLoaded) return undefined
    this.#loading ??= this.#load()
    return this.#loading
  }

  #load(): MaybePromise<void> {
    const id = this.#presented
    if (this.isIgnored) return this.#enter(id && this.#mode.peek(id))
    if (!id) return this.#enter(undefined)
    const found = this.#mode.acquire(id, this)
    if (!isPromise(found)) return this.#enter(found)
    return found.then(
      (session) => this.#enter(session),
      (error) => this.#failedToLoad(error),
    )
  }

  /** False as long as `lazy` keeps the session from being loaded. */
  get isLoaded(): boolean {
    return this.#isLoaded
  }

  /** True if ids may stand in paths, from which they have to be taken before routing. */
  get isUrlTracked(): boolean {
    return this.#context.options.sessionTracking.includes('url')
  }

  get cookieName(): string {
    return this.#context.options.cookie.name
  }

  /** The proxy an app holds; undefined if there is no session to be had. */
  get session(): object | undefined {
    return this.facade?.proxy
  }

  /** The session behind it; undefined as long as a request without session has not asked for one. */
  get current(): Session | undefined {
    return this.facade?.session
  }

  /** The id of the session; asking for it makes the id of a new session. */
  get sessionId(): string {
    const facade = this.facade
    if (!facade) return ''
    facade.session ??= this.createSession()
    return facade.session.id
  }

  /** True if the client has no session yet, or had one that is gone. */
  get isNew(): boolean {
    return this.current?.isNew !== false
  }

  createSession(): Session {
    const { genid } = this.#context.options
    this.#created = this.#mode.create(genid && this.#context.ids.checkBase(genid(this.request as never)))
    return this.#created
  }

  demandSession(): Session {
    const { facade } = this
    if (!facade) throw new SessionManagerError('ERR_MSM_SESSION_INVALID', 'The session was destroyed.')
    facade.session ??= this.createSession()
    return facade.session
  }

  noteChange(): void {
    if (this.facade) this.facade.mayHaveChanged = true
  }

  /** The cookie of this session, as express-session shows it. */
  get cookie(): SessionCookie {
    return this.announcement.cookie
  }

  /** Name and value of the header that tells the client its id, once `head` was called. */
  get idHeader(): readonly [string, string] | undefined {
    return this.#announcement?.idHeader
  }

  isStoredAttribute(name: string): boolean {
    return this.#context.attributes.isStored(name)
  }

  /** Waits for the lock of the session, for `lockingMode: 'app'`; it is released by `unlock`, `commit` or at the end. */
  async acquireLock(): Promise<void> {
    const session = this.current
    if (session?.isValid && !this.#isUnannounced(session)) await this.#mode.lock(session, this)
  }

  /** Stores what has changed, and releases the lock, long before the response ends. */
  async release(): Promise<void> {
    await this.commitNow()
    this.lock?.release()
    this.lock = undefined
  }

  /**
   * Ends the session and starts another under a new id, which is what keeps an id that an attacker knows from being logged
   * in: empty, or with what was in it (`keep`).
   */
  async regenerate({ keep = false }: RegenerateOptions = {}): Promise<void> {
    const former = this.current
    const { regenerateGraceSeconds } = this.#context.options
    const isKnown = former?.isValid === true && !this.#isUnannounced(former) && !this.#isAnonymous
    let session: Session | undefined
    if (former && (keep || isKnown)) {
      session = this.createSession()
      if (keep) session.continueFrom(former)
      if (isKnown && regenerateGraceSeconds > 0) await this.#mode.replace(former, session, regenerateGraceSeconds)
    }
    await this.#end('regenerate')
    if (isKnown && session) {
      this.#context.events.emit('idChanged', { session: hashSessionId(session.id), reason: 'regenerate' })
    }
    this.#announcement?.forgetCookie()
    this.facade = new SessionFacade(this, session, this.#binding.facadeTarget)
    if (session) this.facade.mayHaveChanged = true
    this.#binding.show?.(this)
  }

  /** Ends the session; the request has none from here on. */
  async destroy(): Promise<void> {
    const { facade } = this
    this.#leaving = facade
    try {
      await this.#end('app')
    } finally {
      this.#leaving = undefined
    }
    // What the app has assigned meanwhile is another session.
    if (this.facade === facade) this.facade = undefined
    this.#binding.show?.(this)
  }

  /** Takes what the store has in place of what this request changed. */
  async reload(): Promise<void> {
    const { facade } = this
    if (!facade?.session) return
    // The same object for the app, so that a reference it holds, as for a WebSocket, is not to yesterday's session.
    facade.session = await this.#mode.reload(facade.session, this)
    facade.mayHaveChanged = false
  }

  /** Stores the session now, whatever `sessionBackupAsync` says. */
  async save(): Promise<void> {
    const session = this.current
    if (session?.isValid && !this.#isAnonymous && this.#isWorthKeeping(session)) await this.#mode.save(session, this)
  }

  /** What `req.session = null` means by the option `unset`. */
  unset(): void {
    if (this.#context.options.unset === 'destroy') void this.destroy().catch(() => {})
    else this.discard()
  }

  /** Leaves the session as it was stored: what this request changes is not. */
  discard(): void {
    if (this.#isDiscarded) return
    this.#isDiscarded = true
    if (this.current?.isValid) this.#mode.discard(this.current)
  }

  /** Replaces the whole content of the session: what assigning an object to the framework's property means. */
  replaceWith(attributes: object): void {
    if (this.facade === this.#leaving) this.facade = undefined
    this.facade ??= new SessionFacade(this, undefined, this.#binding.facadeTarget)
    const { proxy } = this.facade
    for (const name of Object.keys(proxy)) Reflect.deleteProperty(proxy, name)
    Object.assign(proxy, attributes)
  }

  /**
   * The `Set-Cookie` header the response needs, or undefined. Called when the head is about to be sent: from then on
   * the client can learn no other id.
   */
  head(): string | undefined {
    if (this.#isHeadSent) return undefined
    this.#isHeadSent = true
    const session = this.current
    if (this.isIgnored || this.#isAnonymous || !session?.isValid || !session.isFindable) return undefined
    if (session.id === this.#announced) {
      // A cookie that the session has changed is sent again when the session changes, as its lifetime begins anew.
      const isOwn = this.#announcement !== undefined || COOKIE_ATTRIBUTE in session.attributes
      const isDue = isOwn && (this.#hasChanged || this.mayHaveChanged)
      if (!isDue && !this.#context.options.rolling) return undefined
    } else if (!this.#isWorthKeeping(session)) return undefined
    this.#announced = session.id
    return this.announcement.head(session)
  }

  get announcement(): SessionAnnouncement<R> {
    this.#announcement ??= new SessionAnnouncement(this, this.#binding, this.#context)
    return this.#announcement
  }

  /**
   * Stores what has to be stored. A promise if the response has to wait for it.
   * @throws SessionManagerError with an HTTP status, if the response has to be an error instead
   */
  commit(): MaybePromise<void> {
    return this.#context.options.autoCommit ? this.commitNow() : undefined
  }

  /** As `commit`, also if the app does that itself (`autoCommit: false`). */
  commitNow(): MaybePromise<void> {
    if (this.#ending) return this.#ending.then(() => this.commitNow())
    if (this.facade && this.#context.options.saveUninitialized && this.canChangeId) {
      this.facade.session ??= this.createSession()
    }
    const session = this.facade?.session
    if (this.isIgnored || this.#isAnonymous || this.#isDiscarded || !session?.isValid) return undefined
    if (this.#isUnannounced(session)) {
      // Asked to keep even an empty one, a session is made although the app did not ask for it.
      if (!this.#isWorthKeeping(session)) return undefined
      if (!this.canChangeId) return this.#tooLate()
    }
    if (this.canChangeId) this.#checkCookie(session)
    // No client has been told of it, and none will be.
    if (!this.canChangeId && !session.isFindable) return undefined
    const { principals } = this.#context
    if (principals.isChanged(session)) {
      return principals.update(session).then(() => this.#mode.commit(session, this))
    }
    return this.#mode.commit(session, this)
  }

  /**
   * The response has ended, or its client is gone: the last commit, and the end of the session's use. A handler that
   * outlives its client ends its response later, and what it changed meanwhile is stored as well.
   * @param hasEnded whether the app has ended its response
   * @throws SessionManagerError as `commit`
   */
  finish(hasEnded: boolean): MaybePromise<void> {
    if (this.#hasEnded && !this.mayHaveChanged) return undefined
    this.#hasEnded = hasEnded
    let committed: MaybePromise<void>
    try {
      committed = this.commit()
    } catch (error) {
      this.#endUse()
      throw error
    }
    if (isPromise(committed)) return committed.finally(() => this.#endUse())
    this.#endUse()
    return undefined
  }

  /** The response becomes an error: nothing of this request is stored or announced any more. */
  abandon(): void {
    this.#isAnonymous = true
  }

  /** The URL with the session id in its path, if the client needs that. */
  encodeUrl(url: string): string {
    const session = this.current
    return session?.isValid ? this.announcement.encodeUrl(session, url) : url
  }

  /**
   * Goes on without a response, as for a WebSocket: nothing is held for the request any more, and what the app changes is
   * stored by `save`.
   */
  detach(): void {
    this.#endUse()
    this.#isHeadSent = true
  }

  /** Notes a use of the session, of which no response will tell. */
  touch(): void {
    const session = this.current
    if (!this.#finished || !session?.isValid) return
    session.access(Date.now())
    session.endAccess(Date.now())
    this.#mode.release(session, this)
  }

  #enter(session: Session | undefined): undefined {
    this.#isLoaded = true
    if (!this.isIgnored || session) this.facade = new SessionFacade(this, session, this.#binding.facadeTarget)
  }

  #failedToLoad(error: unknown): undefined {
    const isUnavailable = error instanceof SessionManagerError && error.code === 'ERR_MSM_STORAGE_UNAVAILABLE'
    if (!isUnavailable || this.#context.options.storageFailurePolicy !== 'anonymous') {
      this.#finished = true
      this.#context.requests.end()
      throw error
    }
    this.#isAnonymous = true
    this.#enter(undefined)
  }

  #endUse(): void {
    // What is set from here on is noticed; what is done to objects that were read before is not looked for again.
    if (this.#hasEnded && this.facade) {
      this.#hasChanged ||= this.facade.mayHaveChanged
      this.facade.mayHaveChanged = false
    }
    if (this.isIgnored || this.#finished) return
    this.#finished = true
    const { statistics, requests } = this.#context
    requests.end()
    const facade = this.facade
    const session = facade?.session
    statistics.increment(session ? 'numRequestsWithSession' : 'numRequestsWithoutSession')
    if (session && !facade.accessed) statistics.increment('numNoSessionAccess')
    if (session) {
      session.endAccess(Date.now())
      if (session.listedPrincipal !== undefined && session.isValid) this.#keepListed(session)
    }
    if (!this.#isLoaded && this.#presented) this.#mode.touch(this.#presented)
    else this.#mode.release(session, this)
  }

  #keepListed(session: Session): void {
    const { principals, logger } = this.#context
    principals.used(session).catch((error) => logger.debug?.(`A principal's list was not renewed: ${messageOf(error)}`))
  }

  /** @throws TypeError while an error can still be answered, if the app has made a cookie that can't be written */
  #checkCookie(session: Session): void {
    const isOwn = this.#context.options.cookieOf !== undefined || COOKIE_ATTRIBUTE in session.attributes
    if (isOwn) this.announcement.check(session)
  }

  /** True for a session with something in it, unless empty ones are wanted as well. */
  #isWorthKeeping(session: Session): boolean {
    if (session !== this.#created || this.#context.options.saveUninitialized) return true
    for (const name in session.attributes) if (name !== COOKIE_ATTRIBUTE) return true
    return false
  }

  /** True for a session that no client knows yet. */
  #isUnannounced(session: Session): boolean {
    return session === this.#created && this.#announced !== session.id
  }

  /** Ends the session; no response is sent before that is done, so that a logout is final when it is answered. */
  #end(reason: 'app' | 'regenerate'): Promise<void> {
    const session = this.current
    if (!session) return Promise.resolve()
    if (this.#isUnannounced(session) || this.#isAnonymous) {
      session.isValid = false
      return Promise.resolve()
    }
    const ending = this.#mode.remove(session, reason)
    const hasEnded = (): void => {
      this.#ending = undefined
    }
    this.#ending = ending.then(hasEnded, hasEnded)
    return ending
  }

  #tooLate(): undefined {
    if (this.#lost) return undefined
    this.#lost = true
    this.#context.logger.warn(
      'A new session got its first attribute after the response head was sent: its client can not learn the id, and ' +
        'it is not stored. Change the session before the first byte of the response.',
    )
    return undefined
  }
}
