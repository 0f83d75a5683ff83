import { checkNames } from './names.ts'
import {
  either,
  flag,
  INVALID,
  oneOf,
  optionError,
  resolveTable,
  show,
  type Table,
  text,
  type ValueType,
  whole,
} from './values.ts'

/** The session cookie, as configured. */
export interface CookieOptions {
  /** @default 'JSESSIONID' */
  name?: string
  /** @default '/' */
  path?: string
  /** Without it, the cookie goes back to the host that set it, and to no subdomain. */
  domain?: string
  /** Keeps the cookie from scripts in the page. @default true */
  httpOnly?: boolean
  /** `'auto'`: on https requests only. @default 'auto' */
  secure?: boolean | 'auto'
  /** `true` means strict, `false` leaves the attribute out. @default 'lax' */
  sameSite?: boolean | 'strict' | 'lax' | 'none' | 'Strict' | 'Lax' | 'None'
  /** A cookie jar of its own for each top-level site (CHIPS). @default false */
  partitioned?: boolean
  /** Which cookies Chrome evicts first. */
  priority?: 'low' | 'medium' | 'high'
  /** Seconds the browser keeps the cookie; without it, until the browser is closed. */
  maxAge?: number
}

/** The session cookie, checked and with its defaults. */
export interface ResolvedCookie {
  readonly name: string
  readonly path: string
  readonly domain: string | undefined
  readonly httpOnly: boolean
  /** `true` where `'auto'` was given and the other attributes work with `Secure` only. */
  readonly secure: boolean | 'auto'
  readonly sameSite: 'strict' | 'lax' | 'none' | undefined
  readonly partitioned: boolean
  readonly priority: 'low' | 'medium' | 'high' | undefined
  readonly maxAge: number | undefined
}

/** RFC 6265, 4.1.1: a cookie name is a token. The length leaves room for the longest id within 4,096 bytes. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,3800}$/
/** RFC 6265, 4.1.1: `path-value`, without the `<` that the cookie package refuses; browsers ignore more than 1,024 bytes. */
const PATH = /^\/[\x20-\x3a\x3d-\x7e]{0,1023}$/
/** RFC 1123: no label begins or ends with a dash, or has more than 63 characters. */
const DOMAIN = /^\.?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i

const sameSite: ValueType<'strict' | 'lax' | 'none' | undefined> = {
  form: "'strict', 'lax', 'none', true (strict) or false (no attribute)",
  parse: (value) => {
    if (typeof value === 'boolean') return value ? 'strict' : undefined
    return oneOf('strict', 'lax', 'none').parse(value)
  },
}

const auto: ValueType<'auto'> = { form: "'auto'", parse: (value) => (value === 'auto' ? value : INVALID) }

const COOKIE: Table<ResolvedCookie> = {
  name: {
    type: text('an RFC 6265 token: letters, digits and punctuation but ()<>@,;:\\"/[]?={}', (name) => TOKEN.test(name)),
    default: 'JSESSIONID',
  },
  path: { type: text("a path that begins with '/' and holds no ';' or '<'", (path) => PATH.test(path)), default: '/' },
  domain: { type: text("a domain name such as 'example.com'", (name) => name.length < 256 && DOMAIN.test(name)) },
  httpOnly: { type: flag, default: true },
  secure: { type: either(flag, auto), default: 'auto' },
  sameSite: { type: sameSite, default: 'lax' },
  partitioned: { type: flag, default: false },
  priority: { type: oneOf('low', 'medium', 'high') },
  maxAge: { type: whole('seconds', 1) },
}

/** The cookie of one request. */
export type CookieOfRequest = (request: unknown) => ResolvedCookie

/**
 * Checks the `cookie` and `name` options. A function is called, and what it returns is checked, whenever a cookie is to be
 * written.
 *
 * @throws TypeError that names the option, or the rule that is broken.
 */
export function resolveCookieOption(
  cookie: unknown,
  name: unknown,
): { readonly cookie: ResolvedCookie; readonly cookieOf: CookieOfRequest | undefined } {
  if (typeof cookie !== 'function') return { cookie: resolveCookie(withName(cookie, name)), cookieOf: undefined }
  const fixed = resolveCookie(withName(undefined, name))
  return { cookie: fixed, cookieOf: (request) => resolveCookie(withName(cookie(request), fixed.name)) }
}

function withName(cookie: unknown, name: unknown): unknown {
  if (name === undefined) return cookie
  const own = (cookie as { name?: unknown } | undefined)?.name
  if (own !== undefined && own !== name) {
    throw new TypeError(`cookie.name: ${show(own)} is not valid. It must be the same as the option name, or left out.`)
  }
  return cookie === undefined || (typeof cookie === 'object' && cookie !== null) ? { ...cookie, name } : cookie
}

/**
 * Checks the `cookie` option, also for combinations that browsers drop.
 *
 * @throws TypeError that names the option, or the rule that is broken.
 */
export function resolveCookie(value: unknown): ResolvedCookie {
  if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) {
    throw optionError('cookie', show(value), "an object such as { name: 'JSESSIONID', sameSite: 'lax' }")
  }
  const given = value ?? {}
  checkNames(given, Object.keys(COOKIE), 'cookie.')
  const cookie = resolveTable(COOKIE, given, 'cookie.')
  checkHostPrefix(cookie)
  const rule = ruleThatNeedsSecure(cookie)
  if (rule === undefined) return Object.freeze(cookie)
  if (cookie.secure === false) throw new TypeError(`cookie.secure: false is not valid. It must be true: ${rule}.`)
  return Object.freeze({ ...cookie, secure: true })
}

/** Browsers compare name prefixes without regard to case. */
function hasPrefix(cookie: ResolvedCookie, prefix: string): boolean {
  return cookie.name.toLowerCase().startsWith(prefix)
}

function checkHostPrefix(cookie: ResolvedCookie): void {
  if (!hasPrefix(cookie, '__host-')) return
  const rule = 'browsers drop a cookie with the name prefix __Host- otherwise'
  if (cookie.path !== '/') throw optionError('cookie.path', show(cookie.path), `'/': ${rule}`)
  if (cookie.domain !== undefined) throw optionError('cookie.domain', show(cookie.domain), `left out: ${rule}`)
}

function ruleThatNeedsSecure(cookie: ResolvedCookie): string | undefined {
  if (hasPrefix(cookie, '__host-')) return 'browsers drop a cookie with the name prefix __Host- otherwise'
  if (hasPrefix(cookie, '__secure-')) return 'browsers drop a cookie with the name prefix __Secure- otherwise'
  if (cookie.sameSite === 'none') return 'browsers drop a cookie with SameSite=None otherwise'
  if (cookie.partitioned) return 'browsers drop a cookie with Partitioned otherwise'
  return undefined
}
