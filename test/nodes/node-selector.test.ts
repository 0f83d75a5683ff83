import { describe, expect, test } from 'vitest'
import { parseNodes } from '../../lib/nodes/memcached-nodes.ts'
import { NodeSelector } from '../../lib/nodes/node-selector.ts'

/** A selector over n1, n2, …; `down` can be changed while it is in use. */
function selector(count: number, failover: string, down: Iterable<string> = [], random?: () => number): NodeSelector {
  const nodes = Array.from({ length: count }, (_, i) => `n${i + 1}:h:${i + 1}`).join(',')
  const unavailable = new Set(down)
  return new NodeSelector(parseNodes(nodes, failover), (nodeId) => !unavailable.has(nodeId), random)
}

describe('the next node (NodeIdServiceTest)', () => {
  test.each([
    ['SingleNode', 1, '', [], 'n1', undefined],
    ['TwoNodes', 2, '', [], 'n1', 'n2'],
    ['TwoNodes, wrapping', 2, '', [], 'n2', 'n1'],
    ['TwoNodes_NoNodeLeft', 2, '', ['n1'], 'n2', undefined],
    ['RegularNode_NoRegularNodeLeft', 2, 'n2', [], 'n1', 'n2'],
    ['FailoverNode_RegularNodeLeft', 2, 'n2', [], 'n2', 'n1'],
    ['FailoverNode_NoRegularNodeLeft', 2, 'n2', ['n1'], 'n2', undefined],
    ['FailoverNode_NoRegularNodeButAnotherFailoverNodeLeft', 3, 'n2,n3', ['n1'], 'n2', 'n3'],
    ['testGetNextAvailableNodeId, n2 down of 2', 2, '', ['n2'], 'n1', undefined],
    ['testGetNextAvailableNodeId, n2 down of 3', 3, '', ['n2'], 'n1', 'n3'],
    ['failover node stands between', 3, 'n2', [], 'n1', 'n3'],
    ['failover node only when no primary is left', 3, 'n2', ['n3'], 'n1', 'n2'],
    ['from a failover node, the primary after it', 4, 'n2', [], 'n2', 'n3'],
    ['wraps past primaries that are down', 4, 'n3', ['n4', 'n1'], 'n4', 'n2'],
  ])('%s', (_, count, failover, down, nodeId, expected) => {
    expect(selector(count, failover, down).next(nodeId)).toBe(expected)
  })

  test('of a node that is no longer configured is any that a new session could get (GH207)', () => {
    expect(selector(2, 'n2').next('n9')).toBe('n1')
    expect(selector(2, 'n2', ['n1']).next('n9')).toBe('n2')
  })

  test('follows nodes as they go down and come up (testSetNodeAvailability)', () => {
    const down = new Set<string>()
    const nodes = new NodeSelector(parseNodes('n1:a:1,n2:b:2,n3:c:3'), (nodeId) => !down.has(nodeId))
    expect(nodes.next('n1')).toBe('n2')
    down.add('n2')
    expect(nodes.next('n1')).toBe('n3')
    down.delete('n2')
    expect(nodes.next('n1')).toBe('n2')
  })
})

describe('the node of a new session', () => {
  test('is each available primary equally often, and no other', () => {
    let seed = 1
    const random = () => {
      seed = (seed * 16_807) % 2_147_483_647
      return seed / 2_147_483_647
    }
    const nodes = selector(5, 'n5', ['n2'], random)
    const counts = new Map<string | undefined, number>()
    for (let i = 0; i < 9000; i++) {
      const nodeId = nodes.forNewSession()
      counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1)
    }
    expect([...counts.keys()].sort()).toEqual(['n1', 'n3', 'n4'])
    for (const count of counts.values()) expect(Math.abs(count - 3000)).toBeLessThan(300)
  })

  test('is a failover node only when no primary is available', () => {
    expect(selector(3, 'n2', ['n1', 'n3']).forNewSession()).toBe('n2')
  })

  test('is none when all nodes are down, or none has a node id', () => {
    expect(selector(3, 'n2', ['n1', 'n2', 'n3']).forNewSession()).toBeUndefined()
    expect(new NodeSelector(parseNodes('localhost:11211'), () => true).forNewSession()).toBeUndefined()
  })
})

describe('the node of the second copy', () => {
  test.each([
    [3, [], 'n1', 'n2'],
    [3, [], 'n3', 'n1'],
    [3, ['n2'], 'n1', 'n3'],
    [3, ['n2', 'n3'], 'n1', undefined],
    [3, ['n1'], 'n1', 'n2'],
    [1, [], 'n1', undefined],
  ])('of %i nodes with %j down is, for %s, %s', (count, down, nodeId, expected) => {
    expect(selector(count, '', down).nextForCopy(nodeId)).toBe(expected)
  })

  test('is any available one for a node that is no longer configured (GH207)', () => {
    expect(selector(2, '', ['n1']).nextForCopy('n9')).toBe('n2')
  })

  test('is the next in list order, whatever the failover nodes are', () => {
    expect(selector(3, 'n2').nextForCopy('n1')).toBe('n2')
  })
})

describe('the id for a takeover (testChangeSessionIdForTomcatFailover)', () => {
  test.each([
    ['123', undefined, '123'],
    ['123.tc1', 'tc2', '123.tc2'],
  ])('%s by %s is %s where ids have no node id', (id, route, expected) => {
    const nodes = new NodeSelector(parseNodes('localhost:11211'), () => true)
    expect(nodes.changeSessionIdForTakeover(id, route)).toBe(expected)
  })

  test.each([
    ['', '123-n1', undefined, '123-n1'],
    ['', '123-n1', 'tc2', '123-n1.tc2'],
    ['', '123-n1.tc1', 'tc2', '123-n1.tc2'],
    ['n2', '123-n1', undefined, '123-n1'],
    ['n2', '123-n1', 'tc2', '123-n1.tc2'],
    ['n2', '123-n1.tc1', 'tc2', '123-n1.tc2'],
    ['n1', '123-n1', undefined, '123-n2'],
    ['n1', '123-n1', 'tc2', '123-n2.tc2'],
    ['n1', '123-n1.tc1', 'tc2', '123-n2.tc2'],
  ])('with failover nodes %j, %s by %s is %s', (failover, id, route, expected) => {
    expect(selector(2, failover).changeSessionIdForTakeover(id, route)).toBe(expected)
  })

  test('stays on the failover node while no primary is available', () => {
    expect(selector(3, 'n1,n2', ['n3']).changeSessionIdForTakeover('123-n1.tc1', 'tc2')).toBe('123-n1.tc2')
    expect(selector(3, 'n1,n2').changeSessionIdForTakeover('123-n1.tc1', 'tc2')).toBe('123-n3.tc2')
  })

  test('leaves a base with a dash alone where ids have no node id', () => {
    const nodes = new NodeSelector(parseNodes('redis://h'), () => true)
    expect(nodes.changeSessionIdForTakeover('1-2.tc1', 'tc2')).toBe('1-2.tc2')
  })
})
