import { parseStorageKeyPrefix, StorageKeyFormat } from './ids/storage-key-format.ts'
import { type NodesConfig, parseNodes } from './nodes/memcached-nodes.ts'
import { resolveCookieOption } from './options/cookie.ts'
import { parseLockingMode } from './options/locking-mode.ts'
import { checkNames } from './options/names.ts'
import { compilePattern, type Pattern } from './options/pattern.ts'
import { PLAIN_OPTIONS, type PlainOptions, type ResolvedOptions } from './options/resolved-options.ts'
import { resolveCompression, resolveEncryption } from './options/sealing.ts'
import type { SessionManagerOptions } from './options/session-manager-options.ts'
import { optionError, resolveTable, show } from './options/values.ts'
import { findWarnings } from './options/warnings.ts'

export type { CookieOptions, ResolvedCookie } from './options/cookie.ts'
export type { LockingMode, LockingModeKind } from './options/locking-mode.ts'
export type { ResolvedOptions } from './options/resolved-options.ts'
export type {
  FlagOption,
  GenerateId,
  SessionManagerOptions,
  SessionTracking,
  WholeOption,
} from './options/session-manager-options.ts'

/** The options that are more than one value, or whose meaning depends on others. */
const OTHER_OPTIONS: Record<Exclude<keyof SessionManagerOptions, keyof PlainOptions>, true> = {
  memcachedNodes: true,
  failoverNodes: true,
  storageKeyPrefix: true,
  lockingMode: true,
  requestUriIgnorePattern: true,
  sessionAttributeFilter: true,
  cookie: true,
  name: true,
  encryption: true,
  compression: true,
}
const KNOWN_OPTIONS = [...Object.keys(PLAIN_OPTIONS), ...Object.keys(OTHER_OPTIONS)]

/**
 * Parses, defaults, checks and freezes options, once. To change some later, resolve `{ ...resolved.raw, ...changes }`.
 *
 * @throws TypeError that names option, value and right form, and shows no password.
 */
export function resolveOptions(options: SessionManagerOptions = {}): ResolvedOptions {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    // A string here could be a URL with a password.
    throw optionError(
      'options',
      `a value of type ${Array.isArray(options) ? 'array' : typeof options}`,
      "an object such as { memcachedNodes: 'n1:host:11211' }",
    )
  }
  checkNames(options, KNOWN_OPTIONS)
  const plain = resolveTable(PLAIN_OPTIONS, options)
  checkTogether(plain)
  const nodes = resolveNodes(options, plain)
  const keyPrefix = resolveKeyPrefix(options, plain)
  const ignored = pattern('requestUriIgnorePattern', options.requestUriIgnorePattern)
  const filter = pattern('sessionAttributeFilter', options.sessionAttributeFilter)
  const resolved = {
    ...plain,
    raw: copyOf(options),
    nodes,
    keyPrefix,
    maxSessionIdLength: maxSessionIdLength(options, plain, nodes, keyPrefix),
    lockingMode: parseLockingMode(options.lockingMode, plain.sticky),
    requestUriIgnorePattern: ignored?.text,
    ignorePattern: ignored?.regExp,
    sessionAttributeFilter: filter?.text,
    attributeFilter: filter?.regExp,
    encryption: resolveEncryption(options.encryption),
    compression: resolveCompression(options.compression),
    ...resolveCookieOption(options.cookie, options.name),
  }
  return Object.freeze({ ...resolved, warnings: Object.freeze(findWarnings(resolved)) })
}

function checkTogether({ sticky, enabled, username, password, transcoder }: PlainOptions): void {
  if (!enabled && !sticky) {
    throw new TypeError(
      'enabled: false is not valid with sticky: false, which has sessions nowhere else. It must be true.',
    )
  }
  if ((username === undefined) !== (password === undefined)) {
    const [given, missing] = username === undefined ? ['password', 'username'] : ['username', 'password']
    throw new TypeError(`${missing}: undefined is not valid. It must be given, as ${given} is, or both left out.`)
  }
  if (typeof transcoder === 'object' && (typeof transcoder.name !== 'string' || transcoder.name === '')) {
    throw optionError('transcoder.name', show(transcoder.name), 'text, not empty')
  }
}

/** In non-sticky mode every node is a primary: sessions there move to whatever node is next (GH207, GH115). */
function resolveNodes({ memcachedNodes, failoverNodes }: SessionManagerOptions, { sticky }: PlainOptions): NodesConfig {
  const nodes = parseNodes(memcachedNodes, failoverNodes)
  return sticky || nodes.failoverNodeIds.length === 0 ? nodes : parseNodes(memcachedNodes)
}

function resolveKeyPrefix({ storageKeyPrefix }: SessionManagerOptions, plain: PlainOptions): string {
  const config: unknown = storageKeyPrefix === undefined ? 'webappVersion' : storageKeyPrefix
  if (config !== null && typeof config !== 'string') {
    throw optionError('storageKeyPrefix', show(config), "text such as 'webappVersion' or 'static:x,host.hash'")
  }
  return parseStorageKeyPrefix(config, plain)
}

/** Checks that the longest id of this process fits into all of its keys, and says how long one may be. */
function maxSessionIdLength(
  options: SessionManagerOptions,
  plain: PlainOptions,
  nodes: NodesConfig,
  keyPrefix: string,
): number {
  const max = new StorageKeyFormat(keyPrefix).maxSessionIdLength
  const nodeId = Math.max(0, ...nodes.nodeIds.map((id) => id.length + 1))
  const own = 2 * plain.sessionIdLength + nodeId + (plain.jvmRoute === undefined ? 0 : plain.jvmRoute.length + 1)
  if (own <= max) return max
  if (keyPrefix === '') {
    const form = `less: ids of ${own} characters (with node id and jvmRoute) don't fit into a key; ${max} do`
    throw optionError('sessionIdLength', String(plain.sessionIdLength), form)
  }
  const form = `shorter: with a prefix of ${keyPrefix.length} and ids of ${own} characters, keys are over 250 bytes`
  throw optionError('storageKeyPrefix', show(options.storageKeyPrefix ?? 'webappVersion'), form)
}

function pattern(name: string, value: unknown): Pattern | undefined {
  return value === undefined ? undefined : compilePattern(name, value)
}

function copyOf(options: SessionManagerOptions): Readonly<SessionManagerOptions> {
  const cookie = typeof options.cookie === 'object' && { cookie: Object.freeze({ ...options.cookie }) }
  return Object.freeze({ ...options, ...cookie })
}
