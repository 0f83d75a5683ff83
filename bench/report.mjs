// What the samples of a run say, as rows, as verdicts on the targets, and as Markdown.
import { IGNORED, IGNORED_LIMIT, targets } from './contenders.mjs'
import { median, spread } from './statistics.mjs'

/** Below this part of a core, it was not the server that limited the requests per second. */
const BUSY = 0.9

/**
 * One row for each contender and work. What is added is the difference to the bare framework in the same round, so that
 * drift of the machine is in neither.
 * @param samples a map from `name` and `work` to the samples of the rounds
 */
export function rowsOf(chosen, size, samples) {
  const rows = []
  for (const { name, bare } of chosen) {
    for (const work of ['none', 'read', 'write']) {
      const own = samples.get(`${name} ${work}`)
      const base = samples.get(`${bare} ${work}`)
      if (!own?.length || own.length !== base?.length) continue
      const of = (field) => median(own.map((sample) => sample[field]))
      const added = own.map((sample, i) => sample.us - base[i].us)
      const addedCpu = own.map((sample, i) => sample.cpu - base[i].cpu)
      rows.push({
        size,
        name,
        work,
        isBare: name === bare,
        ratio: median(own.map((sample, i) => base[i].us / sample.us)),
        added: median(added),
        addedSpread: spread(added),
        addedCpu: median(addedCpu),
        addedCpuSpread: spread(addedCpu),
        us: of('us'),
        p50: of('p50'),
        p99: of('p99'),
        cpu: of('cpu'),
        storeCpu: of('storeCpu'),
        busy: median(own.map((sample) => sample.cpu / sample.us)),
        rounds: { added, addedCpu },
      })
    }
  }
  return rows
}

/** How the targets were met, by time and, for a machine that others share, by processor time of the server. */
export function verdictsOf(rows, size) {
  const find = (name, work) => rows.find((row) => row.size === size && row.name === name && row.work === work)
  const verdicts = []
  for (const [work, ours, limit, peer] of targets) {
    const [own, other] = [find(ours, work), find(peer, work)]
    if (!own || !other) continue
    const ratio = own.added / other.added
    const error = errorOfRatio(own, other)
    verdicts.push({
      work,
      ours,
      peer,
      limit,
      added: own.added,
      peerAdded: other.added,
      ratio,
      error,
      cpuRatio: own.addedCpu / other.addedCpu,
      isReached: other.added > 0 && ratio <= limit,
      isNoise: !(other.added > other.addedSpread) || Math.abs(ratio - limit) <= error,
    })
  }
  for (const ours of IGNORED) {
    const own = find(ours, 'none')
    if (!own) continue
    verdicts.push({
      work: 'ignored',
      ours,
      limit: IGNORED_LIMIT,
      added: own.added,
      error: own.addedSpread,
      cpuAdded: own.addedCpu,
      isReached: own.added <= IGNORED_LIMIT,
      isNoise: Math.abs(own.added - IGNORED_LIMIT) <= own.addedSpread,
    })
  }
  return verdicts
}

/** By which the ratio may be off, given the spread of both figures. */
function errorOfRatio(own, other) {
  return (own.addedSpread + Math.abs(own.added / other.added) * other.addedSpread) / Math.abs(other.added)
}

const table = (head, lines) =>
  [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

export function rowsAsMarkdown(rows) {
  const head = [
    ...['contender', 'work', 'requests/s of the bare framework', 'added µs', '±', 'added CPU µs', 'p50 ms', 'p99 ms'],
    ...['CPU µs', 'store CPU µs', 'core'],
  ]
  const lines = rows.map((row) => [
    row.name,
    row.work,
    row.isBare ? `1 (${Math.round(1e6 / row.us)}/s)` : row.ratio.toFixed(2),
    row.isBare ? '' : `${row.added.toFixed(1)}${row.addedSpread > Math.abs(row.added) ? ' (noise)' : ''}`,
    row.isBare ? '' : row.addedSpread.toFixed(1),
    row.isBare ? '' : row.addedCpu.toFixed(1),
    row.p50.toFixed(2),
    row.p99.toFixed(2),
    row.cpu.toFixed(1),
    row.storeCpu.toFixed(1),
    `${Math.round(row.busy * 100)} %`,
  ])
  return table(head, lines)
}

export function verdictsAsMarkdown(verdicts) {
  const head = ['work', 'ours', 'added µs', 'peer', 'added µs', 'ratio', '±', 'at most', 'by CPU', '']
  const lines = verdicts.map((one) => [
    one.work,
    one.ours,
    one.added.toFixed(1),
    one.peer ?? '',
    one.peerAdded?.toFixed(1) ?? '',
    one.ratio?.toFixed(2) ?? '',
    one.peer ? one.error.toFixed(2) : `${one.error.toFixed(1)} µs`,
    one.peer ? one.limit : `${one.limit} µs`,
    one.peer ? one.cpuRatio.toFixed(2) : `${one.cpuAdded.toFixed(1)} µs`,
    `${one.isReached ? 'pass' : 'fail'}${one.isNoise ? ', within the noise' : ''}`,
  ])
  return table(head, lines)
}

/** What a reader has to know before believing the figures. */
export function warningsOf(rows) {
  const warnings = []
  const idle = rows.filter(({ busy }) => busy < BUSY)
  if (idle.length > 0) {
    warnings.push(
      `In ${idle.length} of ${rows.length} rows the server had less than ${BUSY * 100} % of its core: others used it, or ` +
        'load generator and stores were the limit. Of these rows, believe the CPU columns rather than the time.',
    )
  }
  const noisy = rows.filter(({ isBare, added, addedSpread }) => !isBare && addedSpread > Math.abs(added))
  if (noisy.length > 0) warnings.push(`In ${noisy.length} rows the spread is larger than the difference: (noise).`)
  return warnings
}
