import type { SessionIdParts } from '../ids/session-id-format.ts'
import type { SessionContext } from '../session-context.ts'

/** More cookies of the session's name than this are no browser's doing. */
const MAX_CANDIDATES = 4

/** What is looked at of a request. */
export interface TrackedRequest {
  readonly headers: { readonly cookie?: string | undefined; readonly [name: string]: string | string[] | undefined }
}

/**
 * The id a client presents, from the first source of `sessionTracking` that has one. Only what has exactly the form of an
 * id counts; whatever else a client sends is no id. Of several cookies of the name (a path or domain of its own each) the
 * first such value is taken, which by RFC 6265 is that of the longest path; of more than four, none.
 */
export function presentedId<R extends TrackedRequest>(
  request: R,
  binding: { url(request: R): string },
  { options, cookies, ids }: SessionContext,
): SessionIdParts | undefined {
  for (const source of options.sessionTracking) {
    if (source === 'cookie') {
      const header = request.headers.cookie
      if (header === undefined || !header.includes(options.cookie.name)) continue
      const values = cookies.read(header, options.cookie.name)
      if (values.length > MAX_CANDIDATES) continue
      for (const value of values) {
        const id = ids.parse(value)
        if (id) return id
      }
    } else {
      const value =
        source === 'header'
          ? request.headers[options.sessionHeader.toLowerCase()]
          : idInUrl(binding.url(request), options.cookie.name)
      const id = typeof value === 'string' ? ids.parse(value) : undefined
      if (id) return id
    }
  }
  return undefined
}

/** The URL with the session id in its path, as Tomcat writes it: `/cart;jsessionid=2A19…-n1.t1?page=2`. */
export function withSessionId(url: string, cookieName: string, id: string): string {
  const end = endOfPath(url)
  return `${url.slice(0, end)};${parameterName(cookieName)}=${id}${url.slice(end)}`
}

/** The URL without a session id in its path, so that routes match. */
export function withoutSessionId(url: string, cookieName: string): string {
  const found = findParameter(url, cookieName)
  return found ? url.slice(0, found.start) + url.slice(found.end) : url
}

function idInUrl(url: string, cookieName: string): string | undefined {
  const found = findParameter(url, cookieName)
  return found && url.slice(found.valueStart, found.end)
}

function findParameter(
  url: string,
  cookieName: string,
): { start: number; valueStart: number; end: number } | undefined {
  const path = url.slice(0, endOfPath(url))
  const parameter = `;${parameterName(cookieName)}=`
  const start = path.lastIndexOf(parameter)
  if (start < 0) return undefined
  const valueStart = start + parameter.length
  let end = valueStart
  while (end < path.length && path[end] !== ';' && path[end] !== '/') end++
  return { start, valueStart, end }
}

/** Tomcat's is `jsessionid`, unless the cookie has another name; then it is that. */
function parameterName(cookieName: string): string {
  return cookieName === 'JSESSIONID' ? 'jsessionid' : cookieName
}

function endOfPath(url: string): number {
  const end = url.search(/[?#]/)
  return end < 0 ? url.length : end
}
