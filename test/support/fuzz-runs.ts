import fc from 'fast-check'
import { test } from 'vitest'

/** Runs of each property; `MSM_FUZZ_RUNS=1000000` for a long search. */
export const FUZZ_RUNS: number = Number(process.env.MSM_FUZZ_RUNS ?? 2000)
const TIMEOUT = 30_000 + FUZZ_RUNS

/** A test of one property. One whose runs take long has a `cost`, and that many times fewer of them. */
export function fuzz<T>(name: string, property: fc.IAsyncProperty<T> | fc.IProperty<T>, cost = 1): void {
  test(name, () => fc.assert(property, { numRuns: Math.ceil(FUZZ_RUNS / cost) }), TIMEOUT)
}
