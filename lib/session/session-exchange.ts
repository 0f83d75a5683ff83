import type { SessionIdParts } from '../ids/session-id-format.ts'
import { chain, type MaybePromise } from '../maybe-promise.ts'
import type { SessionMode } from '../modes/session-mode.ts'
import type { SessionContext } from '../session-context.ts'
import type { Session } from './session.ts'
import { type FacadeHost, SessionFacade } from './session-facade.ts'

/** A request as the manager sees it; node's IncomingMessage is one. */
export interface SessionRequest {
  readonly method?: string | undefined
  readonly headers: { readonly cookie?: string | undefined }
}

/** How the manager reads the requests of one web framework; one constant object per adapter. */
export interface WebBinding<R extends SessionRequest = SessionRequest> {
  /** The object all session facades of this framework inherit their properties and methods from. */
  readonly facadeTarget: object
  /** Path and query as the client sent them. */
  url(request: R): string
  /** True if the client came by https. */
  isSecure(request: R): boolean
}

/** One request and its session, from `SessionManager.begin` until its response has ended. */
export class SessionExchange<R extends SessionRequest = SessionRequest> implements FacadeHost {
  readonly request: R
  /** True if `requestUriIgnorePattern` matches: the request touches no store and gets no cookie. */
  readonly isIgnored: boolean
  /** What the app sees as its session; undefined if the request is ignored, or after `destroy`. */
  facade: SessionFacade<SessionExchange<R>> | undefined
  readonly #binding: WebBinding<R>
  readonly #context: SessionContext
  readonly #mode: SessionMode
  readonly #presented: SessionIdParts | undefined
  #announced: string | undefined
  #headSent = false
  #finished = false
  #lost = false

  constructor(
    request: R,
    binding: WebBinding<R>,
    context: SessionContext,
    mode: SessionMode,
    presented: SessionIdParts | undefined,
    isIgnored: boolean,
    session: Session | undefined,
  ) {
    this.request = request
    this.isIgnored = isIgnored
    this.#binding = binding
    this.#context = context
    this.#mode = mode
    this.#presented = presented
    this.#announced = presented?.id
    if (!isIgnored || session) this.facade = new SessionFacade(this, session, binding.facadeTarget)
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
    return this.#mode.create()
  }

  isStoredAttribute(name: string): boolean {
    return this.#context.attributes.isStored(name)
  }

  /** Ends the session and starts an empty one under a new id. */
  async regenerate(): Promise<void> {
    await this.#remove('regenerate')
    this.facade = new SessionFacade(this, undefined, this.#binding.facadeTarget)
  }

  /** Ends the session; the request has none from here on. */
  async destroy(): Promise<void> {
    await this.#remove('app')
    this.facade = undefined
  }

  /** Takes what the store has in place of what this request changed. */
  async reload(): Promise<void> {
    const session = this.current
    if (session) await this.#mode.reload(session)
    this.facade = new SessionFacade(this, session, this.#binding.facadeTarget)
  }

  /** Stores the session now, whatever `sessionBackupAsync` says. */
  async save(): Promise<void> {
    const session = this.current
    if (session?.isValid && hasContent(session)) await this.#mode.save(session)
  }

  /** Replaces the whole content of the session: what assigning an object to the framework's property means. */
  replaceWith(attributes: object): void {
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
    if (this.#headSent) return undefined
    this.#headSent = true
    const session = this.current
    if (this.isIgnored || !session?.isValid || session.id === this.#announced) return undefined
    if (session.isNew && !hasContent(session)) return undefined
    this.#announced = session.id
    const { cookie } = this.#context.options
    const { name, secure, ...attributes } = cookie
    return this.#context.cookies.write(name, session.id, {
      ...attributes,
      secure: secure === 'auto' ? this.#binding.isSecure(this.request) : secure,
    })
  }

  /** Stores what has to be stored. A promise if the response has to wait for it; it does not reject. */
  commit(): MaybePromise<void> {
    const facade = this.facade
    const session = facade?.session
    if (this.isIgnored || !facade || !session?.isValid) return undefined
    if (session.isNew && this.#announced !== session.id) {
      if (!hasContent(session)) return undefined
      if (this.#headSent) return this.#tooLate()
    }
    const mayHaveChanged = facade.mayHaveChanged
    return this.#mode.commit(session, mayHaveChanged)
  }

  /**
   * The response has ended, or its client is gone: the last commit, and the end of the session's use. A handler that
   * outlives its client calls it again when it ends, and what it changed meanwhile is stored as well.
   */
  finish(): MaybePromise<void> {
    if (this.#finished) return this.commit()
    this.#finished = true
    return chain(this.commit(), () => this.#end())
  }

  #end(): void {
    const { statistics } = this.#context
    const facade = this.facade
    if (this.isIgnored) return
    statistics.increment(facade?.session ? 'numRequestsWithSession' : 'numRequestsWithoutSession')
    if (facade?.session && !facade.accessed) statistics.increment('numNoSessionAccess')
    facade?.session?.endAccess(Date.now())
  }

  async #remove(reason: 'app' | 'regenerate'): Promise<void> {
    const session = this.current
    if (!session) return
    if (session.isNew && session.id !== this.#presented?.id && this.#announced !== session.id) session.isValid = false
    else await this.#mode.remove(session, reason)
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

function hasContent(session: Session): boolean {
  for (const _name in session.attributes) return true
  return false
}
