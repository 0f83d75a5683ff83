import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { SessionManagerError } from '../../lib/errors.ts'
import { EventHub } from '../../lib/events.ts'
import { NodeMonitor } from '../../lib/nodes/node-monitor.ts'
import { Statistics } from '../../lib/statistics.ts'
import { StorageNode } from '../../lib/storage/storage-node.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

async function watched() {
  const lines: string[] = []
  const log = (line: string): void => void lines.push(line)
  const logger = { info: log, warn: log, error: log }
  const events = new EventHub(logger)
  const seen: string[] = []
  events.on('nodeDown', ({ node }) => void seen.push(`down ${node}`))
  events.on('nodeUp', ({ node, restarted }) => void seen.push(`up ${node} ${restarted}`))
  const statistics = new Statistics()
  const monitor = new NodeMonitor(logger, events, statistics)
  const client = new MemoryStorageClient()
  const node: StorageNode = new StorageNode(
    { nodeId: 'n1', kind: 'memory', host: '', port: 0, label: 'n1' },
    client,
    { operationTimeout: 100, maxItemSize: 1000 },
    { operation: () => {}, down: (which, error) => monitor.down(which, error) },
  )
  const recoveries: boolean[] = []
  let outages = 0
  monitor.onRecovery = (_node, restarted) => void recoveries.push(restarted)
  monitor.onOutage = () => void outages++
  monitor.watch(node)
  await monitor.start()
  return { monitor, client, node, lines, seen, statistics, recoveries, outages: () => outages }
}

it('notices within a second that a node is down, and tells once', async () => {
  const { client, node, lines, seen, statistics, outages, monitor } = await watched()
  client.stop()
  await vi.advanceTimersByTimeAsync(1000)
  expect(node.isAvailable).toBe(false)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(lines).toEqual([expect.stringMatching(/^Node n1 is down: /)])
  expect(seen).toEqual(['down n1'])
  expect(statistics.counter('nodesDown')).toBe(1)
  expect(outages()).toBe(1)
  monitor.stop()
})

it.each([true, false])(
  'notices within two seconds that it is back, and whether it was restarted: %s',
  async (empty) => {
    const { client, node, lines, seen, recoveries, monitor } = await watched()
    client.stop()
    await vi.advanceTimersByTimeAsync(60_000)
    client.start({ empty })
    await vi.advanceTimersByTimeAsync(2000)
    expect(node.isAvailable).toBe(true)
    expect(seen).toEqual(['down n1', `up n1 ${empty}`])
    expect(lines).toHaveLength(2)
    expect(lines[1]).toMatch(empty ? /is up again after \d+ ms, restarted/ : /is up again after \d+ ms\.$/)
    expect(recoveries).toEqual([empty])
    monitor.stop()
  },
)

it('notices that a node was restarted between two probes', async () => {
  const { client, lines, recoveries, monitor, node } = await watched()
  client.start({ empty: true })
  await vi.advanceTimersByTimeAsync(1000)
  expect(recoveries).toEqual([true])
  expect(lines).toEqual(['Node n1 was restarted.'])
  expect(monitor.hadTrouble(node, 10_000)).toBe(true)
  await vi.advanceTimersByTimeAsync(20_000)
  expect(monitor.hadTrouble(node, 10_000)).toBe(false)
  monitor.stop()
})

it('asks a node that is down more often at first, and then once a second', async () => {
  const { client, monitor } = await watched()
  const probe = vi.spyOn(client, 'probe')
  client.stop()
  await vi.advanceTimersByTimeAsync(1000)
  probe.mockClear()
  await vi.advanceTimersByTimeAsync(1000)
  expect(probe.mock.calls.length).toBeGreaterThanOrEqual(3)
  await vi.advanceTimersByTimeAsync(10_000)
  probe.mockClear()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(probe.mock.calls.length).toBeGreaterThanOrEqual(9)
  expect(probe.mock.calls.length).toBeLessThanOrEqual(20)
  monitor.stop()
})

it('leaves no timer behind when it is stopped', async () => {
  const { monitor } = await watched()
  monitor.stop()
  expect(vi.getTimerCount()).toBe(0)
})

it('asks a node on a new connection as soon as one is lost', async () => {
  const { node, monitor, seen } = await watched()
  node.markDown(new Error('ECONNRESET'))
  await monitor.secondLook(node)
  expect(node.isAvailable).toBe(true)
  expect(seen).toEqual(['down n1', 'up n1 false'])
  expect(monitor.secondLook(node)).toBeUndefined()
  monitor.stop()
})

it('knows at once that a node is down that refuses a new connection', async () => {
  const { client, node, monitor, seen } = await watched()
  client.stop()
  node.markDown(new Error('ECONNRESET'))
  await monitor.secondLook(node)
  expect(node.isAvailable).toBe(false)
  expect(seen).toEqual(['down n1'])
  expect(monitor.secondLook(node)).toBeUndefined()
  monitor.stop()
})

it('makes nobody wait for a node that has not answered in time', async () => {
  const { node, monitor } = await watched()
  node.markDown(new SessionManagerError('ERR_MSM_TIMEOUT', 'no answer'))
  expect(monitor.secondLook(node)).toBeUndefined()
  monitor.stop()
})

it('makes nobody wait for long if nothing answers on the new connection', async () => {
  const { client, node, monitor } = await watched()
  client.probe = () => new Promise(() => {})
  node.markDown(new Error('ECONNRESET'))
  let isKnown = false
  void monitor.secondLook(node)!.then(() => {
    isKnown = true
  })
  await vi.advanceTimersByTimeAsync(250)
  expect(isKnown).toBe(true)
  expect(node.isAvailable).toBe(false)
  monitor.stop()
})
