import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeValidityInfo, encodeValidityInfo, idleSeconds, isSessionAlive } from '../../lib/records/validity-info.ts'
import vectors from '../fixtures/msm-records.json' with { type: 'json' }

describe('validity info', () => {
  test('brings back what was encoded (SessionValidityInfoTest.testDecodeEncodedData)', () => {
    const info = { maxInactiveInterval: 23, lastAccessedTime: 42, thisAccessedTime: 4711 }
    expect(decodeValidityInfo(encodeValidityInfo(info))).toEqual(info)
  })

  test('brings back any values in range', () => {
    const info = fc.record({
      maxInactiveInterval: fc.integer(),
      lastAccessedTime: fc.maxSafeInteger(),
      thisAccessedTime: fc.maxSafeInteger(),
    })
    fc.assert(
      fc.property(info, (value) => {
        expect(decodeValidityInfo(encodeValidityInfo(value))).toEqual(value)
      }),
    )
  })

  test.each(vectors.validityInfo)('has the bytes that Tomcat wrote: $hex', ({ hex, ...info }) => {
    expect(decodeValidityInfo(Buffer.from(hex, 'hex'))).toEqual(info)
    expect(encodeValidityInfo(info).toString('hex')).toBe(hex)
  })

  test.each([0, 1, 19, 21, 40])('of %i bytes is refused', (length) => {
    expect(() => decodeValidityInfo(Buffer.alloc(length))).toThrow(
      expect.objectContaining({ code: 'ERR_MSM_INVALID_RECORD' }),
    )
  })

  test('with times that no number can hold is refused', () => {
    const bytes = Buffer.alloc(20)
    bytes.writeBigInt64BE(2n ** 53n, 12)
    expect(() => decodeValidityInfo(bytes)).toThrow(expect.objectContaining({ code: 'ERR_MSM_INVALID_RECORD' }))
  })

  test.each([
    { maxInactiveInterval: 2 ** 31, lastAccessedTime: 0, thisAccessedTime: 0 },
    { maxInactiveInterval: 1, lastAccessedTime: Number.NaN, thisAccessedTime: 0 },
    { maxInactiveInterval: 1, lastAccessedTime: 0, thisAccessedTime: 1.5 },
  ])('is not written with %o', (info) => {
    expect(() => encodeValidityInfo(info)).toThrow(expect.objectContaining({ code: 'ERR_MSM_INVALID_RECORD' }))
  })
})

describe('a session', () => {
  const thisAccessedTime = 1_000_000

  test.each([-1, 0])('with maxInactiveInterval %i lives for ever (negativeInactivityAlwaysValid)', (interval) => {
    expect(isSessionAlive({ maxInactiveInterval: interval, thisAccessedTime: 0 }, Number.MAX_SAFE_INTEGER)).toBe(true)
  })

  test('lives until it was idle for maxInactiveInterval, in whole seconds', () => {
    const info = { maxInactiveInterval: 10, thisAccessedTime }
    expect(isSessionAlive(info, thisAccessedTime)).toBe(true)
    expect(isSessionAlive(info, thisAccessedTime + 9_999)).toBe(true)
    expect(isSessionAlive(info, thisAccessedTime + 10_000)).toBe(false)
  })

  test('is not idle when the clock of another machine runs ahead', () => {
    expect(isSessionAlive({ maxInactiveInterval: 1, thisAccessedTime }, thisAccessedTime - 3_600_000)).toBe(true)
    expect(idleSeconds(thisAccessedTime, thisAccessedTime - 1)).toBe(0)
    expect(idleSeconds(thisAccessedTime, thisAccessedTime + 1_999)).toBe(1)
  })
})
