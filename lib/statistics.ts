/** MSM's counters (StatisticsTest); in a snapshot `numBackupFailures` is `msmStatNumBackupFailures`. */
export const MSM_COUNTERS = [
  'numBackupFailures',
  'numTomcatFailover',
  'numMemcachedFailover',
  'numRequestsWithoutSession',
  'numNoSessionAccess',
  'numNoAttributesAccess',
  'numNoSessionModification',
  'numRequestsWithSession',
  'numNonStickySessionsPingFailed',
  'numNonStickySessionsReadOnlyRequest',
] as const

/** The counters MSM does not have; in a snapshot they keep their names. */
export const OWN_COUNTERS = [
  'sessionsCreated',
  'sessionsExpired',
  'sessionsPurged',
  'recordsRejected',
  'rejectedSessions',
  'storageOperations',
  'storageFailures',
  'storageTimeouts',
  'nodesDown',
  'nodesUp',
  'backupsCollapsed',
] as const

/** MSM's probes, in milliseconds (`cachedDataSize`: bytes); in a snapshot `backup` is `msmStatBackupInfo`. */
export const MSM_PROBES = [
  'attributesSerialization',
  'effectiveBackup',
  'backup',
  'sessionsLoadedFromMemcached',
  'sessionsDeletedFromMemcached',
  'sessionDeserialization',
  'cachedDataSize',
  'memcachedUpdate',
  'nonStickyAcquireLock',
  'nonStickyAcquireLockFailure',
  'nonStickyReleaseLock',
  'nonStickyOnBackupWithoutLoadedSession',
  'nonStickyAfterBackup',
  'nonStickyAfterLoadFromMemcached',
  'nonStickyAfterDeleteFromMemcached',
] as const

export type MsmCounter = (typeof MSM_COUNTERS)[number]
export type OwnCounter = (typeof OWN_COUNTERS)[number]
export type CounterName = MsmCounter | OwnCounter
export type ProbeName = (typeof MSM_PROBES)[number]

/** All 0 as long as nothing was recorded. */
export interface ProbeSnapshot {
  readonly count: number
  readonly min: number
  readonly avg: number
  readonly max: number
}

/** What {@link Statistics.snapshot} returns: numbers by MSM's names, and ours. */
export type StatisticsSnapshot = {
  readonly [N in MsmCounter as `msmStat${Capitalize<N>}`]: number
} & {
  readonly [N in ProbeName as `msmStat${Capitalize<N>}Info`]: ProbeSnapshot
} & {
  readonly [N in OwnCounter]: number
}

const COUNTERS: readonly CounterName[] = [...MSM_COUNTERS, ...OWN_COUNTERS]
/** The fields of a probe, which lie side by side in one array. */
const COUNT = 0
const SUM = 1
const MIN = 2
const MAX = 3
const FIELDS = 4

const COUNTER_INDEX = indexOf(COUNTERS)
const PROBE_INDEX = indexOf(MSM_PROBES)

/** Counts what a manager does. Numbers lie in typed arrays, so that counting on the request path allocates nothing. */
export class Statistics {
  /** False: nothing is counted, and what was counted stays. Can be changed at any time. */
  enabled: boolean
  readonly #counters = new Float64Array(COUNTERS.length)
  readonly #probes = new Float64Array(MSM_PROBES.length * FIELDS)

  constructor(enabled: boolean = true) {
    this.enabled = enabled
  }

  increment(name: CounterName): void {
    if (this.enabled) this.#counters[COUNTER_INDEX[name]]! += 1
  }

  /** Adds a value to a probe: milliseconds, or bytes for `cachedDataSize`. */
  record(name: ProbeName, value: number): void {
    if (!this.enabled) return
    const probes = this.#probes
    const at = PROBE_INDEX[name] * FIELDS
    const isFirst = probes[at + COUNT] === 0
    probes[at + COUNT]! += 1
    probes[at + SUM]! += value
    if (isFirst || value < probes[at + MIN]!) probes[at + MIN] = value
    if (isFirst || value > probes[at + MAX]!) probes[at + MAX] = value
  }

  counter(name: CounterName): number {
    return this.#counters[COUNTER_INDEX[name]]!
  }

  probe(name: ProbeName): ProbeSnapshot {
    const at = PROBE_INDEX[name] * FIELDS
    const probes = this.#probes
    const count = probes[at + COUNT]!
    const avg = count === 0 ? 0 : probes[at + SUM]! / count
    return Object.freeze({ count, min: probes[at + MIN]!, avg, max: probes[at + MAX]! })
  }

  /** Everything that was counted, as a frozen copy. */
  snapshot(): StatisticsSnapshot {
    const result: Record<string, number | ProbeSnapshot> = {}
    for (const name of MSM_COUNTERS) result[`msmStat${capitalize(name)}`] = this.counter(name)
    for (const name of MSM_PROBES) result[`msmStat${capitalize(name)}Info`] = this.probe(name)
    for (const name of OWN_COUNTERS) result[name] = this.counter(name)
    return Object.freeze(result) as StatisticsSnapshot
  }
}

function indexOf<N extends string>(names: readonly N[]): Record<N, number> {
  return Object.fromEntries(names.map((name, index) => [name, index])) as Record<N, number>
}

function capitalize(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1)
}
