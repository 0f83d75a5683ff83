import fc from 'fast-check'
import { describe } from 'vitest'
import { matchesUriPattern } from '../../lib/http/uri-pattern.ts'
import { parseLockingMode } from '../../lib/options/locking-mode.ts'
import { compilePattern } from '../../lib/options/pattern.ts'
import { anyText, anyValue, isFast, orMessage } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const PIECES = [
  ...[
    'a',
    '/',
    '.',
    '*',
    '+',
    '?',
    '|',
    '(',
    ')',
    '(?:',
    '(?i)',
    '(?s)',
    '(?=',
    '(?<n>',
    '\\k<n>',
    '[',
    ']',
    '[^',
    '{2}',
  ],
  ...[
    '\\',
    '\\.',
    '\\d',
    '\\b',
    '\\A',
    '\\Q',
    '\\p',
    '\\1',
    '^',
    '$',
    '\n',
    '\u2028',
    '\0',
    'é',
    '\ud800',
    '-',
    '{',
    ',',
  ],
]
const source = fc.oneof(
  fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }).map((pieces) => pieces.join('')),
  anyText,
)
const url = fc.oneof(
  fc
    .array(fc.constantFrom('/', 'a', '.', '.png', '?', '?x=', '#', '%', '%2e', ';', '&', '//', '\n'), { maxLength: 20 })
    .map((parts) => `/${parts.join('')}`),
  anyText,
)

/** The patterns that the documentation and the original show. */
const DOCUMENTED = [
  '.*\\.(ico|png|gif|jpg|jpeg|bmp|css|js|html|htm)$',
  '/path1|/path2',
  '^/static/.*',
  '(GET|HEAD) /a/.*',
  'POST .*',
  '(?i).*\\.PNG',
  '[^?]*\\.(css|js)(\\?.*)?',
].map((text) => compilePattern('pattern', text).regExp)

describe('a pattern', () => {
  fuzz(
    'of any text matches whole strings only, or is a TypeError that names the option',
    fc.property(source, url, (text, target) => {
      const result = orMessage(() => compilePattern('requestUriIgnorePattern', text))
      if ('message' in result) return result.message.startsWith('requestUriIgnorePattern: ')
      const match = result.value.regExp.exec(target)
      return match === null || match[0] === target
    }),
  )
  fuzz(
    'of any type is compiled, or a TypeError that names the option',
    fc.property(anyValue, (value) => {
      const result = orMessage(() => compilePattern('requestUriIgnorePattern', value))
      return 'value' in result || result.message.startsWith('requestUriIgnorePattern: ')
    }),
  )
  fuzz(
    'that is a RegExp means the same as its text',
    fc.property(source, url, fc.constantFrom('', 'g', 'y', 'm', 'i', 's', 'gimsy', 'd'), (text, target, flags) => {
      let regExp: RegExp
      try {
        regExp = new RegExp(text, flags)
      } catch {
        return true
      }
      const compiled = compilePattern('pattern', regExp).regExp
      const whole = compiled.exec(target)
      return compiled.test(target) === (whole !== null) && (whole === null || whole[0] === target)
    }),
  )
  fuzz(
    'of a locking mode is compiled, or a TypeError that names the option',
    fc.property(
      fc.oneof(
        source.map((text) => `uriPattern:${text}`),
        anyValue,
      ),
      fc.boolean(),
      (value, sticky) => {
        const result = orMessage(() => parseLockingMode(value, sticky))
        return 'value' in result || result.message.startsWith('lockingMode: ')
      },
    ),
  )
})

describe('matching a URL', () => {
  fuzz(
    'compares with path, path and query, and both after the method, and always says the same',
    fc.property(
      fc.constantFrom(...DOCUMENTED),
      url,
      fc.constantFrom('GET', 'POST', undefined),
      (pattern, target, method) => {
        const path = target.split('?', 1)[0]!
        const texts = [target, path, `${method ?? 'GET'} ${target}`, `${method ?? 'GET'} ${path}`]
        const expected = texts.some((text) => pattern.test(text))
        return (
          matchesUriPattern(pattern, { method }, target) === expected &&
          matchesUriPattern(pattern, { method }, target) === expected
        )
      },
    ),
  )
  fuzz(
    'of eight thousand characters takes no tenth of a second',
    fc.property(
      fc.constantFrom(...DOCUMENTED),
      fc.array(fc.constantFrom('/', '.', '.png', '.pn', 'a', '?', 'GET ', '/a/', '\n', '.css?'), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.nat(3),
      (pattern, pieces, cut) => {
        const target = `/${pieces.join('').repeat(8192)}`.slice(0, 8190 + cut)
        return isFast(() => matchesUriPattern(pattern, { method: 'GET' }, target), 100)
      },
    ),
    10,
  )
})
