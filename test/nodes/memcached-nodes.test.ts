import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseNodes, redactNodes } from '../../lib/nodes/memcached-nodes.ts'

const labels = (nodes?: string, failover?: string) => parseNodes(nodes, failover).addresses.map((node) => node.label)

function errorOf(nodes: unknown, failover?: unknown): TypeError {
  try {
    parseNodes(nodes as string, failover as string)
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError)
    return error as TypeError
  }
  throw new Error(`${String(nodes)} was accepted`)
}

describe('memcachedNodes', () => {
  test('left out is one node in memory, without node id', () => {
    const nodes = parseNodes(undefined)
    expect(nodes.addresses).toEqual([{ nodeId: undefined, kind: 'memory', host: '', port: 0, label: 'memory' }])
    expect(nodes.encodesNodeId).toBe(false)
    expect(nodes.nodeIds).toEqual([])
  })

  test.each(['localhost:11211', '127.0.0.1:11211', ' cache.example.com:11211 ', 'redis:6379', 'my_host-1:1'])(
    'host:port as in %j is one node without node id (Feature105)',
    (value) => {
      const nodes = parseNodes(value)
      const [host, port] = value.trim().split(':')
      expect(nodes.addresses).toEqual([
        { nodeId: undefined, kind: 'memcached', host, port: Number(port), label: value.trim() },
      ])
      expect(nodes.encodesNodeId).toBe(false)
      expect(nodes.primaryNodeIds).toEqual([])
    },
  )

  test('with a node id is encoded in session ids, also for a single node (testIsEncodeNodeIdInSessionId)', () => {
    const nodes = parseNodes('n1:localhost:11211')
    expect(nodes.addresses).toEqual([
      { nodeId: 'n1', kind: 'memcached', host: 'localhost', port: 11211, label: 'n1:localhost:11211' },
    ])
    expect(nodes.encodesNodeId).toBe(true)
    expect(nodes.primaryNodeIds).toEqual(['n1'])
  })

  test.each([
    'n1:localhost:11211,n2:localhost:11212',
    'n1:localhost:11211 n2:localhost:11212',
    'n1:localhost:11211, n2:localhost:11212',
    ' n1:localhost:11211 ,\n  n2:localhost:11212\n',
    'n1:localhost:11211\tn2:localhost:11212',
  ])('lists nodes by comma or space: %j (Feature44, testCountNodes)', (value) => {
    const nodes = parseNodes(value)
    expect(nodes.addresses.map((node) => node.label)).toEqual(['n1:localhost:11211', 'n2:localhost:11212'])
    expect(nodes.nodeIds).toEqual(['n1', 'n2'])
    expect(nodes.encodesNodeId).toBe(true)
  })

  test('takes IPv6 addresses in brackets, with and without node id', () => {
    expect(parseNodes('[::1]:11211').addresses[0]).toMatchObject({ nodeId: undefined, host: '::1', port: 11211 })
    expect(parseNodes('n1:[fe80::1]:11211').addresses[0]).toMatchObject({
      nodeId: 'n1',
      host: 'fe80::1',
      port: 11211,
      label: 'n1:[fe80::1]:11211',
    })
    expect(labels('n1:[::1]:1,n2:[::2]:2')).toEqual(['n1:[::1]:1', 'n2:[::2]:2'])
  })

  test('keeps the order of the configuration, failover nodes included (testGetAllMemcachedAddresses)', () => {
    const nodes = parseNodes('n2:b:2,n1:a:1,n3:c:3', 'n1')
    expect(nodes.addresses.map(({ host, port }) => [host, port])).toEqual([
      ['b', 2],
      ['a', 1],
      ['c', 3],
    ])
    expect(nodes.address('n1')?.host).toBe('a')
    expect(nodes.address('n4')).toBeUndefined()
    expect([nodes.has('n1'), nodes.has('n4'), nodes.has('')]).toEqual([true, false, false])
  })

  test.each([
    ['', /empty/],
    [' \n', /empty/],
    ['localhost', /host:port/],
    ['n1:localhost', /host:port/],
    ['localhost:0', /1 to 65535/],
    ['localhost:65536', /1 to 65535/],
    ['n1:localhost:x', /host:port/],
    ['n1:localhost:1x', /host:port/],
    ['n1:local host:1', /host:port/],
    ['n1:ho$t:1', /host:port/],
    ['::1:11211', /host:port/],
    ['n1:::1:11211', /host:port/],
    ['[::1]', /host:port/],
    ['[::g]:11211', /host:port/],
    ['[::1]x:11211', /host:port/],
    [':11211', /host:port/],
    ['n-1:localhost:11211', /node id is/],
    [':localhost:11211', /node id is/],
    [`${'n'.repeat(65)}:localhost:11211`, /node id is/],
    ['localhost:1,localhost:2', /node id of its own.*n1:host:port,n2:host:port/],
    ['n1:localhost:1,localhost:2', /node id of its own/],
    ['n1:localhost:1,n1:localhost:2', /node id n1 is there twice/],
    ['n1:localhost:1,', /separator/],
    ['n1:localhost:1,,n2:localhost:2', /separator/],
    ['n1:localhost:1;n2:localhost:2', /host:port/],
    ['http://localhost:8091/pools', /Couchbase/],
    ['http://a:8091/pools,http://b:8091/pools', /Couchbase/],
    ['n1:https://a:8091/pools', /Couchbase/],
    ['mysql://h/db', /scheme/],
    ['memcached://h:11211', /scheme/],
    ['n1:h:1,n2:redis://h:2', /mixed/],
    ['n1:redis://h:2,n2:h:1', /mixed/],
  ])('refuses %j', (value, reason) => {
    const { message } = errorOf(value)
    expect(message).toMatch(reason)
    expect(message).toMatch(/^memcachedNodes: ".*" is not valid: /s)
    expect(message).toContain("It must be 'host:port', a list 'n1:host:port,n2:host:port', a Redis URL")
  })

  test.each([[null], [1], [{}], [['n1:h:1']]])('refuses %j, which is no string (testParseWithNull)', (value) => {
    expect(errorOf(value).message).toMatch(/memcachedNodes: .* is not valid: it is no string/)
  })

  test('is frozen once it is read', () => {
    const nodes = parseNodes('n1:a:1,n2:b:2', 'n1')
    for (const part of [
      nodes,
      nodes.addresses,
      nodes.addresses[0],
      nodes.nodeIds,
      nodes.primaryNodeIds,
      nodes.failoverNodeIds,
    ]) {
      expect(Object.isFrozen(part)).toBe(true)
    }
  })

  test('never fails with anything but a TypeError', () => {
    const piece = fc.constantFrom(
      'n1',
      ':',
      '//',
      'redis',
      's',
      '+cluster',
      '@',
      '[',
      ']',
      '::1',
      ',',
      ' ',
      '%',
      '1',
      '/',
      '?',
      'h',
      '.',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 25 }), (pieces) => {
        try {
          parseNodes(pieces.join(''))
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError)
          expect((error as Error).message).toMatch(/^memcachedNodes: /)
        }
      }),
      { numRuns: 3000 },
    )
  })
})

describe('memcachedNodes with Redis', () => {
  test.each([
    ['redis://localhost', 'localhost', 6379, 'redis://localhost:6379/0'],
    ['redis://localhost:16379', 'localhost', 16379, 'redis://localhost:16379/0'],
    ['redis://cache/', 'cache', 6379, 'redis://cache:6379/0'],
    ['redis://cache:1/5', 'cache', 1, 'redis://cache:1/5'],
    ['redis://user:pwd@localhost', 'localhost', 6379, 'redis://localhost:6379/0'],
    ['rediss://:pwd@localhost:9999', 'localhost', 9999, 'rediss://localhost:9999/0'],
    ['redis://:pw@[::1]:7000/2', '::1', 7000, 'redis://[::1]:7000/2'],
    ['redis://:pwd@cache/1?family=6', 'cache', 6379, 'redis://cache:6379/1'],
    ['redis+sentinel://s1,s2:26380/main', 's1', 26379, 'redis+sentinel://s1:26379,s2:26380/main/0'],
    ['rediss+sentinel://:pwd@s1/main/3', 's1', 26379, 'rediss+sentinel://s1:26379/main/3'],
    ['redis+cluster://c1,c2:7001', 'c1', 6379, 'redis+cluster://c1:6379,c2:7001'],
    ['redis+cluster://c1:7000,c2:7001,c3:7002', 'c1', 7000, 'redis+cluster://c1:7000,c2:7001,c3:7002'],
  ])('%s is one node without node id (testCreateUri01)', (url, host, port, label) => {
    const nodes = parseNodes(url)
    expect(nodes.addresses).toEqual([{ nodeId: undefined, kind: 'redis', host, port, url, label }])
    expect(nodes.encodesNodeId).toBe(false)
    expect(label).not.toContain('pwd')
  })

  test('lists of URLs have node ids and failover nodes as memcached nodes have', () => {
    const nodes = parseNodes('n1:redis://h1, n2:rediss://:p,w@h2:6380/1 n3:redis://h3', 'n3')
    expect(nodes.addresses.map(({ label, url }) => [label, url])).toEqual([
      ['n1:redis://h1:6379/0', 'redis://h1'],
      ['n2:rediss://h2:6380/1', 'rediss://:p,w@h2:6380/1'],
      ['n3:redis://h3:6379/0', 'redis://h3'],
    ])
    expect(nodes.primaryNodeIds).toEqual(['n1', 'n2'])
    expect(nodes.encodesNodeId).toBe(true)
  })

  test('lists of Clusters and Sentinels are told from the commas within them', () => {
    expect(labels('n1:redis+cluster://a:1,b:2,n2:redis+sentinel://c,d/main')).toEqual([
      'n1:redis+cluster://a:1,b:2',
      'n2:redis+sentinel://c:26379,d:26379/main/0',
    ])
  })

  test.each(['p@ss', 'p%40ss', 'a@b@c', 'p:w', 'a,b', 'a,n1:b'])(
    'a password %s does not hide the host (GH327)',
    (password) => {
      const nodes = parseNodes(`n1:redis://user:${password}@cache:6380/1,n2:redis://h2`)
      expect(nodes.addresses[0]).toMatchObject({ host: 'cache', port: 6380, label: 'n1:redis://cache:6380/1' })
      expect(nodes.addresses).toHaveLength(2)
    },
  )

  test.each([
    ['redis://', /host or port/],
    ['redis://:6379', /host or port/],
    ['redis://h:0', /host or port/],
    ['redis://h:65536', /host or port/],
    ['redis://h1,h2', /several hosts/],
    ['redis://h/x', /path/],
    ['redis://h/1/2', /path/],
    ['redis+sentinel://h1,h2', /path/],
    ['redis+cluster://h1/1', /no db but 0/],
    ['redis+cluster://h1,', /host or port/],
    ['redis+foo://h1', /scheme/],
    ['redis://h1,redis://h2', /node id of its own/],
    ['n1:redis://h1,n1:redis://h2', /twice/],
    ['n-1:redis://h1', /node id is/],
  ])('refuses %s', (value, reason) => {
    expect(errorOf(value).message).toMatch(reason)
  })

  test.each([
    'redis://user:s3cret@h:99999',
    'redis://user:s3cret@h:port',
    'redis://user:a@s3cret@h:port',
    'redis://user:s3/cret@h',
    'redis://user:s3cret?x@h',
    'redis://user:s3#cret@h',
    'redis://user:s3%cret@h',
    'redis://user:s3cret@',
    'redis://user:s3cret',
    'redis://user:s3cret/0',
    'redis:/user:s3cret',
    'redis//user:s3cret@h:1',
    'redis://h?password=s3cret,redis://h2',
    'redis://:s3cret@h1,h2',
    'redis+cluster://h1:7000,user:s3cret',
    'mysql://u:s3cret@h',
    'http://u:s3cret@h:8091/pools',
    'n1:redis://:s3cret@h1,n2:redis://:s3cret2@h2:x',
    'n1:redis://:s3cret@h1,n2:h2:11211',
    'n1:redis://:s3cret@h1,n1:redis://:s3cret@h2',
    'n1:h1:11211,n2:redis://:s3cret@h2',
    'u:s3cret@h:11211',
    'redis://[::1]:s3cret',
    'n1:redis//:s3cret@h1,n2:redis://:s3cret@h2',
    'n1:redis:/:s3cret@h1,n2:redis://h2',
    'redis://:s3cret://h',
    'redis://:s3cretredis://h',
  ])('never shows the password of %s', (value) => {
    expect(errorOf(value).message).not.toMatch(/s3|cret/)
    expect(redactNodes(value)).not.toMatch(/s3|cret/)
  })

  test.each<[unknown]>([[5n], [{ s3cret: 1 }], ['redis://:s3cret@h']])(
    'says that failoverNodes is wrong: %o',
    (value) => {
      const parse = (): unknown => parseNodes('n1:h1:1,n2:h2:1', value as string)
      expect(parse).toThrow(TypeError)
      expect(parse).toThrow(/^failoverNodes: (?!.*s3cret)/)
    },
  )

  test('never shows what is in an array', () => {
    expect(errorOf(['redis://:s3cret@h']).message).not.toContain('s3cret')
  })

  test('shows the rest of the value in an error', () => {
    expect(errorOf('n1:redis://u:s3cret@h1:6379,n1:redis://h2').message).toContain(
      '"n1:redis://***@h1:6379,n1:redis://h2"',
    )
    expect(redactNodes('n1:10.0.0.1:11211,n2:[::1]:11211')).toBe('n1:10.0.0.1:11211,n2:[::1]:11211')
    expect(redactNodes('redis://[::1]:6379/0')).toBe('redis://[::1]:6379/0')
  })
})

describe('failoverNodes', () => {
  test.each([
    [undefined, []],
    [null, []],
    ['', []],
    [' ', []],
    ['n1', ['n1']],
    ['n1,n2', ['n1', 'n2']],
    ['n1 n2', ['n1', 'n2']],
    ['n2, n1', ['n2', 'n1']],
    ['n1,n1', ['n1']],
  ])('%j gives %j (testFailoverNodes)', (failover, expected) => {
    expect(parseNodes('n1:a:1,n2:b:2,n3:c:3', failover).failoverNodeIds).toEqual(expected)
  })

  test.each([
    ['n1:a:1', undefined, ['n1']],
    ['n1:a:1,n2:b:2', 'n1', ['n2']],
    ['n1:a:1,n2:b:2,n3:c:3', 'n1', ['n2', 'n3']],
    ['n1:a:1,n2:b:2,n3:c:3', 'n1,n2', ['n3']],
  ])('of %s being %s leave the primaries %j (testPrimaryNodes)', (nodes, failover, expected) => {
    const config = parseNodes(nodes, failover)
    expect(config.primaryNodeIds).toEqual(expected)
    expect(config.nodeIds.filter((id) => config.isFailoverNode(id))).toEqual(config.failoverNodeIds)
  })

  test.each([
    ['localhost:11211', 'n1', /single node/],
    ['n1:localhost:11211', 'n1', /single node/],
    [undefined, 'n1', /single node/],
    ['redis://h', 'n1', /single node/],
    ['n1:a:1,n2:b:2', 'n3', /n3 is not one of the nodes n1, n2/],
    ['n1:a:1,n2:b:2', 'n1,n2', /all nodes are failover nodes/],
    ['n1:redis://:s3cret@a,n2:redis://b', 'n3', /n3 is not one of the nodes n1, n2/],
    ['n1:a:1,n2:b:2', 1, /no string/],
  ])('%s with %s is refused', (nodes, failover, reason) => {
    const { message } = errorOf(nodes, failover)
    expect(message).toMatch(reason)
    expect(message).toContain(`failoverNodes: ${JSON.stringify(failover)} is not valid`)
    expect(message).toContain('It must be a comma list of node ids')
    expect(message).not.toContain('s3cret')
  })
})

describe('the list of nodes (NodeIdListTest)', () => {
  test('goes on after a node, wraps around, and never comes back to it', () => {
    expect(parseNodes('n1:a:1,n2:b:2').after('n1')).toEqual(['n2'])
    expect(parseNodes('n1:a:1,n2:b:2').after('n2')).toEqual(['n1'])
    expect(parseNodes('n1:a:1,n2:b:2,n3:c:3').after('n2')).toEqual(['n3', 'n1'])
    expect(parseNodes('n1:a:1').after('n1')).toEqual([])
  })

  test('refuses a node that is not in it', () => {
    expect(() => parseNodes('n1:a:1,n2:b:2').after('n3')).toThrow(TypeError)
    expect(() => parseNodes('n1:a:1,n2:b:2').after(null as unknown as string)).toThrow(TypeError)
  })
})
