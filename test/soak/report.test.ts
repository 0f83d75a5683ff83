import { expect, it } from 'vitest'
import { heapSlope } from './report.ts'

const SECOND = 1000
const reports = (heap: (second: number) => number) =>
  Array.from({ length: 61 }, (_, i) => ({ at: 1e12 + i * 5 * SECOND, heapUsed: heap(i * 5) }))

it('tells a heap that grows from one that goes up and down', () => {
  const growing = heapSlope(reports((second) => 30e6 + (second / 3600) * 12e6))!
  expect(growing.mbPerHour).toBeCloseTo(12)
  expect(growing.uncertainty).toBeCloseTo(0)
  const noisy = heapSlope(reports((second) => 30e6 + (second % 2) * 1e6))!
  expect(Math.abs(noisy.mbPerHour)).toBeLessThan(noisy.uncertainty)
})

it('says nothing of too few reports', () => {
  expect(heapSlope(reports(() => 1).slice(0, 2))).toBeUndefined()
})
