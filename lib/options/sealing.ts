import { checkNames } from './names.ts'
import { flag, INVALID, optionError, resolveTable, show, type Table, type ValueType, whole } from './values.ts'

export interface EncryptionOptions {
  /**
   * Keys of 32 bytes, as they are or in hex or base64: the first one encrypts, all decrypt. To change the key, add the new
   * one at the end everywhere, then move it to the front, then drop the old one when its sessions have ended.
   */
  keys: readonly (string | Uint8Array)[]
  /** True: sessions that are not encrypted are read as well, for as long as a migration takes. @default false */
  readPlain?: boolean
}

export interface CompressionOptions {
  /** Bytes of encoded attributes from which on they are compressed. @default 2048 */
  minBytes?: number
}

export interface ResolvedEncryption {
  readonly keys: readonly Buffer[]
  readonly readPlain: boolean
}

export interface ResolvedCompression {
  readonly minBytes: number
}

const KEY_BYTES = 32

const keyList: ValueType<readonly Buffer[]> = {
  form: 'a list of keys of 32 bytes, each as a Buffer or as text in hex or base64',
  parse: (value) => {
    if (!Array.isArray(value) || value.length === 0) return INVALID
    const keys = value.map(parseKey)
    return keys.some((key) => key === undefined) ? INVALID : Object.freeze(keys as Buffer[])
  },
}

const ENCRYPTION: Table<ResolvedEncryption> = {
  keys: { type: keyList, secret: true },
  readPlain: { type: flag, default: false },
}
const COMPRESSION: Table<ResolvedCompression> = { minBytes: { type: whole('bytes', 0), default: 2048 } }

/** @throws TypeError that shows no key */
export function resolveEncryption(value: unknown): ResolvedEncryption | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null) throw optionError('encryption', '(not shown)', 'an object { keys }')
  checkNames(value, Object.keys(ENCRYPTION), 'encryption.')
  const resolved = resolveTable(ENCRYPTION, value, 'encryption.')
  if (resolved.keys === undefined) throw optionError('encryption.keys', 'undefined', keyList.form)
  return Object.freeze(resolved)
}

/** @throws TypeError */
export function resolveCompression(value: unknown): ResolvedCompression | undefined {
  if (value === undefined || value === false) return undefined
  const given = value === true ? {} : value
  if (typeof given !== 'object' || given === null) {
    throw optionError('compression', show(value), 'true, or an object { minBytes }')
  }
  checkNames(given, Object.keys(COMPRESSION), 'compression.')
  return Object.freeze(resolveTable(COMPRESSION, given, 'compression.'))
}

function parseKey(value: unknown): Buffer | undefined {
  if (value instanceof Uint8Array) return value.length === KEY_BYTES ? Buffer.from(value) : undefined
  if (typeof value !== 'string') return undefined
  if (/^[0-9a-f]{64}$/i.test(value)) return Buffer.from(value, 'hex')
  const bytes = Buffer.from(value, 'base64')
  return bytes.length === KEY_BYTES && /^[\w+/=-]{43,44}$/.test(value) ? bytes : undefined
}
