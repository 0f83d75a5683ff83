import type { ConnectionOptions } from 'node:tls'
import { isJvmRoute } from '../ids/session-id-format.ts'
import type { ConflictPolicy, MergeAttribute } from '../modes/non-sticky/attribute-merge.ts'
import type { NodesConfig } from '../nodes/memcached-nodes.ts'
import type { Logger, SessionTranscoder, StorageClientFactory } from '../ports.ts'
import type { ResolvedCookie } from './cookie.ts'
import type { LockingMode } from './locking-mode.ts'
import type { SessionManagerOptions } from './session-manager-options.ts'
import {
  either,
  flag,
  INVALID,
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
  readonly cookie: ResolvedCookie
}

const anyText = text('text', () => true)
const someText = text('text, not empty', (value) => value !== '')
const route = text('1 to 64 letters, digits, dots, dashes and underscores', isJvmRoute)

const factory: ValueType<StorageClientFactory> = {
  form: 'a StorageClientFactory function',
  parse: (value) => (typeof value === 'function' ? (value as StorageClientFactory) : INVALID),
}
const mergeFunction: ValueType<MergeAttribute> = {
  form: 'a function (name, base, mine, theirs) => value',
  parse: (value) => (typeof value === 'function' ? (value as MergeAttribute) : INVALID),
}
const transcoderObject = objectWith<SessionTranscoder>('a SessionTranscoder: { name, encode, decode }', [
  'encode',
  'decode',
])

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
  mergeAttribute: { type: mergeFunction, default: undefined },
  storageFailurePolicy: { type: oneOf('error', 'anonymous'), default: 'error' },
  commitFailurePolicy: { type: oneOf('respond', 'error'), default: 'respond' },
  tls: { type: objectWith<ConnectionOptions>('options of node:tls, such as { ca }', []), secret: true },
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
  transcoder: { type: either(oneOf('msgpack', 'json'), transcoderObject), default: 'msgpack' },
  storage: { type: either<'auto', StorageClientFactory>(oneOf('auto'), factory), default: 'auto' },
  logger: {
    type: objectWith<Logger>('a logger with info, warn and error, such as console', ['info', 'warn', 'error']),
    default: console,
  },
}
