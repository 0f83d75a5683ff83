import { messageOf } from '../errors.ts'
import { isSecureRequest, warnOfDroppedCookie } from '../http/secure-cookie.ts'
import { withSessionId } from '../http/session-tracking.ts'
import type { SessionContext } from '../session-context.ts'
import type { Session } from './session.ts'
import { SessionCookie } from './session-cookie.ts'
import type { SessionRequest, WebBinding } from './session-exchange.ts'

/** The request whose client is told. */
export interface Announcer<R extends SessionRequest> {
  readonly request: R
  /** The session, if there is one. */
  readonly current: Session | undefined
  /** The session, made now if there is none. @throws SessionManagerError if it was destroyed */
  demandSession(): Session
  /** The session has changed. */
  noteChange(): void
}

/** How the client of one request learns its session id: by cookie, header or URL, and only until the head is sent. */
export class SessionAnnouncement<R extends SessionRequest> {
  readonly #announcer: Announcer<R>
  readonly #binding: WebBinding<R>
  readonly #context: SessionContext
  /** Name and value of the header that tells the id, set by `head` if `sessionTracking` has `'header'`. */
  idHeader: readonly [string, string] | undefined
  #cookie: SessionCookie | undefined

  constructor(announcer: Announcer<R>, binding: WebBinding<R>, context: SessionContext) {
    this.#announcer = announcer
    this.#binding = binding
    this.#context = context
  }

  /** The cookie of the session, to be read and changed by the app. */
  get cookie(): SessionCookie {
    this.#cookie ??= this.#newCookie()
    return this.#cookie
  }

  /** Another session is to be announced. */
  forgetCookie(): void {
    this.#cookie = undefined
  }

  /** The `Set-Cookie` header for this session, if that is how its client is told. Called when the head is about to be sent. */
  head(session: Session): string | undefined {
    const { options, logger } = this.#context
    if (options.sessionTracking.includes('header')) this.idHeader = [options.sessionHeader, session.id]
    if (!options.sessionTracking.includes('cookie')) return undefined
    try {
      return this.#writeCookie(session)
    } catch (error) {
      // It was checked when there was still time to answer with an error; the head can not fail.
      logger.error(`The session cookie is not sent: ${messageOf(error)}`)
      return undefined
    }
  }

  /** @throws TypeError if the app has made a cookie that can't be written */
  check(session: Session): void {
    if (this.#context.options.sessionTracking.includes('cookie')) this.#writeCookie(session)
  }

  /**
   * Adds the session id to the path of a URL, if `sessionTracking` has `'url'` and the client has not shown by a cookie
   * that it needs none. Only for URLs of this site: who gets the URL has the session.
   */
  encodeUrl(session: Session, url: string): string {
    const { sessionTracking, cookie } = this.#context.options
    if (!sessionTracking.includes('url') || !isOfThisSite(url)) return url
    const { headers } = this.#announcer.request
    const hasCookie = sessionTracking.includes('cookie') && headers.cookie?.includes(cookie.name)
    return hasCookie ? url : withSessionId(url, cookie.name, session.id)
  }

  #writeCookie(session: Session): string {
    const { options, cookies } = this.#context
    const attributes = this.cookie.toAttributes()
    warnOfDroppedCookie(this.#context, this.#announcer.request, this.#binding, attributes.secure === true)
    return cookies.write(options.cookie.name, session.id, attributes)
  }

  #newCookie(): SessionCookie {
    const { options } = this.#context
    const announcer = this.#announcer
    const owner = {
      get attributes() {
        return announcer.current?.attributes ?? {}
      },
      change: () => {
        const { attributes } = announcer.demandSession()
        announcer.noteChange()
        return attributes
      },
      setMaxInactiveInterval: (seconds: number | undefined) => {
        announcer.demandSession().maxInactiveInterval = seconds ?? options.maxInactiveInterval
      },
    }
    const defaults = options.cookieOf?.(announcer.request) ?? options.cookie
    return new SessionCookie(owner, defaults, isSecureRequest(announcer.request, this.#binding, options.proxy))
  }
}

/** As browsers read it: they skip tabs and line breaks, and take a backslash for a slash. */
function isOfThisSite(url: string): boolean {
  return /^(?:$|[?#.]|\/(?![/\\]))/.test(url.replace(/[\t\r\n]/g, ''))
}
