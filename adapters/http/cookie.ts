import { parseCookie, stringifySetCookie } from 'cookie'
import type { CookieAttributes, CookieCodec } from '../../lib/ports.ts'

const SEMICOLON = 0x3b

/**
 * The cookie headers by the `cookie` package (RFC 6265). Reading never throws, whatever the header holds: a value with
 * wrong percent-encoding is returned as it stands.
 */
export const cookieCodec: CookieCodec = {
  read(header: string, name: string): string[] {
    const values: string[] = []
    if (name === '') return values
    // A request has many cookies and one session: only what can be a pair of that name is given to the parser.
    for (let at = header.indexOf(name); at !== -1; at = header.indexOf(name, at + name.length)) {
      if (!beginsPair(header, at)) continue
      const end = header.indexOf(';', at)
      // Another cookie, whose name only begins like ours (GH174), comes back under its own name.
      const value = parseCookie(end === -1 ? header.slice(at) : header.slice(at, end))[name]
      if (value !== undefined) values.push(value)
    }
    return values
  },

  write(name: string, value: string, attributes: CookieAttributes): string {
    return stringifySetCookie(name, value, attributes)
  },
}

/** True if nothing but optional white space lies between `at` and the semicolon, or start, before it. */
function beginsPair(header: string, at: number): boolean {
  let before = at - 1
  while (before >= 0 && isWhiteSpace(header.charCodeAt(before))) before--
  return before < 0 || header.charCodeAt(before) === SEMICOLON
}

function isWhiteSpace(code: number): boolean {
  return code === 0x20 || code === 0x09
}
