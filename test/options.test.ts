import { afterEach, describe, expect, test, vi } from 'vitest'
import { resolveOptions, type SessionManagerOptions } from '../lib/options.ts'

const TWO_NODES = 'n1:10.0.0.1:11211,n2:10.0.0.2:11211'

function errorOf(options: unknown): string {
  try {
    resolveOptions(options as SessionManagerOptions)
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError)
    return (error as Error).message
  }
  throw new Error(`${JSON.stringify(options)} was accepted`)
}

const warningsOf = (options: SessionManagerOptions) => resolveOptions(options).warnings

afterEach(() => {
  vi.unstubAllEnvs()
})

describe('without any option', () => {
  test('sessions are in memory, with the defaults of MSM and Tomcat', () => {
    const { raw, warnings, nodes, ...rest } = resolveOptions()
    expect(raw).toEqual({})
    expect(warnings).toEqual([])
    expect(nodes.addresses.map((node) => node.kind)).toEqual(['memory'])
    expect(rest).toEqual({
      sticky: true,
      enabled: true,
      lockExpiration: 5,
      operationTimeout: 1000,
      sessionBackupAsync: true,
      sessionBackupTimeout: 100,
      lazy: false,
      touchAfterSeconds: 1,
      lockTimeoutMs: 1000,
      lockTimeoutPolicy: 'proceed',
      conflictPolicy: 'mine',
      mergeAttribute: undefined,
      storageFailurePolicy: 'error',
      commitFailurePolicy: 'error',
      tls: undefined,
      rolling: false,
      saveUninitialized: false,
      unset: 'keep',
      autoCommit: true,
      genid: undefined,
      proxy: undefined,
      sessionTracking: ['cookie'],
      sessionHeader: 'X-Session-Id',
      maxLifetimeSeconds: 0,
      regenerateGraceSeconds: 0,
      maxSessionsPerPrincipal: -1,
      principalLimitPolicy: 'reject',
      cookieOf: undefined,
      encryption: undefined,
      compression: undefined,
      readTranscoders: [],
      drainOnSignal: false,
      username: undefined,
      password: undefined,
      enableStatistics: true,
      maxInactiveInterval: 1800,
      maxActiveSessions: -1,
      sessionIdLength: 16,
      jvmRoute: undefined,
      host: 'localhost',
      context: '',
      webappVersion: undefined,
      processExpiresFrequency: 6,
      backgroundProcessorDelay: 10,
      transcoder: 'msgpack',
      storage: 'auto',
      logger: console,
      keyPrefix: '',
      maxSessionIdLength: 237,
      lockingMode: { kind: 'none', text: 'none' },
      requestUriIgnorePattern: undefined,
      ignorePattern: undefined,
      sessionAttributeFilter: undefined,
      attributeFilter: undefined,
      cookie: {
        name: 'JSESSIONID',
        path: '/',
        domain: undefined,
        httpOnly: true,
        secure: 'auto',
        sameSite: 'lax',
        partitioned: false,
        priority: undefined,
        maxAge: undefined,
      },
    })
  })

  test('an option that is undefined is one that was left out', () => {
    const { sticky, jvmRoute, cookie } = resolveOptions({ sticky: undefined, jvmRoute: undefined, cookie: undefined })
    expect([sticky, jvmRoute, cookie.name]).toEqual([true, undefined, 'JSESSIONID'])
  })
})

test('non-sticky mode waits for the backup and merges changes, unless told otherwise', () => {
  expect(resolveOptions({ sticky: false })).toMatchObject({
    sessionBackupAsync: false,
    lockingMode: { kind: 'optimistic' },
  })
  expect(resolveOptions({ sticky: false, sessionBackupAsync: true, lockingMode: 'none' })).toMatchObject({
    sessionBackupAsync: true,
    lockingMode: { kind: 'none' },
  })
})

test("the attributes of a context.xml can be copied over as they stand, but for Java's own", () => {
  const options = resolveOptions({
    memcachedNodes: 'm1:h:11211,m2:h:11212',
    sticky: 'false',
    enabled: 'TRUE' as 'true',
    sessionBackupAsync: 'false',
    sessionBackupTimeout: '250',
    operationTimeout: '2000',
    lockExpiration: '30',
    lockingMode: 'uriPattern:/path1|/path2',
    requestUriIgnorePattern: '.*\\.(ico|png|gif|jpg|css|js)$',
    maxInactiveInterval: '-1',
    maxActiveSessions: '-1',
    sessionIdLength: '32',
    enableStatistics: 'false',
    processExpiresFrequency: '1',
    backgroundProcessorDelay: '1',
    storageKeyPrefix: 'static:x',
  })
  expect(options).toMatchObject({
    sticky: false,
    enabled: true,
    sessionBackupAsync: false,
    sessionBackupTimeout: 250,
    operationTimeout: 2000,
    lockExpiration: 30,
    maxInactiveInterval: -1,
    maxActiveSessions: -1,
    sessionIdLength: 32,
    enableStatistics: false,
    processExpiresFrequency: 1,
    backgroundProcessorDelay: 1,
    keyPrefix: 'x_',
  })
  expect(options.warnings).toEqual([])
})

describe('a wrong value', () => {
  test.each([
    [{ sticky: 'yes' }, 'sticky: "yes" is not valid. It must be true or false.'],
    [{ sticky: 1 }, 'sticky: 1 is not valid. It must be true or false.'],
    [{ sticky: null }, 'sticky: null is not valid. It must be true or false.'],
    [{ enabled: {} }, 'enabled: an object is not valid. It must be true or false.'],
    [{ sessionBackupAsync: '' }, 'sessionBackupAsync: "" is not valid. It must be true or false.'],
    [{ enableStatistics: 'on' }, 'enableStatistics: "on" is not valid. It must be true or false.'],
    [
      { operationTimeout: 0 },
      'operationTimeout: 0 is not valid. It must be a whole number of milliseconds, 1 or more.',
    ],
    [
      { operationTimeout: '1s' },
      'operationTimeout: "1s" is not valid. It must be a whole number of milliseconds, 1 or more.',
    ],
    [
      { operationTimeout: 1.5 },
      'operationTimeout: 1.5 is not valid. It must be a whole number of milliseconds, 1 or more.',
    ],
    [{ operationTimeout: Number.NaN }, 'operationTimeout: NaN is not valid.'],
    [{ operationTimeout: 2 ** 31 }, 'operationTimeout: 2147483648 is not valid.'],
    [{ operationTimeout: '99999999999' }, 'operationTimeout: "99999999999" is not valid.'],
    [{ lockExpiration: -5 }, 'lockExpiration: -5 is not valid. It must be a whole number of seconds, 1 or more.'],
    [{ sessionBackupTimeout: 0 }, 'sessionBackupTimeout: 0 is not valid. It must be a whole number of milliseconds'],
    [
      { maxInactiveInterval: 2 ** 31 },
      'maxInactiveInterval: 2147483648 is not valid. It must be a whole number of seconds',
    ],
    [{ maxInactiveInterval: '30m' }, 'maxInactiveInterval: "30m" is not valid.'],
    [{ maxActiveSessions: -2 }, 'maxActiveSessions: -2 is not valid.'],
    [{ sessionIdLength: 15 }, 'sessionIdLength: 15 is not valid. It must be a whole number of bytes, 16 to 64.'],
    [{ sessionIdLength: 65 }, 'sessionIdLength: 65 is not valid. It must be a whole number of bytes, 16 to 64.'],
    [{ processExpiresFrequency: 0 }, 'processExpiresFrequency: 0 is not valid.'],
    [{ backgroundProcessorDelay: 0 }, 'backgroundProcessorDelay: 0 is not valid. It must be a whole number of seconds'],
    [{ jvmRoute: '' }, 'jvmRoute: "" is not valid. It must be 1 to 64 letters, digits, dots, dashes and underscores.'],
    [{ jvmRoute: 't 1' }, 'jvmRoute: "t 1" is not valid.'],
    [{ jvmRoute: 'x'.repeat(65) }, 'is not valid. It must be 1 to 64 letters'],
    [{ host: 1 }, 'host: 1 is not valid. It must be text.'],
    [{ context: null }, 'context: null is not valid. It must be text.'],
    [{ webappVersion: 1 }, 'webappVersion: 1 is not valid. It must be text.'],
    [{ memcachedNodes: '' }, 'memcachedNodes: "" is not valid'],
    [{ memcachedNodes: null }, 'memcachedNodes: a value of type object is not valid'],
    [
      { memcachedNodes: TWO_NODES, failoverNodes: 'n3' },
      'failoverNodes: "n3" is not valid: n3 is not one of the nodes n1, n2.',
    ],
    [{ memcachedNodes: TWO_NODES, failoverNodes: 'n1,n2' }, 'failoverNodes: "n1,n2" is not valid: all nodes'],
    [{ memcachedNodes: TWO_NODES, failoverNodes: 'n3', sticky: false }, 'failoverNodes: "n3" is not valid'],
    [{ memcachedNodes: 'n1:h:1', failoverNodes: 'n1' }, 'failoverNodes: "n1" is not valid: a single node'],
    [
      { storageKeyPrefix: 'hosts' },
      'storageKeyPrefix: "hosts" is not valid. The part "hosts" is unknown: it must be a comma list',
    ],
    [{ storageKeyPrefix: 1 }, 'storageKeyPrefix: 1 is not valid. It must be text'],
    [{ storageKeyPrefix: 'static:bak:' }, 'reserved'],
    [{ storageKeyPrefix: 'context', context: '/ä' }, 'printable ASCII'],
    [{ transcoder: 'jsn' }, `transcoder: "jsn" is not valid. It must be 'msgpack' or 'json', or a SessionTranscoder`],
    [{ transcoder: { encode() {} } }, 'transcoder: an object is not valid.'],
    [{ transcoder: { encode() {}, decode() {} } }, 'transcoder.name: undefined is not valid.'],
    [{ storage: 'memory' }, 'storage: "memory" is not valid. It must be \'auto\', or a StorageClientFactory function.'],
    [{ logger: { info() {} } }, 'logger: an object is not valid. It must be a logger with info, warn and error'],
    [{ logger: false }, 'logger: false is not valid.'],
    [{ username: '', password: 'p' }, 'username: "" is not valid. It must be text, not empty.'],
    [
      { lockingMode: 'everything' },
      "lockingMode: \"everything\" is not valid. It must be 'none', 'all', 'auto', 'app', 'optimistic' or 'uriPattern:<regex>'.",
    ],
    [{ lockingMode: 'uriPattern:' }, 'lockingMode: "uriPattern:" is not valid. It must be a regular expression'],
    [{ lockingMode: 'uriPattern:/a(' }, 'lockingMode: "uriPattern:/a(" is not valid. It must be a regular expression'],
    [{ lockingMode: true }, 'lockingMode: true is not valid.'],
    [
      { requestUriIgnorePattern: '*.png' },
      'requestUriIgnorePattern: "*.png" is not valid. It must be a regular expression',
    ],
    [{ requestUriIgnorePattern: 'a)|(b' }, 'requestUriIgnorePattern: "a)|(b" is not valid.'],
    [{ requestUriIgnorePattern: '' }, 'requestUriIgnorePattern: "" is not valid.'],
    [{ requestUriIgnorePattern: 1 }, 'requestUriIgnorePattern: 1 is not valid.'],
    [{ sessionAttributeFilter: '(' }, 'sessionAttributeFilter: "(" is not valid.'],
  ])('%j is refused: %s', (options, message) => {
    expect(errorOf(options)).toContain(message)
  })

  test('is cut when it is long', () => {
    expect(errorOf({ host: 'h', jvmRoute: 'x'.repeat(10_000) }).length).toBeLessThan(300)
  })

  test.each([[null], ['redis://:s3cret@h'], [1], [[]]])('%j is refused instead of options, unseen', (options) => {
    expect(errorOf(options)).toMatch(/^options: a value of type \w+ is not valid\. It must be an object/)
    expect(errorOf(options)).not.toContain('s3cret')
  })
})

describe('an unknown option', () => {
  test.each([
    [{ memcachedNode: 'h:1' }, 'Unknown option memcachedNode. Did you mean memcachedNodes?'],
    [{ jvmroute: 't1' }, 'Unknown option jvmroute. Did you mean jvmRoute?'],
    [{ jvmroute: undefined }, 'Unknown option jvmroute. Did you mean jvmRoute?'],
    [{ sessionAttributesFilter: 'a' }, 'Unknown option sessionAttributesFilter. Did you mean sessionAttributeFilter?'],
    [{ lockTimeout: 1 }, /^Unknown option lockTimeout\. Did you mean \w+\?$/],
    [{ constructor: 1 }, /^Unknown option constructor\./],
    [{ toString: 1 }, /^Unknown option toString\./],
    [{ cookie: { samesite: 'lax' } }, 'Unknown option cookie.samesite. Did you mean cookie.sameSite?'],
    [{ cookie: { max_age: 1 } }, 'Unknown option cookie.max_age. Did you mean cookie.maxAge?'],
    [{ cookie: { backupThreadCount: 1 } }, /^Unknown option cookie\.backupThreadCount\./],
  ])('%j is refused with the nearest name', (options, message) => {
    expect(errorOf(options)).toMatch(message)
  })

  test.each([
    'backupThreadCount',
    'memcachedProtocol',
    'transcoderFactoryClass',
    'copyCollectionsForSerialization',
    'customConverter',
    'className',
  ])('%s, which is about Java, is refused with what to do instead', (name) => {
    expect(errorOf({ [name]: '1' })).toMatch(
      new RegExp(`^The option ${name} is not supported\\. .*(remove it|transcoder)`),
    )
  })
})

describe('options that depend on each other', () => {
  test('enabled: false needs sticky mode', () => {
    expect(errorOf({ enabled: false, sticky: false })).toMatch(/^enabled: false is not valid with sticky: false/)
    expect(resolveOptions({ enabled: false }).enabled).toBe(false)
  })

  test('username and password come together, and the password is never shown', () => {
    expect(errorOf({ memcachedNodes: 'h:1', username: 'u' })).toMatch(/^password: undefined is not valid/)
    expect(errorOf({ memcachedNodes: 'h:1', password: 's3cret' })).toMatch(/^username: undefined is not valid/)
    expect(errorOf({ memcachedNodes: 'h:1', password: 's3cret' })).not.toContain('s3cret')
    expect(errorOf({ username: 'u', password: ['s3cret'] })).toMatch(/^password: \(not shown\) is not valid/)
    expect(errorOf({ username: 'u', password: '' })).toMatch(/^password: \(not shown\) is not valid/)
    expect(resolveOptions({ memcachedNodes: 'localhost:1', username: 'u', password: 'p' })).toMatchObject({
      username: 'u',
      password: 'p',
      warnings: [],
    })
  })

  test('ids and prefix together fit into a key', () => {
    const fitting = resolveOptions({ storageKeyPrefix: `static:${'x'.repeat(101)}` })
    expect(fitting.maxSessionIdLength).toBe(250 - 13 - 2 * 102)
    expect(errorOf({ storageKeyPrefix: `static:${'x'.repeat(102)}` })).toMatch(
      /^storageKeyPrefix: ".*" is not valid.*250 bytes/,
    )
    expect(errorOf({ storageKeyPrefix: `static:${'x'.repeat(101)}`, jvmRoute: 't1' })).toMatch(/^storageKeyPrefix/)
    const longId = { memcachedNodes: `${'n'.repeat(64)}:h:1`, jvmRoute: 't'.repeat(64), sessionIdLength: 64 }
    expect(errorOf(longId)).toMatch(/^sessionIdLength: 64 is not valid/)
    expect(resolveOptions({ ...longId, sessionIdLength: 48 }).maxSessionIdLength).toBe(237)
  })

  test('the key prefix comes from webappVersion unless told otherwise', () => {
    expect(resolveOptions({ webappVersion: '001' }).keyPrefix).toBe('001_')
    expect(resolveOptions({ webappVersion: '001', storageKeyPrefix: '' }).keyPrefix).toBe('')
    expect(resolveOptions({ webappVersion: '001', storageKeyPrefix: null }).keyPrefix).toBe('')
    expect(resolveOptions({ host: 'hst', context: 'ctxt', storageKeyPrefix: 'host.hash,context.hash' }).keyPrefix).toBe(
      'e93c085e:45e6345f_',
    )
    expect(resolveOptions({ storageKeyPrefix: 'host' }).keyPrefix).toBe('localhost_')
  })
})

describe('warnings', () => {
  test('are given for sessions in memory in production', () => {
    vi.stubEnv('NODE_ENV', 'production')
    expect(warningsOf({})).toEqual([expect.stringContaining('Without memcachedNodes')])
    expect(warningsOf({ memcachedNodes: TWO_NODES })).toEqual([])
    expect(warningsOf({ storage: () => ({}) as never })).toEqual([])
    vi.stubEnv('NODE_ENV', 'development')
    expect(warningsOf({})).toEqual([])
  })

  test('are given for failoverNodes in non-sticky mode, where every node is used (GH207)', () => {
    const options = resolveOptions({ memcachedNodes: TWO_NODES, failoverNodes: 'n1', sticky: false })
    expect(options.warnings).toEqual([expect.stringMatching(/^failoverNodes has no effect/)])
    expect(options.nodes.primaryNodeIds).toEqual(['n1', 'n2'])
    expect(options.nodes.failoverNodeIds).toEqual([])
    expect(warningsOf({ memcachedNodes: TWO_NODES, failoverNodes: '', sticky: false })).toEqual([])
    const sticky = resolveOptions({ memcachedNodes: TWO_NODES, failoverNodes: 'n1' })
    expect(sticky.warnings).toEqual([])
    expect(sticky.nodes.primaryNodeIds).toEqual(['n2'])
  })

  test('are given for sessionAttributeFilter and jvmRoute in non-sticky mode', () => {
    expect(warningsOf({ sticky: false, sessionAttributeFilter: 'a|b' })).toEqual([
      expect.stringMatching(/^sessionAttributeFilter .* lost/),
    ])
    expect(warningsOf({ sticky: false, jvmRoute: 't1' })).toEqual([expect.stringMatching(/^jvmRoute /)])
    expect(warningsOf({ sessionAttributeFilter: 'a|b', jvmRoute: 't1' })).toEqual([])
  })

  test('are given for a user name where nobody asks for it', () => {
    const user = { username: 'u', password: 's3cret' }
    expect(warningsOf({ memcachedNodes: 'redis://h', ...user })).toEqual([
      expect.stringMatching(/^username and password.*URL/),
    ])
    expect(warningsOf(user)).toEqual([expect.stringMatching(/^username and password have no effect/)])
    expect(warningsOf({ memcachedNodes: 'localhost:1', ...user })).toEqual([])
  })

  test('are given for a password that memcached is told over a network, as it is not encrypted', () => {
    const user = { username: 'u', password: 's3cret' }
    const warnings = warningsOf({ memcachedNodes: 'n1:127.0.0.1:1,n2:10.0.0.1:1,n3:[::2]:1', ...user })
    expect(warnings).toEqual([
      expect.stringMatching(/^username and password .* unencrypted \(n2:10.0.0.1:1, n3:\[::2\]:1\)/),
    ])
    expect(warnings[0]).not.toContain('s3cret')
    for (const local of ['localhost:1', '127.0.0.1:1', '[::1]:1']) {
      expect(warningsOf({ memcachedNodes: local, ...user })).toEqual([])
    }
    expect(warningsOf({ memcachedNodes: 'h:1' })).toEqual([])
  })

  test('are given for locking modes that have no meaning in sticky mode', () => {
    for (const lockingMode of ['auto', 'optimistic']) {
      const options = resolveOptions({ lockingMode })
      expect(options.lockingMode).toEqual({ kind: 'none', text: lockingMode })
      expect(options.warnings).toEqual([expect.stringContaining(`lockingMode: '${lockingMode}' has no effect`)])
    }
    for (const lockingMode of ['none', 'None', 'all', 'app', 'uriPattern:/x'])
      expect(warningsOf({ lockingMode })).toEqual([])
  })

  test('are given for a maxAge that looks like milliseconds', () => {
    expect(warningsOf({ cookie: { maxAge: 86_400_000 } })).toEqual([
      expect.stringMatching(/^cookie.maxAge is in seconds/),
    ])
    expect(warningsOf({ cookie: { maxAge: 34_560_000 } })).toEqual([])
  })
})

test.each(['none', 'all', 'auto', 'app', 'optimistic'])('lockingMode %s is known, in any case of letters', (kind) => {
  expect(resolveOptions({ sticky: false, lockingMode: kind }).lockingMode.kind).toBe(kind)
  expect(resolveOptions({ sticky: false, lockingMode: kind.toUpperCase() }).lockingMode.kind).toBe(kind)
})

describe('a pattern', () => {
  test('has to match as a whole, and is kept as it was written', () => {
    const options = resolveOptions({
      lockingMode: 'uriPattern:/path1|/path2',
      requestUriIgnorePattern: '.*\\.(png|css)$',
      sessionAttributeFilter: 'foo|bar',
    })
    const { lockingMode, ignorePattern, attributeFilter } = options
    expect(lockingMode).toMatchObject({ kind: 'uriPattern', text: 'uriPattern:/path1|/path2' })
    expect(['/path1', '/path2'].every((path) => lockingMode.pattern?.test(path))).toBe(true)
    expect(['/path11', '/a/path2'].some((path) => lockingMode.pattern?.test(path))).toBe(false)
    expect([ignorePattern?.test('/a.png'), ignorePattern?.test('/a.png?v=1')]).toEqual([true, false])
    expect(['foo', 'bar'].every((name) => attributeFilter?.test(name))).toBe(true)
    expect(['food', 'a-bar', 'foobar'].some((name) => attributeFilter?.test(name))).toBe(false)
    expect(options.requestUriIgnorePattern).toBe('.*\\.(png|css)$')
    expect(options.sessionAttributeFilter).toBe('foo|bar')
  })

  test('may be a RegExp object, which gives the same answer every time', () => {
    const { ignorePattern, requestUriIgnorePattern } = resolveOptions({ requestUriIgnorePattern: /\/static\/.*/gimy })
    expect(requestUriIgnorePattern).toBe('/\\/static\\/.*/gimy')
    expect([1, 2, 3].map(() => ignorePattern?.test('/STATIC/a'))).toEqual([true, true, true])
    expect(ignorePattern?.test('/a/static/b')).toBe(false)
    expect(ignorePattern?.test('/x\n/static/b')).toBe(false)
  })

  test('may begin with (?i), as in Java', () => {
    expect(resolveOptions({ requestUriIgnorePattern: '(?i).*\\.png' }).ignorePattern?.test('/A.PNG')).toBe(true)
  })

  test('with an escape that only Java has is refused, instead of meaning something else', () => {
    expect(errorOf({ requestUriIgnorePattern: '\\Q/a.b\\E' })).toContain('JavaScript has no \\Q')
    expect(errorOf({ requestUriIgnorePattern: '/\\p{L}' })).toContain('JavaScript has no \\p')
    expect(resolveOptions({ requestUriIgnorePattern: '/\\\\Q' }).ignorePattern?.test('/\\Q')).toBe(true)
  })
})

describe('the cookie', () => {
  const cookieOf = (cookie: SessionManagerOptions['cookie']) => resolveOptions({ cookie }).cookie

  test('takes all of its attributes', () => {
    const cookie = {
      name: 'sid',
      path: '/app',
      domain: '.example.com',
      httpOnly: false,
      secure: true,
      sameSite: 'strict',
      partitioned: true,
      priority: 'high',
      maxAge: 3600,
    } as const
    expect(cookieOf(cookie)).toEqual(cookie)
    expect(cookieOf({ secure: false }).secure).toBe(false)
  })

  test.each([
    ['Lax', 'lax'],
    ['STRICT', 'strict'],
    ['none', 'none'],
    [true, 'strict'],
    [false, undefined],
  ])('takes sameSite %j as %j, as Express does', (given, expected) => {
    expect(cookieOf({ sameSite: given as 'lax' }).sameSite).toBe(expected)
  })

  test.each([
    [{ name: '' }, /^cookie\.name: "" is not valid\. It must be an RFC 6265 token/],
    [{ name: 'a b' }, /RFC 6265/],
    [{ name: 'a=b' }, /RFC 6265/],
    [{ name: 'a;b' }, /RFC 6265/],
    [{ name: 'a\r\nSet-Cookie: x' }, /RFC 6265/],
    [{ name: 'é' }, /RFC 6265/],
    [{ name: 'n'.repeat(4000) }, /RFC 6265/],
    [{ path: 'app' }, /^cookie\.path: "app" is not valid\. It must be a path that begins with '\/'/],
    [{ path: '/a;b' }, /^cookie\.path/],
    [{ path: '/a\n' }, /^cookie\.path/],
    [{ domain: '' }, /^cookie\.domain/],
    [{ domain: 'a b' }, /^cookie\.domain/],
    [{ domain: 'a;b' }, /^cookie\.domain/],
    [{ domain: 'a..b' }, /^cookie\.domain/],
    [{ path: '/a<b' }, /^cookie\.path/],
    [{ domain: '-a.com' }, /^cookie\.domain/],
    [{ domain: 'a-.com' }, /^cookie\.domain/],
    [{ domain: `${'a'.repeat(64)}.com` }, /^cookie\.domain/],
    [{ httpOnly: 'true' }, /^cookie\.httpOnly: "true" is not valid\. It must be true or false/],
    [{ secure: 'yes' }, /^cookie\.secure: "yes" is not valid\. It must be true or false, or 'auto'/],
    [{ sameSite: 'loose' }, /^cookie\.sameSite: "loose" is not valid\. It must be 'strict', 'lax', 'none'/],
    [{ partitioned: 1 }, /^cookie\.partitioned/],
    [{ priority: 'highest' }, /^cookie\.priority: "highest" is not valid\. It must be 'low', 'medium' or 'high'/],
    [{ maxAge: 0 }, /^cookie\.maxAge: 0 is not valid\. It must be a whole number of seconds/],
    [{ maxAge: '60' }, /^cookie\.maxAge/],
    ['JSESSIONID', /^cookie: "JSESSIONID" is not valid\. It must be an object/],
    [null, /^cookie: null/],
    [[], /^cookie: an array/],
  ])('%j is refused', (cookie, message) => {
    expect(errorOf({ cookie })).toMatch(message)
  })

  test.each([
    [{ sameSite: 'none', secure: false }, /cookie\.secure: false.*SameSite=None/],
    [{ name: '__Host-sid', secure: false }, /cookie\.secure: false.*__Host-/],
    [{ name: '__Host-sid', path: '/app' }, /cookie\.path: "\/app".*__Host-/],
    [{ name: '__host-sid', domain: 'example.com' }, /cookie\.domain: "example.com".*__Host-/],
    [{ name: '__Secure-sid', secure: false }, /cookie\.secure: false.*__Secure-/],
    [{ partitioned: true, secure: false }, /cookie\.secure: false.*Partitioned/],
  ])('%j is refused, as browsers drop such a cookie', (cookie, message) => {
    expect(errorOf({ cookie })).toMatch(message)
  })

  test.each([
    [{ sameSite: 'none' }],
    [{ name: '__Host-sid' }],
    [{ name: '__Secure-sid' }],
    [{ partitioned: true }],
  ] as const)('%j is always Secure, as it would be dropped without', (cookie) => {
    expect(cookieOf(cookie).secure).toBe(true)
  })
})

describe('resolved options', () => {
  test('are frozen, and take no part in what becomes of the object they came from', () => {
    const given = { memcachedNodes: TWO_NODES, cookie: { name: 'sid' } }
    const options = resolveOptions(given)
    given.memcachedNodes = 'h:1'
    given.cookie.name = 'changed'
    expect(options.raw).toEqual({ memcachedNodes: TWO_NODES, cookie: { name: 'sid' } })
    const parts = [
      options,
      options.raw,
      options.raw.cookie,
      options.cookie,
      options.lockingMode,
      options.warnings,
      options.nodes,
    ]
    for (const part of parts) expect(Object.isFrozen(part)).toBe(true)
  })

  test('can be resolved again with changes, so that defaults follow', () => {
    const before = resolveOptions({ memcachedNodes: TWO_NODES, failoverNodes: 'n1', operationTimeout: '500' })
    const after = resolveOptions({ ...before.raw, sticky: false, failoverNodes: undefined })
    expect(before.sessionBackupAsync).toBe(true)
    expect(after).toMatchObject({
      operationTimeout: 500,
      sessionBackupAsync: false,
      lockingMode: { kind: 'optimistic' },
    })
    expect(after.nodes.failoverNodeIds).toEqual([])
  })

  test('pass on transcoder, storage and logger objects as they are', () => {
    const transcoder = { name: 'own', encode: () => Buffer.alloc(0), decode: () => ({}) }
    const storage = () => ({}) as never
    const logger = { info() {}, warn() {}, error() {} }
    const options = resolveOptions({ transcoder, storage, logger })
    expect(options.transcoder).toBe(transcoder)
    expect(options.storage).toBe(storage)
    expect(options.logger).toBe(logger)
    expect(resolveOptions({ transcoder: 'json' }).transcoder).toBe('json')
  })
})
