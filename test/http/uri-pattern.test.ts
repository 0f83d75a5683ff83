import { describe, expect, test } from 'vitest'
import { matchesUriPattern } from '../../lib/http/uri-pattern.ts'
import { compilePattern } from '../../lib/options/pattern.ts'

const matches = (pattern: string, method: string, url: string) =>
  matchesUriPattern(compilePattern('pattern', pattern).regExp, { method }, url)

describe('a URI pattern', () => {
  test.each([
    ['.*\\.(ico|png|gif|jpg|css|js)$', 'GET', '/static/a.png'],
    ['.*\\.(ico|png|gif|jpg|css|js)$', 'GET', '/static/a.png?v=1'],
    ['/path1|/path2', 'GET', '/path1'],
    ['/path1|/path2', 'POST', '/path2?x=1'],
    ['^/static/.*', 'GET', '/static/a'],
    ['/a\\?b=.*', 'GET', '/a?b=1'],
    ['GET /a', 'GET', '/a'],
    ['GET /a\\?b=1', 'GET', '/a?b=1'],
    ['POST /a', 'POST', '/a?b=1'],
    ['(GET|HEAD) /a/.*', 'HEAD', '/a/b'],
    ['.*', 'GET', '/'],
  ])('%s matches %s %s', (pattern, method, url) => {
    expect(matches(pattern, method, url)).toBe(true)
  })

  test.each([
    ['.*\\.png', 'GET', '/a.pngx'],
    ['.*\\.png', 'GET', '/a.html?x=1'],
    ['/path1|/path2', 'GET', '/path1/x'],
    ['/path1|/path2', 'GET', '/x/path2'],
    ['GET /a', 'POST', '/a'],
    ['/a', 'GET', '/A'],
    ['/a', 'GET', ''],
  ])('%s does not match %s %s', (pattern, method, url) => {
    expect(matches(pattern, method, url)).toBe(false)
  })

  test('takes a .png in the query for part of path and query, as the original does', () => {
    expect(matches('.*\\.png', 'GET', '/app?x=a.png')).toBe(true)
  })

  test('sees no more than 8,192 characters of a URL', () => {
    const seen: number[] = []
    const pattern = { test: (text: string) => seen.push(text.length) < 0 } as unknown as RegExp
    expect(matchesUriPattern(pattern, { method: 'GET' }, `/${'a'.repeat(100_000)}?${'b'.repeat(100_000)}`)).toBe(false)
    expect(seen.length).toBeGreaterThan(0)
    expect(Math.max(...seen)).toBeLessThanOrEqual(8192 + 'GET '.length)
  })

  test('of the documented kind costs less than a millisecond for the longest URL', () => {
    const { regExp } = compilePattern('pattern', '.*\\.(ico|png|gif|jpg|css|js)$')
    for (const url of [`/${'.'.repeat(9000)}`, `/${'.png'.repeat(3000)}?${'.pn'.repeat(10)}`]) {
      let best = Number.POSITIVE_INFINITY
      for (let i = 0; i < 20; i++) {
        const start = performance.now()
        matchesUriPattern(regExp, { method: 'GET' }, url)
        best = Math.min(best, performance.now() - start)
      }
      expect(best).toBeLessThan(1)
    }
  })
})
