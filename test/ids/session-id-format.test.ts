import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  changeJvmRoute,
  createNewSessionId,
  createSessionId,
  extractBase,
  extractJvmRoute,
  extractNodeId,
  isJvmRoute,
  isNodeId,
  isValidWithNodeId,
  SessionIdFormat,
} from '../../lib/ids/session-id-format.ts'

const HEX = '2A19B1EB6D9649C9FED3E7277FDFD470'

describe('any session id', () => {
  test.each([
    ['foo', 'n', 'foo-n'],
    ['foo.jvm1', 'n', 'foo-n.jvm1'],
    ['foo.j-v-m1', 'n', 'foo-n.j-v-m1'],
    ['foo.a.b', 'n', 'foo-n.a.b'],
    ['foo.jvm1', undefined, 'foo.jvm1'],
  ])('%s on node %s becomes %s (testCreateSessionId)', (id, nodeId, expected) => {
    expect(createSessionId(id, nodeId)).toBe(expected)
  })

  test.each([
    ['foo', 'n', 'foo-n'],
    ['foo-n', 'm', 'foo-m'],
    ['foo-n.jvm1', 'm', 'foo-m.jvm1'],
    ['foo.jvm1', 'm', 'foo-m.jvm1'],
    ['foo.j-v-m1', 'm', 'foo-m.j-v-m1'],
    ['foo-n.a.b-c', 'm', 'foo-m.a.b-c'],
  ])('%s moved to node %s becomes %s (testCreateNewSessionId)', (id, nodeId, expected) => {
    expect(createNewSessionId(id, nodeId)).toBe(expected)
  })

  test.each([
    ['foo-n', 'n'],
    ['foo-n.jvm1', 'n'],
    ['foo-n.j-v-m1', 'n'],
    ['foo-n.a.b-c', 'n'],
    ['foo.j-v-m1', undefined],
    ['foo', undefined],
    ['foo-', undefined],
    ['-n', undefined],
    ['.x-n', undefined],
    ['', undefined],
    ['foo-n 1', undefined],
    ['550e8400-e29b-41d4-a716-446655440000-n2', 'n2'],
  ])('the node id of %j is %s (testExtractMemcachedId)', (id, expected) => {
    expect(extractNodeId(id)).toBe(expected)
  })

  test.each([
    ['foo', undefined],
    ['foo-n', undefined],
    ['foo.', undefined],
    ['foo.jvm1', 'jvm1'],
    ['foo-n.j-v.m1', 'j-v.m1'],
  ])('the route of %s is %s', (id, expected) => {
    expect(extractJvmRoute(id)).toBe(expected)
  })

  test.each([
    ['foo-n.jvm1', 'tc2', 'foo-n.tc2'],
    ['foo', 'tc2', 'foo.tc2'],
    ['foo-n.a.b-c', 'tc2', 'foo-n.tc2'],
    ['foo-n.jvm1', undefined, 'foo-n'],
    ['foo', undefined, 'foo'],
  ])('%s taken over by route %s becomes %s', (id, route, expected) => {
    expect(changeJvmRoute(id, route)).toBe(expected)
  })

  test.each(['foo', 'foo.jvm1-n', 'foo.n.jvm1', 'foo.n.j-v-m1', 'foo-n.', ''])(
    '%j names no node (testIsValid)',
    (id) => {
      expect(isValidWithNodeId(id)).toBe(false)
    },
  )

  test.each(['foo-n', 'foo-n.jvm1', 'foo-n.j-v-m1', 'foo-n.a.b'])('%s names a node (testIsValid)', (id) => {
    expect(isValidWithNodeId(id)).toBe(true)
  })

  test('loses node id and route, and nothing else, for its base', () => {
    expect(['foo', 'foo-n', 'foo-n.a-b', 'foo.a-b', 'a-b-n'].map(extractBase)).toEqual([
      'foo',
      'foo',
      'foo',
      'foo',
      'a-b',
    ])
  })
})

test('node ids are word characters, routes may hold dots and dashes too', () => {
  expect(['n1', 'N_1', 'x'.repeat(64)].every(isNodeId)).toBe(true)
  expect(['', 'n-1', 'n.1', 'ñ', 'n1\n', 'x'.repeat(65)].some(isNodeId)).toBe(false)
  expect(['t1', 'a.b-c_d', 'x'.repeat(64)].every(isJvmRoute)).toBe(true)
  expect(['', 'a b', 'a;b', 'a/b', 't1\n', 'x'.repeat(65)].some(isJvmRoute)).toBe(false)
})

describe('a session id format', () => {
  test('makes ids of 32 upper-case hex digits, node id and route', () => {
    const format = new SessionIdFormat({ jvmRoute: 't1' })
    expect(format.generate('m1')).toMatch(/^[0-9A-F]{32}-m1\.t1$/)
    expect(format.generate()).toMatch(/^[0-9A-F]{32}\.t1$/)
    expect(new SessionIdFormat().generate('m1')).toMatch(/^[0-9A-F]{32}-m1$/)
    expect(new SessionIdFormat({ sessionIdLength: 20 }).generate()).toMatch(/^[0-9A-F]{40}$/)
  })

  test('never makes the same id twice, across refills of its random bytes', () => {
    const format = new SessionIdFormat()
    const ids = Array.from({ length: 2000 }, () => format.generate())
    expect(new Set(ids).size).toBe(2000)
    const digits = new Set(ids.flatMap((id) => [id[0], id[31]]))
    expect(digits.size).toBe(16)
  })

  test('reads back what it made', () => {
    const format = new SessionIdFormat({ sessionIdLength: 16, jvmRoute: 't-1.a' })
    const id = format.generate('n1')
    const parts = format.parse(id)
    expect(parts).toEqual({ id, base: id.slice(0, 32), nodeId: 'n1', jvmRoute: 't-1.a' })
    expect(format.format(parts!)).toBe(id)
    expect(format.join(HEX, undefined, 't2')).toBe(`${HEX}.t2`)
  })

  test.each([
    [HEX, undefined, undefined],
    [`${HEX}-n2`, 'n2', undefined],
    [`${HEX}.Tomcat1`, undefined, 'Tomcat1'],
    [`${HEX}-n2.Tomcat1`, 'n2', 'Tomcat1'],
    [`${HEX}-n2.a.b-c`, 'n2', 'a.b-c'],
    [`${HEX}.a-n1`, undefined, 'a-n1'],
  ])('takes %s from a client', (id, nodeId, jvmRoute) => {
    expect(new SessionIdFormat().parse(id)).toEqual({ id, base: HEX, nodeId, jvmRoute })
  })

  test.each([
    ['nothing', ''],
    ['a short base', HEX.slice(1)],
    ['a long base', `${HEX}0`],
    ['lower case', HEX.toLowerCase()],
    ['other letters', `G${HEX.slice(1)}`],
    ['a leading space', ` ${HEX}`],
    ['a trailing line feed', `${HEX}\n`],
    ['a trailing NUL', `${HEX}\0`],
    ['a line feed in the node id', `${HEX}-n\n1`],
    ['CR and LF with a command', `${HEX}-n1\r\nflush_all`],
    ['an empty node id', `${HEX}-`],
    ['an empty node id before a route', `${HEX}-.t1`],
    ['an empty route', `${HEX}-n1.`],
    ['two node ids', `${HEX}-n1-n2`],
    ['a slash in the route', `${HEX}.a/b`],
    ['a non-ASCII node id', `${HEX}-ñ`],
    ['full-width digits', `${HEX.slice(0, 31)}０`],
    ['a node id of 65 characters', `${HEX}-${'n'.repeat(65)}`],
    ['a route of 65 characters', `${HEX}.${'t'.repeat(65)}`],
    ['a lock key', `lock:${HEX}`],
    ['a backup key', `bak:${HEX}-n1`],
    ['an escaped character', `%41${HEX.slice(1)}`],
    ['a megabyte', HEX.repeat(32_768)],
  ])('refuses an id with %s', (_, id) => {
    expect(new SessionIdFormat().parse(id)).toBeUndefined()
  })

  test('refuses an id that is longer than a key may be', () => {
    const id = `${HEX}-n1.${'t'.repeat(64)}`
    expect(new SessionIdFormat({ maxSessionIdLength: id.length }).parse(id)).toBeDefined()
    expect(new SessionIdFormat({ maxSessionIdLength: id.length - 1 }).parse(id)).toBeUndefined()
  })

  test('takes any string from a client without throwing, and only printable ASCII as an id', () => {
    const format = new SessionIdFormat()
    const tail = fc.string({ unit: fc.constantFrom('-', '.', 'n', '1', '_', ' ', '\n', 'é', '/') })
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          tail.map((end) => HEX + end),
        ),
        (id) => {
          const parts = format.parse(id)
          if (parts === undefined) return
          expect(format.format(parts)).toBe(id)
          expect(id).toMatch(/^[\w.-]+$/)
          expect(extractNodeId(id)).toBe(parts.nodeId)
          expect(extractJvmRoute(id)).toBe(parts.jvmRoute)
        },
      ),
      { numRuns: 3000 },
    )
  })

  test('refuses a length and a route that no id can have', () => {
    expect(() => new SessionIdFormat({ sessionIdLength: 0 })).toThrow(TypeError)
    expect(() => new SessionIdFormat({ sessionIdLength: 1.5 })).toThrow(/sessionIdLength: 1.5/)
    expect(() => new SessionIdFormat({ jvmRoute: 'a b' })).toThrow(/jvmRoute: "a b"/)
    expect(() => new SessionIdFormat({ jvmRoute: '' })).toThrow(TypeError)
  })
})
