import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cookieCodec } from '../../../adapters/http/cookie.ts'

const NAME = 'JSESSIONID'

describe('reading a cookie', () => {
  test.each([
    ['JSESSIONID=a', ['a']],
    ['a=1; JSESSIONID=b; c=2', ['b']],
    ['a=1;JSESSIONID=b;c=2', ['b']],
    ['  JSESSIONID = b  ;', ['b']],
    ['a=1;\t JSESSIONID\t=\tb\t; c', ['b']],
    ['JSESSIONID=', ['']],
    ['JSESSIONID=a=b==', ['a=b==']],
    ['JSESSIONID=%41%2e', ['A.']],
    ['JSESSIONID="quoted"', ['"quoted"']],
    ['', []],
    [';;; ;', []],
    ['JSESSIONID', []],
    ['JSESSIONID; a=b', []],
    ['a=JSESSIONID=b', []],
    ['a=JSESSIONID; b="x JSESSIONID=c"', []],
    ['jsessionid=a; Jsessionid=b', []],
    ['XJSESSIONID=a; X-JSESSIONID=b', []],
  ])('%j holds %j', (header, values) => {
    expect(cookieCodec.read(header, NAME)).toEqual(values)
  })

  test('finds all values of a doubled cookie, in order', () => {
    const header = 'JSESSIONID=a; x=1; JSESSIONID=b;JSESSIONID=; JSESSIONID=a'
    expect(cookieCodec.read(header, NAME)).toEqual(['a', 'b', '', 'a'])
  })

  test('takes a name that only begins like it for another cookie (GH174)', () => {
    const header = 'JSESSIONID_LAST_REQUEST=133; JSESSIONID2=x; JSESSIONID-n=y; JSESSIONIDJSESSIONID=z'
    expect(cookieCodec.read(header, NAME)).toEqual([])
    expect(cookieCodec.read(`${header}; JSESSIONID=a`, NAME)).toEqual(['a'])
  })

  test.each(['%', '%zz', '%E0%A4%A', 'a%ff', '%u0041'])('gives %s as it stands, as it can not be decoded', (value) => {
    expect(cookieCodec.read(`JSESSIONID=${value}`, NAME)).toEqual([value])
  })

  test.each(['__proto__', 'constructor', 'toString', 'a.b', '$x', ''])('finds nothing under the name %j', (name) => {
    expect(cookieCodec.read('JSESSIONID=a; b=c', name)).toEqual([])
  })

  test.each(['__proto__', 'constructor', '__Host-id'])('finds a cookie named %s', (name) => {
    expect(cookieCodec.read(`a=1; ${name}=x`, name)).toEqual(['x'])
  })

  test('never throws, and finds what splitting the whole header finds', () => {
    const piece = fc.constantFrom(
      NAME,
      'JSESSIONID_',
      'x',
      '=',
      ';',
      ' ',
      '\t',
      ',',
      '"',
      '%',
      '%41',
      'a',
      'ü',
      '\0',
      '\n',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
          fc.string(),
        ),
        (header) => {
          expect(cookieCodec.read(header, NAME)).toEqual(valuesBySplitting(header))
        },
      ),
      { numRuns: 5000 },
    )
  })

  test('takes time in proportion to the header, also for headers made to be slow', () => {
    const evil = [
      ' '.repeat(1_000_000),
      `${' '.repeat(1000)}JSESSIONID`.repeat(1000),
      'JSESSIONID'.repeat(100_000),
      'JSESSIONID=;'.repeat(80_000),
      `JSESSIONID${' '.repeat(1_000_000)}x`,
      `JSESSIONID=${'%'.repeat(1_000_000)}`,
    ]
    const started = performance.now()
    for (const header of evil) cookieCodec.read(header, NAME)
    expect(performance.now() - started).toBeLessThan(2000)
  })
})

describe('writing a cookie', () => {
  const id = 'E8C1A3B5D7F90213465768798A9BACBD-n1.t1'

  test('sets nothing but name and value without attributes', () => {
    expect(cookieCodec.write(NAME, id, {})).toBe(`JSESSIONID=${id}`)
  })

  test('writes every attribute', () => {
    const cookie = cookieCodec.write(NAME, id, {
      path: '/app',
      domain: 'example.com',
      httpOnly: true,
      secure: true,
      sameSite: 'none',
      partitioned: true,
      priority: 'high',
      maxAge: 3600,
      expires: new Date(0),
    })
    expect(new Set(cookie.split('; '))).toEqual(
      new Set([
        `JSESSIONID=${id}`,
        'Path=/app',
        'Domain=example.com',
        'HttpOnly',
        'Secure',
        'SameSite=None',
        'Partitioned',
        'Priority=High',
        'Max-Age=3600',
        'Expires=Thu, 01 Jan 1970 00:00:00 GMT',
      ]),
    )
  })

  test.each([
    ['strict', 'SameSite=Strict'],
    ['lax', 'SameSite=Lax'],
  ] as const)('writes sameSite %s', (sameSite, text) => {
    expect(cookieCodec.write(NAME, id, { sameSite })).toBe(`JSESSIONID=${id}; ${text}`)
  })

  test('leaves out what is false or undefined', () => {
    const attributes = { httpOnly: false, secure: false, partitioned: false, path: undefined, domain: undefined }
    expect(cookieCodec.write(NAME, id, attributes as object)).toBe(`JSESSIONID=${id}`)
  })

  test('encodes a value that can not stand in a header, and reads it back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        const cookie = cookieCodec.write(NAME, value, {})
        expect(cookie).toMatch(/^[\x21-\x7e]+$/)
        expect(cookieCodec.read(cookie, NAME)).toEqual([value])
      }),
    )
  })

  test.each(['', 'a b', 'a=b', 'a;b', 'a\r\nSet-Cookie: x', 'ü', 'a\0'])('refuses the name %j', (name) => {
    expect(() => cookieCodec.write(name, id, {})).toThrow(TypeError)
  })

  test.each([
    { path: '/a;b' },
    { path: '/\r\nX: y' },
    { domain: 'a b' },
    { domain: 'example.com; x' },
    { domain: '-a.com' },
    { maxAge: 1.5 },
    { maxAge: Number.NaN },
    { expires: new Date(Number.NaN) },
    { sameSite: 'x' as 'lax' },
    { priority: 'x' as 'low' },
  ])('refuses %j', (attributes) => {
    expect(() => cookieCodec.write(NAME, id, attributes)).toThrow(TypeError)
  })
})

function valuesBySplitting(header: string): string[] {
  const trim = (text: string): string => text.replace(/^[ \t]+|[ \t]+$/g, '')
  const values: string[] = []
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=')
    if (equals === -1 || trim(pair.slice(0, equals)) !== NAME) continue
    const raw = trim(pair.slice(equals + 1))
    try {
      values.push(decodeURIComponent(raw))
    } catch {
      values.push(raw)
    }
  }
  return values
}
