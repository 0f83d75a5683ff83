import { describe, expect, test } from 'vitest'
import { jsonTranscoder } from '../../../adapters/transcoder/json.ts'
import { expectUndecodable, expectUnencodable, transcoderContract } from '../../contract/transcoder.ts'

transcoderContract('json', jsonTranscoder, { supports: [] })

describe('the json transcoder', () => {
  const transcoder = jsonTranscoder()

  test('writes what JSON.stringify writes', () => {
    const value = { user: { id: 1, name: 'alice' }, at: new Date(0), map: new Map([['a', 1]]), gone: undefined }
    expect(transcoder.encode(value).toString()).toBe(JSON.stringify(value))
  })

  test('gives a Date back as a string', () => {
    expect(transcoder.decode(transcoder.encode({ at: new Date(0) }))).toEqual({ at: '1970-01-01T00:00:00.000Z' })
  })

  test.each(['[]', 'null', '"text"', '17', 'true', '', ' ', '{', '{"a":1,}', '{"a":NaN}', "{'a':1}"])(
    'refuses %s',
    (text) => {
      expectUndecodable(transcoder, Buffer.from(text))
    },
  )

  test('does not repeat the stored text in an error', () => {
    const error = expectUndecodable(transcoder, Buffer.from('{"password": "hunter2", oops'))
    expect(error.message).not.toMatch(/hunter2|password|oops/)
    expect(error.cause).toBeUndefined()
  })

  test('drops forbidden keys that are written with escapes', () => {
    const text = '{"a":{"\\u005f_proto__":{"isAdmin":true},"c\\u006fnstructor":1,"x":1}}'
    const decoded = transcoder.decode(Buffer.from(text))
    expect(Object.getOwnPropertyNames(decoded.a)).toEqual(['x'])
  })

  test('reads and writes just as many levels as maxDepth says', () => {
    const shallow = jsonTranscoder({ maxDepth: 3 })
    expect(shallow.decode(shallow.encode({ a: [{ b: [1] }] }))).toEqual({ a: [{ b: [1] }] })
    expectUnencodable(shallow, { ok: [[]], a: [{ b: [{}] }] }, 'a')
    expectUndecodable(shallow, Buffer.from('{"a":[{"b":[{}]}]}'))
    const brackets = { a: '[[[[[[{{{{{{', b: '"[[[[[[\\', c: '[[[[[[', d: [[[1]]] }
    expect(shallow.decode(shallow.encode(brackets))).toEqual(brackets)
  })

  test('refuses a hundred thousand levels without running out of stack', () => {
    expectUndecodable(transcoder, Buffer.from(`{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`))
  })

  test('reads and writes just as many bytes as maxBytes says', () => {
    const small = jsonTranscoder({ maxBytes: 20 })
    expect(small.encode({ a: 'x'.repeat(12) })).toHaveLength(20)
    expect(() => small.encode({ a: 'x'.repeat(13) })).toThrow(
      expect.objectContaining({
        code: 'ERR_MSM_INVALID_ITEM',
        message: expect.stringMatching(/21 bytes.*maxBytes.*20/),
      }),
    )
    expectUndecodable(small, transcoder.encode({ a: 'x'.repeat(13) }))
  })

  test('refuses an attribute named toJSON that would take the place of all', () => {
    expectUnencodable(transcoder, { user: 1, toJSON: () => ({}) }, 'toJSON')
  })

  test.each([
    [{ maxBytes: 0 }, 'maxBytes: 0'],
    [{ maxBytes: 1.5 }, 'maxBytes: 1.5'],
    [{ maxDepth: 1001 }, 'maxDepth: 1001'],
    [{ maxDepth: '5' as unknown as number }, 'maxDepth: 5'],
  ])('refuses the options %j', (options, message) => {
    expect(() => jsonTranscoder(options)).toThrow(TypeError)
    expect(() => jsonTranscoder(options)).toThrow(message)
  })
})
