import { describe, expect, test } from 'vitest'
import { MSM_COUNTERS, MSM_PROBES, OWN_COUNTERS, Statistics } from '../lib/statistics.ts'

describe('statistics (StatisticsTest)', () => {
  test.each([...MSM_COUNTERS, ...OWN_COUNTERS])('%s counts from 0, and moves no other counter', (name) => {
    const statistics = new Statistics()
    const before = statistics.snapshot()
    expect(statistics.counter(name)).toBe(0)
    statistics.increment(name)
    expect(statistics.counter(name)).toBe(1)
    const changed = Object.entries(statistics.snapshot()).filter(
      ([key, value]) => typeof value === 'number' && value !== before[key as keyof typeof before],
    )
    expect(changed).toHaveLength(1)
    expect(changed[0]![0].toLowerCase().endsWith(name.toLowerCase())).toBe(true)
  })

  test('stay 0 while disabled, and count once enabled', () => {
    const statistics = new Statistics(false)
    statistics.increment('numRequestsWithSession')
    statistics.record('backup', 5)
    expect(statistics.snapshot()).toEqual(new Statistics().snapshot())
    statistics.enabled = true
    statistics.increment('numRequestsWithSession')
    statistics.record('backup', 5)
    expect(statistics.snapshot()).toMatchObject({
      msmStatNumRequestsWithSession: 1,
      msmStatBackupInfo: { count: 1, min: 5, avg: 5, max: 5 },
    })
  })

  test.each([
    [[], { count: 0, min: 0, max: 0, avg: 0 }],
    [[1], { count: 1, min: 1, max: 1, avg: 1 }],
    [[1, 1], { count: 2, min: 1, max: 1, avg: 1 }],
    [[1, 1, 4], { count: 3, min: 1, max: 4, avg: 2 }],
    [[1, 1, 4, 0], { count: 4, min: 0, max: 4, avg: 1.5 }],
  ])('a probe that was given %j', (values, expected) => {
    for (const name of MSM_PROBES) {
      const statistics = new Statistics()
      for (const value of values) statistics.record(name, value)
      expect(statistics.probe(name)).toEqual(expected)
      const touched = MSM_PROBES.filter((other) => statistics.probe(other).count > 0)
      expect(touched).toEqual(values.length > 0 ? [name] : [])
    }
  })

  test('have the names that MSM shows in JMX, and ours besides', () => {
    expect(Object.keys(new Statistics().snapshot())).toEqual([
      'msmStatNumBackupFailures',
      'msmStatNumTomcatFailover',
      'msmStatNumMemcachedFailover',
      'msmStatNumRequestsWithoutSession',
      'msmStatNumNoSessionAccess',
      'msmStatNumNoAttributesAccess',
      'msmStatNumNoSessionModification',
      'msmStatNumRequestsWithSession',
      'msmStatNumNonStickySessionsPingFailed',
      'msmStatNumNonStickySessionsReadOnlyRequest',
      'msmStatAttributesSerializationInfo',
      'msmStatEffectiveBackupInfo',
      'msmStatBackupInfo',
      'msmStatSessionsLoadedFromMemcachedInfo',
      'msmStatSessionsDeletedFromMemcachedInfo',
      'msmStatSessionDeserializationInfo',
      'msmStatCachedDataSizeInfo',
      'msmStatMemcachedUpdateInfo',
      'msmStatNonStickyAcquireLockInfo',
      'msmStatNonStickyAcquireLockFailureInfo',
      'msmStatNonStickyReleaseLockInfo',
      'msmStatNonStickyOnBackupWithoutLoadedSessionInfo',
      'msmStatNonStickyAfterBackupInfo',
      'msmStatNonStickyAfterLoadFromMemcachedInfo',
      'msmStatNonStickyAfterDeleteFromMemcachedInfo',
      ...OWN_COUNTERS,
    ])
  })

  test('give a snapshot that is frozen, and that later counting does not change', () => {
    const statistics = new Statistics()
    statistics.record('backup', 1)
    const snapshot = statistics.snapshot()
    statistics.record('backup', 3)
    statistics.increment('nodesDown')
    expect(snapshot.msmStatBackupInfo).toEqual({ count: 1, min: 1, avg: 1, max: 1 })
    expect(snapshot.nodesDown).toBe(0)
    expect(Object.isFrozen(snapshot) && Object.isFrozen(snapshot.msmStatBackupInfo)).toBe(true)
  })

  test('turn into JSON as they are', () => {
    const snapshot = new Statistics().snapshot()
    expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot)
  })
})
