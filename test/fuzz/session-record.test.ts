import fc from 'fast-check'
import { describe, expect } from 'vitest'
import {
  decodeSessionRecord,
  encodeSessionRecord,
  lastBackupTimeOf,
  type SessionRecord,
} from '../../lib/records/session-record.ts'
import { decodeValidityInfo, encodeValidityInfo, isSessionAlive } from '../../lib/records/validity-info.ts'
import { anyBytes, mutated, orCode, pool } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array))
const record: fc.Arbitrary<SessionRecord> = fc
  .record({
    version: fc.constantFrom(1, 2),
    creationTime: fc.maxSafeInteger(),
    lastAccessedTime: fc.maxSafeInteger(),
    maxInactiveInterval: fc.integer(),
    isNew: fc.boolean(),
    isValid: fc.boolean(),
    thisAccessedTime: fc.maxSafeInteger(),
    lastBackupTime: fc.maxSafeInteger(),
    id: fc.string({ unit: 'grapheme', maxLength: 60 }),
    authType: fc.integer({ min: -32_768, max: 32_767 }),
    principal: bytes,
    savedRequest: bytes,
    savedPrincipal: bytes,
    attributes: bytes,
  })
  .map((fields) =>
    fields.version === 1 ? { ...fields, savedRequest: Buffer.alloc(0), savedPrincipal: Buffer.alloc(0) } : fields,
  )

function checkRecord(stored: Buffer): boolean {
  lastBackupTimeOf(stored)
  const decoded = orCode(() => decodeSessionRecord(stored), 'ERR_MSM_INVALID_RECORD')
  if (!decoded) return true
  // An id that is no UTF-8 is no id, and is not written again as it was.
  return decoded.id.includes('\ufffd') || encodeSessionRecord(decoded).equals(stored)
}

describe('a session record', () => {
  fuzz(
    'brings back all fields',
    fc.property(record, (fields) => {
      expect(decodeSessionRecord(encodeSessionRecord(fields))).toEqual(fields)
    }),
    5,
  )
  fuzz(
    'that was mutated is refused, or is the record of exactly these bytes',
    fc.property(mutated(pool(record.map(encodeSessionRecord))), checkRecord),
  )
  fuzz('of any bytes is refused, or is the record of exactly these bytes', fc.property(anyBytes, checkRecord))
})

const info = fc.record({
  maxInactiveInterval: fc.integer(),
  lastAccessedTime: fc.maxSafeInteger(),
  thisAccessedTime: fc.maxSafeInteger(),
})

function checkValidityInfo(stored: Buffer): boolean {
  const decoded = orCode(() => decodeValidityInfo(stored), 'ERR_MSM_INVALID_RECORD')
  if (!decoded) return true
  return typeof isSessionAlive(decoded, 0) === 'boolean' && encodeValidityInfo(decoded).equals(stored)
}

describe('a validity info', () => {
  fuzz(
    'brings back all fields',
    fc.property(info, (fields) => {
      expect(decodeValidityInfo(encodeValidityInfo(fields))).toEqual(fields)
    }),
  )
  fuzz(
    'that was mutated is refused, or is that of exactly these bytes',
    fc.property(mutated(pool(info.map(encodeValidityInfo))), checkValidityInfo),
  )
  fuzz(
    'of any 20 bytes is refused, or is that of exactly these bytes',
    fc.property(
      fc.uint8Array({ minLength: 20, maxLength: 20 }).map((array) => Buffer.from(array)),
      checkValidityInfo,
    ),
  )
})
