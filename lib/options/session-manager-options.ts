import type { ConnectionOptions } from 'node:tls'
import type { ConflictPolicy, MergeAttribute } from '../modes/non-sticky/attribute-merge.ts'
import type { Logger, SessionTranscoder, StorageClientFactory } from '../ports.ts'
import type { CookieOptions } from './cookie.ts'

/** A flag, also as it stands in an XML attribute. */
export type FlagOption = boolean | `${boolean}`
/** A whole number, also as it stands in an XML attribute. */
export type WholeOption = number | `${number}`

/**
 * The options of a session manager. They have the names, units and meaning of the attributes of Tomcat's
 * memcached-session-manager (MSM), whose values can be copied over as they stand: flags and numbers may be text.
 */
export interface SessionManagerOptions {
  // Where sessions are stored

  /**
   * `host:port` (one node, not named in session ids), a list `n1:host:port,n2:host:port` by comma or space, a URL
   * `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`, or a list of `n1:redis://…`.
   * @default the memory of this process (source: ours; MSM requires it)
   */
  memcachedNodes?: string
  /** Ids of nodes to use only when no other is left, by comma or space. Sticky mode only. @default none (MSM) */
  failoverNodes?: string | null
  /** SASL user name, for memcached; Redis takes its from the URL. @default none (MSM) */
  username?: string
  /** TLS options of `rediss://` nodes, as node:tls has them: `ca`, `cert`, `key`, … @default Node's own (ours) */
  tls?: ConnectionOptions
  /** SASL password, for memcached; Redis takes its from the URL. @default none (MSM) */
  password?: string
  /**
   * What comes before the session id in storage keys: a comma list of `static:<text>`, `host`, `host.hash`, `context`,
   * `context.hash` and `webappVersion`. Parts without a value are left out. @default 'webappVersion' (MSM)
   */
  storageKeyPrefix?: string | null
  /** The value of `host` in `storageKeyPrefix`. @default 'localhost' (Tomcat's default host) */
  host?: string
  /** The value of `context` in `storageKeyPrefix`; Tomcat's is empty or begins with `/`. @default '' (Tomcat) */
  context?: string
  /** The value of `webappVersion` in `storageKeyPrefix`. @default none (Tomcat) */
  webappVersion?: string
  /** Makes the client of a node; `'auto'` chooses by its address. @default 'auto' (ours) */
  storage?: 'auto' | StorageClientFactory
  /** How attributes become bytes. @default 'msgpack' (ours; MSM: transcoderFactoryClass) */
  transcoder?: 'msgpack' | 'json' | SessionTranscoder

  // How sessions are stored

  /** True: this process holds its sessions and backs them up. False: the storage holds them. @default true (MSM) */
  sticky?: FlagOption
  /** False: nothing is stored, sessions stay in the process. Needs sticky mode. @default true (MSM) */
  enabled?: FlagOption
  /** Milliseconds after which a storage operation is given up. @default 1000 (MSM) */
  operationTimeout?: WholeOption
  /**
   * True: a response does not wait for its session to be stored. @default true in sticky mode (MSM), false in non-sticky
   * mode, where true loses data (GH280, GH312)
   */
  sessionBackupAsync?: FlagOption
  /** Milliseconds a response waits for its session to be stored, without `sessionBackupAsync`. @default 100 (MSM) */
  sessionBackupTimeout?: WholeOption
  /**
   * Which requests of one session exclude each other: `none`, `all`, `auto` (those that write), `uriPattern:<regex>`,
   * `app` (those that ask), or `optimistic` (none: changes are merged). In sticky mode a queue in this process does it,
   * and `auto` and `optimistic` have no effect. @default 'none' in sticky mode (MSM), 'optimistic' in non-sticky mode
   */
  lockingMode?: 'none' | 'all' | 'auto' | 'app' | 'optimistic' | `uriPattern:${string}` | (string & {})
  /** Seconds after which the lock of a process that died is free. @default 5 (MSM) */
  lockExpiration?: WholeOption
  /** Milliseconds a request waits for the lock of its session. @default operationTimeout (MSM) */
  lockTimeoutMs?: WholeOption
  /**
   * What becomes of a request that does not get the lock in time: it goes on, and its changes are merged with those of
   * others, or it is answered 503. @default 'proceed' (MSM; there the later write won)
   */
  lockTimeoutPolicy?: 'proceed' | 'reject'
  /**
   * Whose value an attribute gets that two requests changed at the same time; `'reject'` answers the second one 409 and
   * stores none of its changes. Non-sticky mode. @default 'mine', with an event (ours)
   */
  conflictPolicy?: ConflictPolicy
  /** Joins the values of an attribute that two requests changed, in place of `conflictPolicy`. @default none (ours) */
  mergeAttribute?: MergeAttribute
  /** True: nothing is loaded before a request asks for it by `loadSession()`. @default false (ours) */
  lazy?: FlagOption
  /** Seconds within which the use of a session is not noted in the store again. Non-sticky mode. @default 1 (ours) */
  touchAfterSeconds?: WholeOption
  /**
   * What becomes of a request whose session no node can be asked for: it is answered 503, or served with an empty session
   * that is not stored, its cookie untouched. Non-sticky mode. @default 'error' (ours)
   */
  storageFailurePolicy?: 'error' | 'anonymous'
  /**
   * What becomes of a response whose session could not be stored: it is sent, or replaced by a 503. Non-sticky mode.
   * @default 'respond' (ours)
   */
  commitFailurePolicy?: 'respond' | 'error'
  /**
   * Requests that leave sessions alone. It has to match the whole of the path, of path and query, or of
   * `METHOD path?query`. @default none (MSM)
   */
  requestUriIgnorePattern?: string | RegExp
  /** Names of the attributes that are stored; it has to match the whole name. @default all (MSM) */
  sessionAttributeFilter?: string | RegExp

  // Sessions and ids

  /** Seconds without a request after which a session ends; 0 or less: never. @default 1800 (Tomcat) */
  maxInactiveInterval?: WholeOption
  /** How many sessions this process holds at most; -1: no limit. @default -1 (Tomcat) */
  maxActiveSessions?: WholeOption
  /** Random bytes of a session id, 16 to 64 (OWASP wants 128 bits or more). @default 16 (Tomcat) */
  sessionIdLength?: WholeOption
  /** Names this process in session ids, for the balancer: letters, digits, dots, dashes, underscores. @default none */
  jvmRoute?: string
  /** The session cookie. @default { name: 'JSESSIONID', path: '/', httpOnly: true, secure: 'auto', sameSite: 'lax' } */
  cookie?: CookieOptions

  // Upkeep

  /** Expired sessions are looked for at every n-th run of the background work. @default 6 (Tomcat) */
  processExpiresFrequency?: WholeOption
  /** Seconds between two runs of the background work. @default 10 (Tomcat) */
  backgroundProcessorDelay?: WholeOption
  /** Counters and probes. @default true (MSM) */
  enableStatistics?: FlagOption
  /** Where to report to. @default console (ours) */
  logger?: Logger
}
