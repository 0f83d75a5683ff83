import { describe, expect, test } from 'vitest'
import { extractNodeId } from '../../lib/ids/session-id-format.ts'
import { parseStorageKeyPrefix, StorageKeyFormat } from '../../lib/ids/storage-key-format.ts'
import vectors from '../fixtures/msm-records.json' with { type: 'json' }

const values = { host: 'hst', context: 'ctxt', webappVersion: '001' }

function keyOf(config: string | null | undefined, given: Parameters<typeof parseStorageKeyPrefix>[1] = values): string {
  return new StorageKeyFormat(parseStorageKeyPrefix(config, given)).session('foo')
}

describe('the storage key prefix (StorageKeyFormatTest)', () => {
  test.each([
    [null, 'foo'],
    [undefined, 'foo'],
    ['', 'foo'],
    [' ', 'foo'],
    ['static:x', 'x_foo'],
    ['static:a:b-c.d', 'a:b-c.d_foo'],
    ['host', 'hst_foo'],
    ['host.hash', 'e93c085e_foo'],
    ['context', 'ctxt_foo'],
    ['context.hash', '45e6345f_foo'],
    ['webappVersion', '001_foo'],
    ['host,context', 'hst:ctxt_foo'],
    [' host , context ', 'hst:ctxt_foo'],
    ['host.hash,context.hash,webappVersion', 'e93c085e:45e6345f:001_foo'],
  ])('%j gives %s', (config, key) => {
    expect(keyOf(config)).toBe(key)
  })

  test('leaves out parts that have no value', () => {
    expect(keyOf('context', { context: '' })).toBe('foo')
    expect(keyOf('context', {})).toBe('foo')
    expect(keyOf('webappVersion', { webappVersion: '' })).toBe('foo')
    expect(keyOf('webappVersion', {})).toBe('foo')
    expect(keyOf('host,context', { host: 'hst', context: '' })).toBe('hst_foo')
    expect(keyOf('host,webappVersion,context', { host: 'hst', context: 'ctxt' })).toBe('hst:ctxt_foo')
  })

  test('hashes the root context like any other, as the original does', () => {
    expect(keyOf('context.hash', { context: '' })).toBe('e3b0c442_foo')
  })

  test.each(['hosts', 'static:', 'static', 'HOST', 'host,,context', 'host;context', ','])('refuses %j', (config) => {
    expect(() => keyOf(config)).toThrow(TypeError)
    expect(() => keyOf(config)).toThrow(`storageKeyPrefix: ${JSON.stringify(config)} is not valid`)
    expect(() => keyOf(config)).toThrow(/'static:<text>', 'host'/)
  })

  test.each(['static:lock:', 'static:bak:x', 'static:validity:', 'static:lock,static:x', 'static:bak,host'])(
    'refuses %j, which begins with a reserved word',
    (config) => {
      expect(() => keyOf(config)).toThrow(/reserved/)
    },
  )

  test('takes a reserved word where it can be mistaken for nothing', () => {
    expect(keyOf('static:lock')).toBe('lock_foo')
    expect(keyOf('host,static:lock:')).toBe('hst:lock:_foo')
  })

  test.each(['a b', 'a\tb', 'a\nb', 'a\0b', 'ä', 'a\x7f'])('refuses the value %j, which no key can hold', (context) => {
    expect(() => keyOf('context', { context })).toThrow(/printable ASCII/)
  })
})

describe('the keys of a session', () => {
  test.each(vectors.keys)(
    'are those of the original for $storageKeyPrefix, context $context, version $webappVersion, id $sessionId',
    (vector) => {
      const prefix = parseStorageKeyPrefix(vector.storageKeyPrefix, {
        host: vector.host,
        context: vector.context,
        webappVersion: vector.webappVersion ?? undefined,
      })
      const format = new StorageKeyFormat(prefix)
      const id = vector.sessionId
      expect(format.session(id)).toBe(vector.session)
      expect(format.lock(id)).toBe(vector.lock)
      expect(format.validity(id)).toBe(vector.validity)
      expect(format.backup(id)).toBe(vector.backup)
      expect(format.validityBackup(id)).toBe(vector.validityBackup)
    },
  )

  test('come from an id whose node is known, however many dashes and dots the prefix holds (GH350)', () => {
    const fooled = vectors.keys.filter(
      (vector) => extractNodeId(vector.sessionId) !== (vector.nodeIdExtractedFromSessionKey ?? undefined),
    )
    expect(fooled.length).toBeGreaterThan(0)
    for (const { sessionId } of vectors.keys)
      expect(extractNodeId(sessionId)).toBe(sessionId === 'foo' ? undefined : 'n1')
  })

  test('with host prefix localhost are those of SessionIdFormatTest', () => {
    const format = new StorageKeyFormat('localhost_')
    expect(format.backup('foo')).toBe('bak:localhost_foo')
    expect(format.isBackupKey('bak:localhost_foo')).toBe(true)
    expect(format.isBackupKey(format.validityBackup('foo'))).toBe(true)
    expect(format.isBackupKey('localhost_foo')).toBe(false)
    expect(format.lock('foo')).toBe('lock:localhost_foo')
    expect(format.validity('foo')).toBe('validity:localhost_foo')
  })

  test('without prefix and node id still allow a lock (testSessionIdFormatForSingleNodeSetupShouldSupportLocking)', () => {
    expect(new StorageKeyFormat('').lock('12345678')).toBe('lock:12345678')
  })

  test('are all within 250 bytes for ids up to the longest that is allowed', () => {
    const format = new StorageKeyFormat('www.example.com:/my-app_')
    const id = 'x'.repeat(format.maxSessionIdLength)
    const keys = [
      format.session(id),
      format.lock(id),
      format.validity(id),
      format.backup(id),
      format.validityBackup(id),
    ]
    expect(Math.max(...keys.map((key) => Buffer.byteLength(key)))).toBe(250)
  })
})
