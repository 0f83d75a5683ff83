import type { ConnectionOptions } from 'node:tls'
import { isJvmRoute } from '../ids/session-id-format.ts'
import type { ConflictPolicy, MergeAttribute } from '../modes/non-sticky/attribute-merge.ts'
import type { NodesConfig } from '../nodes/memcached-nodes.ts'
import type { Logger, SessionTranscoder, StorageClientFactory } from '../ports.ts'
import type { CookieOfRequest, ResolvedCookie } from './cookie.ts'
import type { LockingMode } from './locking-mode.ts'
import type { ResolvedCompression, ResolvedEncryption } from './sealing.ts'
import type { GenerateId, SessionManagerOptions, SessionTracking } from './session-manager-options.ts'
import {
  either,
  flag,
  functionLike,
  INVALID,
  listOf,
  objectWith,
  oneOf,
  type Row,
  type Table,
  text,
  type ValueType,
  whole,
} from './values.ts'

/**
 * Options that stand on their own. A new one is a line here, a row in the table below, and its description in
 * SessionManagerOptions.
 */
export interface PlainOptions {
  readonly sticky: boolean
  readonly enabled: boolean
  readonly lockExpiration: number
  readonly operationTimeout: number
  readonly sessionBackupAsync: boolean
  readonly sessionBackupTimeout: number
  readonly lazy: boolean
  readonly touchAfterSeconds: number
  readonly lockTimeoutMs: number
  readonly lockTimeoutPolicy: 'proceed' | 'reject'
  readonly conflictPolicy: ConflictPolicy
  readonly mergeAttribute: MergeAttribute | undefined
  readonly storageFailurePolicy: 'error' | 'anonymous'
  readonly commitFailurePolicy: 'respond' | 'error'
  readonly tls: ConnectionOptions | undefined
  readonly rolling: boolean
  readonly saveUninitialized: boolean
  readonly unset: 'keep' | 'destroy'
  readonly autoCommit: boolean
  readonly genid: GenerateId | undefined
  readonly proxy: boolean | undefined
  readonly sessionTracking: readonly SessionTracking[]
  readonly sessionHeader: string
  readonly maxLifetimeSeconds: number
  readonly regenerateGraceSeconds: number
  readonly maxSessionsPerPrincipal: number
  readonly principalLimitPolicy: 'reject' | 'destroy-oldest'
  readonly username: string | undefined
  readonly password: string | undefined
  readonly enableStatistics: boolean
  readonly maxInactiveInterval: number
  readonly maxActiveSessions: number
  readonly sessionIdLength: number
  readonly jvmRoute: string | undefined
  readonly host: string
  readonly context: string
  readonly webappVersion: string | undefined
  readonly processExpiresFrequency: number
  readonly backgroundProcessorDelay: number
  readonly transcoder: 'msgpack' | 'json' | SessionTranscoder
  readonly readTranscoders: readonly ('msgpack' | 'json' | SessionTranscoder)[]
  readonly drainOnSignal: boolean
  readonly storage: 'auto' | StorageClientFactory
  readonly logger: Logger
}

/** All options, checked, with their defaults, and frozen. Holds passwords: never log it. */
export interface ResolvedOptions extends PlainOptions {
  /** What was given, for resolving again with changes. */
  readonly raw: Readonly<SessionManagerOptions>
  /** What works, but hardly as it was meant. To be logged at the start. */
  readonly warnings: readonly string[]
  readonly nodes: NodesConfig
  /** What `storageKeyPrefix` comes to, with `_` at its end; empty if there is none. */
  readonly keyPrefix: string
  /** Characters; no key made from a longer id fits into memcached. */
  readonly maxSessionIdLength: number
  readonly lockingMode: LockingMode
  /** As configured, for the log. */
  readonly requestUriIgnorePattern: string | undefined
  readonly ignorePattern: RegExp | undefined
  /** As configured, for the log. */
  readonly sessionAttributeFilter: string | undefined
  readonly attributeFilter: RegExp | undefined
  readonly encryption: ResolvedEncryption | undefined
  readonly compression: ResolvedCompression | undefined
  readonly cookie: ResolvedCookie
  /** The cookie of one request, if that depends on it. */
  readonly cookieOf: CookieOfRequest | undefined
}

const anyText = text('text', () => true)
const someText = text('text, not empty', (value) => value !== '')
const route = text('1 to 64 letters, digits, dots, dashes and underscores', isJvmRoute)

/** RFC 9110, 5.6.2. */
const headerName = text('the name of a header', (value) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$/.test(value))
const transcoderObject = objectWith<SessionTranscoder>('a SessionTranscoder: { name, encode, decode }', [
  'encode',
  'decode',
])

const transcoder = either(oneOf('msgpack', 'json'), transcoderObject)
const transcoderList: ValueType<readonly ('msgpack' | 'json' | SessionTranscoder)[]> = {
  form: `a list, each of it ${transcoder.form}`,
  parse: (value) => {
    const parsed = Array.isArray(value) ? value.map((item) => transcoder.parse(item)) : [INVALID]
    return parsed.includes(INVALID) ? INVALID : Object.freeze(parsed as ('msgpack' | 'json' | SessionTranscoder)[])
  },
}

/** An option that MSM or Tomcat has as an XML attribute. */
function attribute<T>(type: ValueType<T & {}>, value: T): Row<T, PlainOptions> {
  return { type, default: value, text: true }
}

export const PLAIN_OPTIONS: Table<PlainOptions> = {
  sticky: attribute(flag, true),
  enabled: attribute(flag, true),
  lockExpiration: attribute(whole('seconds', 1), 5),
  operationTimeout: attribute(whole('milliseconds', 1), 1000),
  sessionBackupAsync: { type: flag, text: true, defaultFrom: ({ sticky }) => sticky },
  sessionBackupTimeout: attribute(whole('milliseconds', 1), 100),
  lazy: { type: flag, default: false, text: true },
  touchAfterSeconds: { type: whole('seconds', 0), default: 1, text: true },
  lockTimeoutMs: {
    type: whole('milliseconds', 0),
    text: true,
    defaultFrom: ({ operationTimeout }) => operationTimeout,
  },
  lockTimeoutPolicy: { type: oneOf('proceed', 'reject'), default: 'proceed' },
  conflictPolicy: { type: oneOf('mine', 'theirs', 'reject'), default: 'mine' },
  mergeAttribute: {
    type: functionLike<MergeAttribute>('a function (name, base, mine, theirs) => value'),
    default: undefined,
  },
  storageFailurePolicy: { type: oneOf('error', 'anonymous'), default: 'error' },
  commitFailurePolicy: { type: oneOf('respond', 'error'), default: 'error' },
  tls: { type: objectWith<ConnectionOptions>('options of node:tls, such as { ca }', []), secret: true },
  rolling: { type: flag, default: false, text: true },
  saveUninitialized: { type: flag, default: false, text: true },
  unset: { type: oneOf('keep', 'destroy'), default: 'keep' },
  autoCommit: { type: flag, default: true, text: true },
  genid: { type: functionLike<GenerateId>('a function (request) => id'), default: undefined },
  proxy: { type: flag, default: undefined },
  sessionTracking: { type: listOf('cookie', 'header', 'url'), default: Object.freeze(['cookie'] as const) },
  sessionHeader: { type: headerName, default: 'X-Session-Id' },
  maxLifetimeSeconds: { type: whole('seconds (0: no limit)', 0), default: 0, text: true },
  regenerateGraceSeconds: { type: whole('seconds', 0, 60), default: 0, text: true },
  maxSessionsPerPrincipal: { type: whole('sessions (-1: no limit)', -1), default: -1, text: true },
  principalLimitPolicy: { type: oneOf('reject', 'destroy-oldest'), default: 'reject' },
  username: attribute<string | undefined>(someText, undefined),
  password: { type: someText, secret: true },
  enableStatistics: attribute(flag, true),
  maxInactiveInterval: attribute(whole('seconds (0 or less: never)', -(2 ** 31)), 1800),
  maxActiveSessions: attribute(whole('sessions (-1: no limit)', -1), -1),
  sessionIdLength: attribute(whole('bytes', 16, 64), 16),
  jvmRoute: attribute<string | undefined>(route, undefined),
  host: attribute(anyText, 'localhost'),
  context: attribute(anyText, ''),
  webappVersion: attribute<string | undefined>(anyText, undefined),
  processExpiresFrequency: attribute(whole('runs', 1), 6),
  backgroundProcessorDelay: attribute(whole('seconds', 1), 10),
  transcoder: { type: transcoder, default: 'msgpack' },
  readTranscoders: { type: transcoderList, default: Object.freeze([]) },
  drainOnSignal: { type: flag, default: false, text: true },
  storage: {
    type: either<'auto', StorageClientFactory>(oneOf('auto'), functionLike('a StorageClientFactory function')),
    default: 'auto',
  },
  logger: {
    type: objectWith<Logger>('a logger with info, warn and error, such as console', ['info', 'warn', 'error']),
    default: console,
  },
}
