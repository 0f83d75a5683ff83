import fc from 'fast-check'
import { describe } from 'vitest'
import { cookieCodec } from '../../adapters/http/cookie.ts'
import { presentedId, type TrackedRequest, withoutSessionId, withSessionId } from '../../lib/http/session-tracking.ts'
import { SessionIdFormat } from '../../lib/ids/session-id-format.ts'
import { resolveOptions } from '../../lib/options.ts'
import type { SessionContext } from '../../lib/session-context.ts'
import { anyText, isFast, mutatedText } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const IDS = ['2A19B1EB6D9649C9FED3E7277FDFD470-n1.t1', `${'0'.repeat(32)}`, `${'F'.repeat(32)}.a-b.c`]
const COOKIE_PIECES = [
  ...['JSESSIONID', 'JSESSIONID=', '=', ';', '; ', ' ', '\t', ',', '"', '%', '%0d%0a', '%00', '%zz', '\r', '\n', '\0'],
  ...['JSESSIONID_=', 'a=b', '__proto__=', 'é', '\ud800', '$Path=/', '%32A19B1EB6D9649C9FED3E7277FDFD470', ...IDS],
]
const URL_PIECES = [
  ...['/', ';', ';jsessionid=', ';JSESSIONID=', ';v=1', '?', '#', '%', '..', '//', ' ', '\n', '\0', 'é', 'a', ...IDS],
]

interface UrlRequest extends TrackedRequest {
  readonly url: string
}
const binding = { url: (request: UrlRequest) => request.url }
const ids = new SessionIdFormat()
const contextOf = (sessionTracking: readonly ('cookie' | 'header' | 'url')[]): SessionContext =>
  ({ options: resolveOptions({ sessionTracking }), cookies: cookieCodec, ids }) as unknown as SessionContext
const byCookie = contextOf(['cookie'])
const byUrl = contextOf(['url'])
const byHeader = contextOf(['header'])
const byAll = contextOf(['header', 'cookie', 'url'])

const ofCookie = (cookie: string): string | undefined =>
  presentedId({ headers: { cookie }, url: '/' }, binding, byCookie)?.id
const ofUrl = (url: string): string | undefined => presentedId({ headers: {}, url }, binding, byUrl)?.id

const join = (pieces: readonly string[], maxLength: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...pieces), { maxLength }).map((parts) => parts.join(''))
const header = fc.oneof(
  anyText,
  join(COOKIE_PIECES, 14),
  mutatedText(fc.constantFrom(...IDS.map((id) => `a=1; JSESSIONID=${id}; b=2`)), COOKIE_PIECES),
)
const url = fc.oneof(
  anyText,
  join(URL_PIECES, 12),
  mutatedText(fc.constantFrom(...IDS.map((id) => `/a;jsessionid=${id}/b?c`)), URL_PIECES),
)

describe('a cookie header', () => {
  fuzz(
    'always gives the same choice, the first id of at most four candidates',
    fc.property(header, (text) => {
      const values = cookieCodec.read(text, 'JSESSIONID')
      const expected = values.length > 4 ? undefined : values.find((value) => ids.parse(value))
      return ofCookie(text) === expected && ofCookie(text) === expected
    }),
  )
  fuzz(
    'gives the same choice whatever other cookies stand around it',
    fc.property(
      header,
      fc.array(fc.constantFrom('a=b', 'JSESSIONID_X=1', '', ' ', 'x', '=', 'jsessionid=0', 'é="')),
      (text, others) => ofCookie([...others, text, ...others].join(';')) === ofCookie(text),
    ),
  )
  fuzz(
    'gives an id of visible ASCII, or none',
    fc.property(header, (text) => /^[\w.-]+$|^undefined$/.test(String(ofCookie(text)))),
  )
  fuzz(
    'may repeat anything eight thousand times',
    fc.property(fc.constantFrom(...COOKIE_PIECES), fc.constantFrom(...COOKIE_PIECES), (one, other) => {
      const text = (one + other).repeat(8000)
      return isFast(() => ofCookie(text), 1000)
    }),
    30,
  )
})

describe('a URL', () => {
  fuzz(
    'gives an id of visible ASCII, or none',
    fc.property(url, (text) => {
      withoutSessionId(text, 'JSESSIONID')
      return /^[\w.-]+$|^undefined$/.test(String(ofUrl(text)))
    }),
  )
  fuzz(
    'gives the id that was put into it, and is the same without it',
    fc.property(url, fc.constantFrom(...IDS), fc.constantFrom('JSESSIONID', 'sid', '$', 'a.b'), (text, id, name) => {
      const tracked = withSessionId(text, name, id)
      return withoutSessionId(tracked, name) === text && (name !== 'JSESSIONID' || ofUrl(tracked) === id)
    }),
  )
  fuzz(
    'may repeat anything eight thousand times',
    fc.property(fc.constantFrom(...URL_PIECES), fc.constantFrom(...URL_PIECES), (one, other) => {
      const text = (one + other).repeat(8000)
      return isFast(() => [ofUrl(text), withoutSessionId(text, 'JSESSIONID')], 1000)
    }),
    30,
  )
})

describe('a request', () => {
  const values = fc.oneof(header, fc.constantFrom(...IDS), fc.constant(undefined), fc.array(header, { maxLength: 2 }))
  fuzz(
    'gives the id of the first source that has one',
    fc.property(values, header, url, (value, cookie, target) => {
      const request = { headers: { cookie, 'x-session-id': value }, url: target }
      const inHeader = presentedId(request, binding, byHeader)?.id
      return presentedId(request, binding, byAll)?.id === (inHeader ?? ofCookie(cookie) ?? ofUrl(target))
    }),
  )
})
