import type { ConnectionOptions } from 'node:tls'
import type { ConflictPolicy, MergeAttribute } from '../modes/non-sticky/attribute-merge.ts'
import type { Logger, SessionTranscoder, StorageClientFactory } from '../ports.ts'
import type { CookieOptions } from './cookie.ts'
import type { CompressionOptions, EncryptionOptions } from './sealing.ts'

/** Where a session id travels: in a cookie, in a header of its own, or in the path (`;jsessionid=…`). */
export type SessionTracking = 'cookie' | 'header' | 'url'
/** Makes an id; it is given the request of the framework. */
export type GenerateId = (request: never) => string
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
  /** Read besides, for what was stored with another `transcoder` before. @default none (ours) */
  readTranscoders?: readonly ('msgpack' | 'json' | SessionTranscoder)[]
  /** Encrypts attributes in the store, AES-256-GCM. What Tomcat could not read then. @default none (ours) */
  encryption?: EncryptionOptions
  /** Compresses attributes in the store from a size on. What Tomcat could not read then. @default none (ours) */
  compression?: boolean | CompressionOptions

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
   * What becomes of a response whose session could not be stored: it is sent, as MSM does, or replaced by an error, so that
   * no change is acknowledged that is not stored. Non-sticky mode. @default 'error' (ours)
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
  /**
   * Makes the random part of a new id, 16 to 128 letters, digits, dashes and underscores: at least 128 bits from a
   * cryptographic source. @default hex digits from node:crypto (Tomcat)
   */
  genid?: GenerateId
  /** Where the id of a request is looked for, in this order. @default ['cookie'] (ours; Tomcat adds 'url') */
  sessionTracking?: readonly SessionTracking[]
  /** The header that carries the id both ways, if `sessionTracking` has `'header'`. @default 'X-Session-Id' (ours) */
  sessionHeader?: string
  /** The name of the session cookie, as in express-session; the same as `cookie.name`. @default 'JSESSIONID' (Tomcat) */
  name?: string
  /** Sends the cookie again with every response, so that its lifetime begins anew. @default false (express-session) */
  rolling?: FlagOption
  /** Stores and announces new sessions also if nothing is in them. @default false (ours) */
  saveUninitialized?: FlagOption
  /**
   * What `req.session = null` and `delete req.session` do: `'destroy'` ends the session, `'keep'` forgets what the request
   * changed. @default 'keep' (express-session)
   */
  unset?: 'keep' | 'destroy'
  /** False: sessions are stored by `ctx.session.manuallyCommit()` only. @default true (koa-session) */
  autoCommit?: FlagOption
  /** True: `X-Forwarded-Proto` says whether a request is https; false: it never does. @default as the framework has it */
  proxy?: boolean
  /** Seconds from its creation after which a session ends, however much it is used; 0: no limit. @default 0 (ours) */
  maxLifetimeSeconds?: WholeOption
  /**
   * Seconds, up to 60, in which requests that still carry the id of before `regenerate` get the new session. Whoever
   * knows the old id gets it as well: leave it at 0 unless parallel requests at login need it. @default 0 (ours)
   */
  regenerateGraceSeconds?: WholeOption
  /** How many sessions may have the same `principal`; -1: no limit. @default -1 (ours) */
  maxSessionsPerPrincipal?: WholeOption
  /** What a login beyond that limit does: it is answered 403, or ends the oldest session. @default 'reject' (ours) */
  principalLimitPolicy?: 'reject' | 'destroy-oldest'
  /**
   * The session cookie, also as a function of the request, for what depends on it (`domain`, `secure`, …); the name can't.
   * @default { name: 'JSESSIONID', path: '/', httpOnly: true, secure: 'auto', sameSite: 'lax' }
   */
  cookie?: CookieOptions | ((request: never) => CookieOptions)

  // Upkeep

  /** Expired sessions are looked for at every n-th run of the background work. @default 6 (Tomcat) */
  processExpiresFrequency?: WholeOption
  /** Seconds between two runs of the background work. @default 10 (Tomcat) */
  backgroundProcessorDelay?: WholeOption
  /** On SIGTERM, waits for requests under way and stores what is to be stored, for 10 s, and ends. @default false (ours) */
  drainOnSignal?: FlagOption
  /** Counters and probes. @default true (MSM) */
  enableStatistics?: FlagOption
  /** Where to report to. @default console (ours) */
  logger?: Logger
}
