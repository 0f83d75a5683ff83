import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SessionManagerError } from '../../lib/errors.ts'
import { decodeSessionRecord, encodeSessionRecord, type SessionRecord } from '../../lib/records/session-record.ts'
import vectors from '../fixtures/msm-records.json' with { type: 'json' }

const AUTH_TYPES: Record<string, number> = { BASIC: 1, CLIENT_CERT: 2, DIGEST: 3, FORM: 4 }

function recordOf(fields: Partial<SessionRecord> = {}): SessionRecord {
  return {
    version: 2,
    creationTime: 1_700_000_000_000,
    lastAccessedTime: 1_700_000_060_123,
    maxInactiveInterval: 1800,
    isNew: false,
    isValid: true,
    thisAccessedTime: 1_700_000_061_456,
    lastBackupTime: 1_700_000_062_789,
    id: 'E8C1A3B5D7F90213465768798A9BACBD-n1.tomcat1',
    authType: 0,
    principal: Buffer.alloc(0),
    savedRequest: Buffer.alloc(0),
    savedPrincipal: Buffer.alloc(0),
    attributes: Buffer.from('attributes'),
    ...fields,
  }
}

function expectInvalid(action: () => unknown): SessionManagerError {
  try {
    action()
  } catch (error) {
    expect(error).toBeInstanceOf(SessionManagerError)
    expect(error).toMatchObject({ code: 'ERR_MSM_INVALID_RECORD' })
    return error as SessionManagerError
  }
  throw new Error('expected ERR_MSM_INVALID_RECORD')
}

/** A valid record with some of its bytes replaced. */
function withBytes(...changes: [offset: number, hex: string][]): Buffer {
  const bytes = encodeSessionRecord(recordOf())
  for (const [offset, hex] of changes) bytes.write(hex, offset, 'hex')
  return bytes
}

describe('session records that Tomcat wrote', () => {
  test.each(vectors.sessions)('decode to their fields: $description', ({ fields, attributesHex, hex }) => {
    const record = decodeSessionRecord(Buffer.from(hex, 'hex'))
    expect(record).toMatchObject({
      version: fields.version,
      creationTime: fields.creationTime,
      lastAccessedTime: fields.lastAccessedTime,
      maxInactiveInterval: fields.maxInactiveInterval,
      isNew: fields.isNew,
      isValid: fields.isValid,
      thisAccessedTime: fields.thisAccessedTime,
      lastBackupTime: fields.lastBackupTime,
      id: fields.id,
      authType: fields.authType === null ? 0 : AUTH_TYPES[fields.authType],
    })
    expect(record.principal.length > 0).toBe(fields.principal !== null)
    expect(record.savedRequest.length > 0).toBe(fields.savedRequest)
    expect(record.savedPrincipal.length > 0).toBe(fields.savedPrincipal)
    expect(record.attributes.toString('hex')).toBe(attributesHex)
  })

  test.each(vectors.sessions)('encode to the same bytes again: $description', ({ hex }) => {
    expect(encodeSessionRecord(decodeSessionRecord(Buffer.from(hex, 'hex'))).toString('hex')).toBe(hex)
  })

  test('hold a principal, a saved request and a saved principal where the vectors say so', () => {
    const records = vectors.sessions.map(({ hex }) => decodeSessionRecord(Buffer.from(hex, 'hex')))
    expect(records.filter(({ principal }) => principal.includes('alice'))).toHaveLength(1)
    expect(records.filter(({ savedRequest }) => savedRequest.length > 0)).toHaveLength(1)
  })
})

describe('encoding and decoding a session record (TranscoderServiceTest)', () => {
  test('brings back every field', () => {
    const record = recordOf({
      isNew: true,
      isValid: false,
      authType: 4,
      principal: Buffer.from('principal'),
      savedRequest: Buffer.from('saved request'),
      savedPrincipal: Buffer.from('saved principal'),
    })
    expect(decodeSessionRecord(encodeSessionRecord(record))).toEqual(record)
  })

  test('brings back any field values in range', () => {
    const time = fc.maxSafeInteger()
    const bytes = fc.uint8Array({ maxLength: 50 }).map((array) => Buffer.from(array))
    const record = fc.record({
      version: fc.constant(2),
      creationTime: time,
      lastAccessedTime: time,
      maxInactiveInterval: fc.integer(),
      isNew: fc.boolean(),
      isValid: fc.boolean(),
      thisAccessedTime: time,
      lastBackupTime: time,
      id: fc.string({ unit: 'grapheme', maxLength: 60 }),
      authType: fc.integer({ min: -32_768, max: 32_767 }),
      principal: bytes,
      savedRequest: bytes,
      savedPrincipal: bytes,
      attributes: bytes,
    })
    fc.assert(
      fc.property(record, (value) => {
        expect(decodeSessionRecord(encodeSessionRecord(value))).toEqual(value)
      }),
    )
  })

  test('writes numbers as Java does', () => {
    const record = recordOf({ creationTime: -1, lastBackupTime: 2 ** 53 - 1, lastAccessedTime: -(2 ** 53 - 1) })
    const bytes = encodeSessionRecord(record)
    expect(bytes.readBigInt64BE(4)).toBe(-1n)
    expect(bytes.readBigInt64BE(12)).toBe(-(2n ** 53n - 1n))
    expect(bytes.readBigInt64BE(34)).toBe(2n ** 53n - 1n)
  })

  test('reads a session without attributes', () => {
    const record = recordOf({ attributes: Buffer.alloc(0) })
    expect(decodeSessionRecord(encodeSessionRecord(record)).attributes).toHaveLength(0)
  })

  test('reads a version 1 record, and leaves no attribute bytes when it has none (testVersionUpgrade)', () => {
    const v1 = vectors.sessions.find(({ fields }) => fields.version === 1)!
    const record = decodeSessionRecord(Buffer.from(v1.headerHex, 'hex'))
    expect(record.attributes).toHaveLength(0)
    const upgraded = encodeSessionRecord({ ...record, version: 2 })
    expect(upgraded).toHaveLength(v1.headerHex.length / 2 + 4)
    expect(decodeSessionRecord(upgraded)).toEqual({ ...record, version: 2 })
  })

  test('gives views on the bytes, without copying', () => {
    const bytes = encodeSessionRecord(recordOf({ principal: Buffer.from('p') }))
    const { attributes, principal } = decodeSessionRecord(bytes)
    expect(attributes.buffer).toBe(bytes.buffer)
    expect(principal.buffer).toBe(bytes.buffer)
  })
})

describe('a session record that is refused on reading', () => {
  test.each([0, 1, 3, 4])('has %i bytes', (length) => {
    expectInvalid(() => decodeSessionRecord(encodeSessionRecord(recordOf()).subarray(0, length)))
  })

  test('is cut off anywhere in its header', () => {
    const record = recordOf({
      principal: Buffer.from('principal'),
      savedRequest: Buffer.from('request'),
      savedPrincipal: Buffer.from('saved'),
      attributes: Buffer.alloc(0),
    })
    const bytes = encodeSessionRecord(record)
    for (let length = 0; length < bytes.length; length++) {
      const cut = Buffer.from(bytes.subarray(0, length))
      expectInvalid(() => decodeSessionRecord(cut))
      if (length < 4) continue
      cut.writeInt16BE(length, 2)
      expectInvalid(() => decodeSessionRecord(cut))
    }
  })

  const idLength = 42
  const authType = 44 + 43
  test.each<[string, ...[number, string][]]>([
    ['has version 0', [0, '0000']],
    ['has version 3', [0, '0003']],
    ['has version 258', [0, '0102']],
    ['has a negative version', [0, 'fffe']],
    ['has a header of 0 bytes', [2, '0000']],
    ['has a header longer than itself', [2, '7fff']],
    ['has a negative header length', [2, '8054']],
    ['has a header one byte too long', [2, '0060']],
    ['has a header one byte too short', [2, '005e']],
    ['has an id that goes past the header', [idLength, '0030']],
    ['has an id that goes past the record', [idLength, '7fff']],
    ['has a negative id length', [idLength, 'ffff']],
    ['has a principal that goes past the header', [authType + 2, '0001']],
    ['has a negative principal length', [authType + 2, 'fffe']],
    ['has lengths that add up because one is negative', [authType, '0004'], [authType + 2, 'fffc']],
    ['has a saved request that goes past the header', [authType + 4, '0010']],
    ['has a saved principal that goes past the header', [authType + 6, '0001']],
    ['is neither new nor not', [24, '00']],
    ['is neither valid nor invalid', [25, '32']],
    ['was created at a time no number can hold', [4, '7fffffffffffffff']],
    ['was backed up at a time no number can hold', [34, 'ffdfffffffffffff']],
  ])('%s', (_, ...changes) => {
    expectInvalid(() => decodeSessionRecord(withBytes(...changes)))
  })

  test('claims to be version 1 but has the header of version 2', () => {
    expectInvalid(() => decodeSessionRecord(withBytes([0, '0001'])))
  })

  test('tells nothing of what is in it', () => {
    const error = expectInvalid(() => decodeSessionRecord(withBytes([25, '32'])))
    expect(error.message).not.toMatch(/E8C1A3B5|attributes/)
  })

  test('or is read as a record that writes the same bytes again, whatever the bytes', () => {
    const valid = encodeSessionRecord(recordOf({ principal: Buffer.from('principal') }))
    const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255))
    const mutated = fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
      const bytes = Buffer.from(valid)
      for (const [offset, byte] of changes) bytes[offset] = byte
      return bytes
    })
    const random = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
    let refused = 0
    fc.assert(
      fc.property(fc.oneof(mutated, random), (bytes) => {
        let record: SessionRecord
        try {
          record = decodeSessionRecord(bytes)
        } catch (error) {
          refused++
          return (error as SessionManagerError).code === 'ERR_MSM_INVALID_RECORD'
        }
        // An id that is not UTF-8 is no id of ours, and is told by comparing it.
        return record.id.includes('\uFFFD') || encodeSessionRecord(record).equals(bytes)
      }),
      { numRuns: 5000 },
    )
    expect(refused).toBeGreaterThan(500)
  })
})

describe('a session record that is refused on writing', () => {
  test('has a header of more than 32,767 bytes', () => {
    const empty = encodeSessionRecord(recordOf({ attributes: Buffer.alloc(0) })).length
    const most = 32_767 - empty
    const bytes = encodeSessionRecord(recordOf({ principal: Buffer.alloc(most, 1) }))
    expect(decodeSessionRecord(bytes).principal).toHaveLength(most)
    expectInvalid(() => encodeSessionRecord(recordOf({ principal: Buffer.alloc(most + 1) })))
    expectInvalid(() => encodeSessionRecord(recordOf({ savedRequest: Buffer.alloc(70_000) })))
    expectInvalid(() => encodeSessionRecord(recordOf({ id: 'ü'.repeat(20_000) })))
  })

  test.each<[string, Partial<SessionRecord>]>([
    ['an unknown version', { version: 3 }],
    ['a saved request in version 1', { version: 1, savedRequest: Buffer.from('x') }],
    ['a saved principal in version 1', { version: 1, savedPrincipal: Buffer.from('x') }],
    ['an interval that is no int32', { maxInactiveInterval: 2 ** 31 }],
    ['an interval of half a second', { maxInactiveInterval: 0.5 }],
    ['an auth type that is no int16', { authType: 40_000 }],
    ['a time that is not a number', { thisAccessedTime: Number.NaN }],
    ['a time with a fraction', { lastAccessedTime: 0.5 }],
    ['a time without end', { creationTime: Number.POSITIVE_INFINITY }],
    ['a backup time out of range', { lastBackupTime: 2 ** 53 }],
  ])('has %s', (_, fields) => {
    expectInvalid(() => encodeSessionRecord(recordOf(fields)))
  })
})
