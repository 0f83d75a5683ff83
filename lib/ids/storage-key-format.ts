import { createHash } from 'node:crypto'

/** memcached's limit, in bytes. */
const MAX_KEY_BYTES = 250
/** Printable ASCII without space: what a memcached key may hold. */
const KEY_CHARACTERS = /^[\x21-\x7e]*$/
const RESERVED = /^(?:lock|bak|validity|gone|next|principal|ended):/

const PREFIX_FORM =
  "a comma list of 'static:<text>', 'host', 'host.hash', 'context', 'context.hash' and 'webappVersion'"

/** What the tokens of `storageKeyPrefix` stand for. */
export interface StorageKeyPrefixValues {
  readonly host?: string | undefined
  readonly context?: string | undefined
  readonly webappVersion?: string | undefined
}

/**
 * The keys of one session, byte for byte those of the original. A key is made from a session id, and never taken apart
 * again: a prefix may hold dashes and dots (GH350).
 */
export class StorageKeyFormat {
  /** With the `_` at its end, or empty. */
  readonly prefix: string
  readonly #validity: string
  readonly #lock: string
  readonly #backup: string
  readonly #validityBackup: string
  readonly #tombstone: string

  constructor(prefix = '') {
    this.prefix = prefix
    this.#validity = `validity:${prefix}`
    this.#lock = `lock:${prefix}`
    this.#backup = `bak:${prefix}`
    this.#tombstone = `gone:${prefix}`
    // Twice the prefix: the original makes the backup key from the validity key as from a session id.
    this.#validityBackup = `bak:${prefix}validity:${prefix}`
  }

  /** Characters of the longest id all of whose keys memcached takes. */
  get maxSessionIdLength(): number {
    return MAX_KEY_BYTES - this.#validityBackup.length
  }

  session(id: string): string {
    return this.prefix + id
  }

  validity(id: string): string {
    return this.#validity + id
  }

  lock(id: string): string {
    return this.#lock + id
  }

  /** The second copy of the session. */
  backup(id: string): string {
    return this.#backup + id
  }

  /** The second copy of the validity info. */
  validityBackup(id: string): string {
    return this.#validityBackup + id
  }

  /** Says that a session was destroyed. It has the part of the id that never changes, wherever the session was. */
  tombstone(base: string): string {
    return this.#tombstone + base
  }

  /** Holds the id of the session that took this one's place. */
  successor(base: string): string {
    return `next:${this.prefix}${base}`
  }

  /** Lists the sessions of a principal, whose name is hashed. */
  principal(hash: string): string {
    return `principal:${this.prefix}${hash}`
  }

  /** Lists the sessions of a process that others have ended. */
  ended(jvmRoute: string): string {
    return `ended:${this.prefix}${jvmRoute}`
  }

  isBackupKey(key: string): boolean {
    return key.startsWith('bak:')
  }
}

/**
 * The storage key prefix a `storageKeyPrefix` stands for, with `_` at its end; empty if no token has a value
 * (StorageKeyFormatTest).
 *
 * @throws TypeError for an unknown token, and for a prefix that a key can't begin with.
 */
export function parseStorageKeyPrefix(config: string | null | undefined, values: StorageKeyPrefixValues): string {
  if (config === null || config === undefined || config.trim() === '') return ''
  const parts = config
    .split(',')
    .map((token) => tokenValue(config, token.trim(), values))
    .filter((value) => value.trim() !== '')
  if (parts.length === 0) return ''
  const prefix = `${parts.join(':')}_`
  if (!KEY_CHARACTERS.test(prefix)) {
    throw refused(config, `It gives ${JSON.stringify(prefix)}, but a key holds printable ASCII without spaces only.`)
  }
  if (RESERVED.test(prefix)) {
    throw refused(
      config,
      `It gives ${JSON.stringify(prefix)}, but 'lock:', 'bak:', 'validity:', 'gone:', 'next:', 'principal:' and 'ended:' are reserved.`,
    )
  }
  return prefix
}

function tokenValue(config: string, token: string, values: StorageKeyPrefixValues): string {
  if (token.startsWith('static:') && token.length > 'static:'.length) return token.slice('static:'.length)
  switch (token) {
    case 'host':
      return values.host ?? ''
    case 'host.hash':
      return hash(values.host)
    case 'context':
      return values.context ?? ''
    case 'context.hash':
      return hash(values.context)
    case 'webappVersion':
      return values.webappVersion ?? ''
    default:
      throw refused(config, `The part ${JSON.stringify(token)} is unknown: it must be ${PREFIX_FORM}.`)
  }
}

/** The root context is the empty string and has a hash like any other, in the original too. */
function hash(value = ''): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 8)
}

function refused(config: string, reason: string): TypeError {
  return new TypeError(`storageKeyPrefix: ${JSON.stringify(config)} is not valid. ${reason}`)
}
