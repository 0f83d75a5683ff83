import { expect, test } from 'vitest'
import { hashSessionId } from '../../lib/ids/id-hash.ts'

test('is the first 8 hex digits of the SHA-256 of the base', () => {
  expect(hashSessionId('hst')).toBe('e93c085e')
  expect(hashSessionId('ctxt')).toBe('45e6345f')
})

test('stays the same when the session is relocated or taken over', () => {
  const hashes = ['hst', 'hst-n1', 'hst-n2', 'hst-n1.t1', 'hst.t-1.x'].map(hashSessionId)
  expect(new Set(hashes)).toEqual(new Set(['e93c085e']))
  expect(hashSessionId('other-n1')).not.toBe('e93c085e')
})
