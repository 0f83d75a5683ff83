import type { ProcessReport } from './app.ts'
import { CALM, type Group } from './clients.ts'
import { FAULT_KINDS } from './faults.ts'
import type { SoakedProcess } from './soaked-process.ts'

/** A process that started less than this many milliseconds ago is not judged by its heap. */
const WARM_UP = 180_000
/** Reports a slope needs to be judged by: two minutes. */
const ENOUGH = 24
/** Sockets and timers more than before, with no load: a client that was not needed before may be connected now. */
const MORE_SOCKETS = 2
const MORE_TIMERS = 2

export interface Slope {
  readonly mbPerHour: number
  /** Two standard errors. */
  readonly uncertainty: number
  readonly reports: number
}

/** By least squares; undefined for too few reports. */
export function heapSlope(reports: readonly Pick<ProcessReport, 'at' | 'heapUsed'>[]): Slope | undefined {
  const count = reports.length
  if (count < 3) return undefined
  const hours = reports.map(({ at }) => (at - reports[0]!.at) / 3_600_000)
  const megabytes = reports.map(({ heapUsed }) => heapUsed / 1_000_000)
  const mean = (numbers: number[]): number => numbers.reduce((sum, number) => sum + number, 0) / count
  const [meanX, meanY] = [mean(hours), mean(megabytes)]
  const squares = hours.reduce((sum, x) => sum + (x - meanX) ** 2, 0)
  const products = hours.reduce((sum, x, i) => sum + (x - meanX) * (megabytes[i]! - meanY), 0)
  const slope = products / squares
  const rest = hours.reduce((sum, x, i) => sum + (megabytes[i]! - meanY - slope * (x - meanX)) ** 2, 0)
  const error = Math.sqrt(rest / (count - 2) / squares)
  return { mbPerHour: slope, uncertainty: 2 * error, reports: count }
}

/** Of the second half of the run, or of what there is since a process was restarted and is warm. */
function slopeOf(app: SoakedProcess, halfTime: number): Slope | undefined {
  const since = Math.max(halfTime, app.startedAt + WARM_UP)
  return heapSlope(app.reports.filter(({ at, isAsked }) => at >= since && !isAsked))
}

export interface Run {
  readonly groups: readonly Group[]
  /** How often each kind of fault struck. */
  readonly strikes: ReadonlyMap<string, number>
  readonly halfTime: number
  /** MB per hour. */
  readonly heapLimit: number
  /** What went wrong besides. */
  readonly problems: readonly string[]
}

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, number) => total + number, 0)
const table = (heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [heads, heads.map((_, i) => (i === 0 ? '---' : '---:')), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')

/** Tables in Markdown. */
export function describeRun({ groups, strikes, halfTime }: Run): string {
  const names = groups.map(({ name }) => name)
  const row = (what: string, figure: (group: Group) => string | number): (string | number)[] => [
    what,
    ...groups.map(figure),
  ]
  const counted = table(
    ['', ...names],
    [
      row('requests', ({ ledger }) => ledger.requests),
      row('acknowledged changes', ({ ledger }) => ledger.acknowledged),
      row('lost updates', ({ ledger }) => ledger.lostUpdates),
      row('the same of clients that send two requests at a time', ({ ledger }) => ledger.lostTogether),
      row('lost sessions', ({ ledger }) => ledger.lostSessions),
      row('foreign sessions', ({ ledger }) => ledger.foreignSessions),
      row('logouts', ({ ledger }) => ledger.logouts),
      row('sessions back after their logout', ({ ledger }) => ledger.revived),
      row('requests with made-up ids', ({ ledger }) => ledger.madeUp),
      row('made-up ids adopted', ({ ledger }) => ledger.adopted),
      row('requests not answered, their process being gone', ({ ledger }) => ledger.unanswered - ledger.hanging),
      row('requests that hung', ({ ledger }) => ledger.hanging),
      row('slowest answer, ms', ({ ledger }) => Math.round(ledger.slowest)),
      row('answers with an error', ({ ledger }) => sum(ledger.refused.values())),
      row('of these for made-up ids', ({ ledger }) => ledger.refusedMadeUp),
    ],
  )
  const refused = table(
    ['answers with an error, by fault', 'strikes', ...names],
    [CALM, ...FAULT_KINDS].map((kind) => [
      kind,
      strikes.get(kind) ?? '',
      ...groups.map(({ ledger }) => ledger.refused.get(kind) ?? 0),
    ]),
  )
  const processes = table(
    [
      ...['process', 'restarts', 'heap, MB', 'slope, MB/h', 'sockets before/after', 'timers before/after'],
      ...['handles before/after', 'event-loop delay p99, ms', 'max, ms'],
    ],
    groups.flatMap(({ apps }) =>
      apps.map((app) => {
        const { before, after } = app.idle
        const slope = slopeOf(app, halfTime)
        const both = (figure: 'sockets' | 'timers' | 'handles'): string =>
          `${before?.[figure] ?? '?'}/${after?.[figure] ?? '?'}`
        return [
          app.name,
          app.restarts,
          ((app.reports.at(-1)?.heapUsed ?? 0) / 1_000_000).toFixed(1),
          slope
            ? `${slope.mbPerHour.toFixed(1)} ± ${slope.uncertainty.toFixed(1)} of ${slope.reports} reports`
            : 'too short',
          ...[both('sockets'), both('timers'), both('handles')],
          ...[app.delayP99.toFixed(0), app.delayMax.toFixed(0)],
        ]
      }),
    ),
  )
  return [counted, refused, processes].join('\n\n')
}

/** Why the run has failed; none if it has not. */
export function reasons({ groups, halfTime, heapLimit, problems }: Run): string[] {
  const all = [...problems]
  for (const { name, ledger, apps } of groups) {
    const wrong = {
      'lost updates': ledger.lostUpdates,
      'lost updates of clients that send two requests at a time': ledger.lostTogether,
      'lost sessions': ledger.lostSessions,
      'foreign sessions': ledger.foreignSessions,
      'sessions back after their logout': ledger.revived,
      'made-up ids adopted': ledger.adopted,
      'requests that hung': ledger.hanging,
      'errors answered while no fault was in force': ledger.refused.get(CALM) ?? 0,
    }
    for (const [what, count] of Object.entries(wrong)) if (count > 0) all.push(`${name}: ${count} ${what}`)
    if (ledger.acknowledged === 0) all.push(`${name}: no change was acknowledged`)
    for (const app of apps) {
      all.push(...app.problems)
      const slope = slopeOf(app, halfTime)
      if (slope && slope.reports >= ENOUGH && slope.mbPerHour - slope.uncertainty > heapLimit) {
        all.push(`${app.name}: the heap grows by ${slope.mbPerHour.toFixed(1)} MB per hour`)
      }
      const { before, after } = app.idle
      if (!before || !after) continue
      if (after.sockets > before.sockets + MORE_SOCKETS) all.push(`${app.name}: ${after.sockets} sockets are left`)
      if (after.timers > before.timers + MORE_TIMERS) all.push(`${app.name}: ${after.timers} timers are left`)
    }
  }
  return all
}
