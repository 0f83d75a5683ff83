import fc from 'fast-check'
import { describe } from 'vitest'
import { cookieCodec } from '../../adapters/http/cookie.ts'
import { resolveCookie } from '../../lib/options/cookie.ts'
import { resolveOptions, type SessionManagerOptions } from '../../lib/options.ts'
import { anyText, anyValue, mutatedText, orMessage } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const NAMES = [
  ...Object.keys(resolveOptions({}))
    .filter((name) => !['raw', 'warnings', 'nodes', 'keyPrefix', 'maxSessionIdLength', 'cookieOf'].includes(name))
    .filter((name) => !['ignorePattern', 'attributeFilter'].includes(name)),
  ...['memcachedNodes', 'failoverNodes', 'storageKeyPrefix', 'name'],
]
const KEY = 'sEcReT'.padEnd(43, 'k')
const quiet = { logger: { info: () => {}, warn: () => {}, error: () => {} } }
const value = fc.oneof(
  anyValue,
  anyText,
  fc.constantFrom<unknown>('', 'true', 'FALSE', '1', '-1', '1e3', ' 1', '9'.repeat(11), 'none', 'constructor', -0),
  fc.constantFrom<unknown>({}, [], [[]], ['cookie'], { keys: [KEY] }, { keys: [KEY, 'x'] }, { minBytes: '1' }, 2 ** 31),
)

const CHARACTERS = [
  '/',
  ';',
  '<',
  '=',
  '\r',
  '\n',
  '\0',
  ' ',
  '-',
  '.',
  'é',
  '\x7f',
  'a',
  ',',
  '"',
  '\\',
  '..',
  '-.',
  '.-',
]
const cookie = fc.record(
  {
    name: fc.oneof(mutatedText(fc.constantFrom('JSESSIONID', '__Host-id', '__Secure-x'), CHARACTERS), anyText),
    path: fc.oneof(mutatedText(fc.constantFrom('/', '/app', '/a/b'), CHARACTERS), anyText),
    domain: fc.oneof(mutatedText(fc.constantFrom('example.com', '.a-b.c', 'a'.repeat(63)), CHARACTERS), anyText),
    secure: fc.constantFrom(true, false, 'auto', 'AUTO'),
    sameSite: fc.constantFrom(true, false, 'lax', 'None', 'x'),
    partitioned: fc.boolean(),
    priority: fc.constantFrom('low', 'HIGH', 'x'),
    maxAge: fc.oneof(fc.integer(), fc.double()),
  },
  { requiredKeys: [] },
)

describe('options', () => {
  fuzz(
    'of any value are resolved, or a TypeError that names the option and shows no key',
    fc.property(fc.constantFrom(...NAMES), value, fc.boolean(), (name, given, sticky) => {
      const options = { ...quiet, sticky, [name]: given } as SessionManagerOptions
      const result = orMessage(() => resolveOptions(options))
      if ('value' in result) return Object.isFrozen(result.value)
      return result.message.includes(name) && !result.message.includes('sEcReT')
    }),
  )
  fuzz(
    'of any names are resolved, or a TypeError that names one of them',
    fc.property(
      fc.dictionary(fc.oneof(anyText, mutatedText(fc.constantFrom(...NAMES), ['a', '_', 'E', ' '])), value),
      (options) => {
        const result = orMessage(() => resolveOptions({ ...quiet, ...options } as SessionManagerOptions))
        return 'value' in result || Object.keys(options).some((name) => result.message.includes(name))
      },
    ),
    5,
  )
  fuzz(
    'that are no object are a TypeError that says so',
    fc.property(anyValue, (options) => {
      const result = orMessage(() => resolveOptions(options as SessionManagerOptions))
      return 'value' in result || /^(?:options: |Unknown option |The option |[\w.]+: )/.test(result.message)
    }),
  )
})

describe('a cookie', () => {
  fuzz(
    'that is accepted can be written, on one line and for one cookie',
    fc.property(cookie, (given) => {
      const result = orMessage(() => resolveCookie(given))
      if ('message' in result) return /^(?:cookie\.|Unknown option cookie\.)/.test(result.message)
      const { name, secure, ...attributes } = result.value
      const written = cookieCodec.write(name, 'id', { ...attributes, secure: secure === true } as never)
      return /^[\x20-\x7e]+$/.test(written) && written.startsWith(`${name}=id; `)
    }),
  )
  fuzz(
    'of a request is written, or a TypeError that names the option',
    fc.property(anyValue, (given) => {
      const { cookieOf } = resolveOptions({ ...quiet, cookie: () => given as never })
      const result = orMessage(() => cookieOf!({}))
      return 'value' in result || /cookie/.test(result.message)
    }),
    3,
  )
})
