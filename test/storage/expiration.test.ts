import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { sessionExpiration, stickyExpiration, validityExpiration } from '../../lib/storage/expiration.ts'

const YEAR = 31_536_000
const LAST_SECOND = 2 ** 31 - 1

describe('how long a session is stored', () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: Date.UTC(2024, 0, 1) })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('sticky: for what is left of its idle time, and one sweep', () => {
    expect(stickyExpiration({ maxInactiveInterval: 1800, idleSeconds: 0, sweepSeconds: 60 })).toBe(1860)
    expect(stickyExpiration({ maxInactiveInterval: 1800, idleSeconds: 600, sweepSeconds: 60 })).toBe(1260)
  })

  test('sticky: a second at least, when it is about to expire or has expired', () => {
    expect(stickyExpiration({ maxInactiveInterval: 10, idleSeconds: 11, sweepSeconds: 1 })).toBe(1)
    expect(stickyExpiration({ maxInactiveInterval: 10, idleSeconds: 500, sweepSeconds: 1 })).toBe(1)
  })

  test('sticky: in whole seconds, rounded up', () => {
    expect(stickyExpiration({ maxInactiveInterval: 10, idleSeconds: 0.4, sweepSeconds: 1 })).toBe(11)
  })

  test('sticky: not longer because a clock ran back', () => {
    expect(stickyExpiration({ maxInactiveInterval: 10, idleSeconds: -3600, sweepSeconds: 1 })).toBe(11)
  })

  test('non-sticky: twice its idle time, its validity info once', () => {
    expect(sessionExpiration(1800)).toBe(3600)
    expect(validityExpiration(1800)).toBe(1800)
  })

  test.each([0, -1, -1800])('for ever with maxInactiveInterval %i', (maxInactiveInterval) => {
    expect(stickyExpiration({ maxInactiveInterval, idleSeconds: 5, sweepSeconds: 60 })).toBe(0)
    expect(sessionExpiration(maxInactiveInterval)).toBe(0)
    expect(validityExpiration(maxInactiveInterval)).toBe(0)
  })

  test('over thirty days as it is, if that ends before an int32 of epoch seconds does', () => {
    expect(sessionExpiration(1_296_001)).toBe(2_592_002)
  })

  test('not beyond what an int32 of epoch seconds can hold (GH402)', () => {
    const most = LAST_SECOND - Date.now() / 1000
    expect(sessionExpiration(10 * YEAR)).toBe(most)
    expect(validityExpiration(LAST_SECOND)).toBe(most)
    expect(stickyExpiration({ maxInactiveInterval: LAST_SECOND, idleSeconds: 0, sweepSeconds: 60 })).toBe(most)
  })

  test('for up to thirty days still, once epoch seconds have outgrown an int32', () => {
    vi.setSystemTime(Date.UTC(2039, 0, 1))
    expect(sessionExpiration(1800)).toBe(3600)
    expect(sessionExpiration(10 * YEAR)).toBe(2_592_000)
  })
})
