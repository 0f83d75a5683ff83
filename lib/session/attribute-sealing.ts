import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { SessionManagerError } from '../errors.ts'
import type { ResolvedCompression, ResolvedEncryption } from '../options/sealing.ts'

/**
 * Begins what is compressed or encrypted: a byte that no MessagePack and no JSON begins with, so that plain records are
 * told apart, and what was done. What another transcoder begins with that byte is marked as plain.
 */
const MARK = 0xc1
const PLAIN = 0
const DEFLATED = 1
const ENCRYPTED = 2
const HEADER = 2
const KEY_ID = 4
const NONCE = 12
const TAG = 16
/** Bytes that a compressed session may have at most when it is unpacked. */
const MAX_UNPACKED = 16 * 1024 * 1024
const CIPHER = 'aes-256-gcm'

interface Key {
  readonly id: Buffer
  readonly bytes: Buffer
}

/**
 * Compresses and encrypts encoded attributes (AES-256-GCM). The random part of the session id is authenticated with them,
 * so that the record of one session does not open as that of another. Layout of an encrypted record: mark, kind, 4 bytes
 * of the key's SHA-256, nonce, tag, ciphertext.
 */
export class AttributeSealing {
  readonly #compression: ResolvedCompression | undefined
  readonly #keys: readonly Key[]
  readonly #readsPlain: boolean

  constructor(compression: ResolvedCompression | undefined, encryption: ResolvedEncryption | undefined) {
    this.#compression = compression
    this.#keys = (encryption?.keys ?? []).map((bytes) => ({ id: fingerprint(bytes), bytes }))
    this.#readsPlain = encryption?.readPlain ?? true
  }

  seal(bytes: Buffer, base: string): Buffer {
    const packed = this.#compression && bytes.length >= this.#compression.minBytes ? deflate(bytes) : marked(bytes)
    const key = this.#keys[0]
    return key ? encrypt(packed, base, key) : packed
  }

  /**
   * @throws SessionManagerError ERR_MSM_UNKNOWN_KEY if it is encrypted with a key that is not configured, ERR_MSM_DECODE if
   * it was tampered with, belongs to another session, or is plain although it should not be
   */
  open(stored: Buffer, base: string): Buffer {
    const kind = stored[0] === MARK ? stored[1] : undefined
    let packed = stored
    if (kind === ENCRYPTED) packed = this.#decrypt(stored, base)
    else if (!this.#readsPlain)
      throw decodeError('it is not encrypted; encryption.readPlain allows that for a migration')
    if (packed[0] !== MARK) return packed
    if (packed[1] === PLAIN) return packed.subarray(HEADER)
    return packed[1] === DEFLATED ? inflate(packed) : packed
  }

  #decrypt(stored: Buffer, base: string): Buffer {
    if (stored.length < HEADER + KEY_ID + NONCE + TAG) throw decodeError('it is too short to be encrypted')
    const id = stored.subarray(HEADER, HEADER + KEY_ID)
    const key = this.#keys.find((candidate) => candidate.id.equals(id))
    if (!key) {
      throw new SessionManagerError(
        'ERR_MSM_UNKNOWN_KEY',
        'A session is encrypted with a key that is not in encryption.keys; it is left as it is.',
      )
    }
    const nonceEnd = HEADER + KEY_ID + NONCE
    const decipher = createDecipheriv(CIPHER, key.bytes, stored.subarray(HEADER + KEY_ID, nonceEnd))
    decipher.setAAD(Buffer.from(base))
    decipher.setAuthTag(stored.subarray(nonceEnd, nonceEnd + TAG))
    try {
      return Buffer.concat([decipher.update(stored.subarray(nonceEnd + TAG)), decipher.final()])
    } catch {
      throw decodeError('it was changed, or belongs to another session')
    }
  }
}

function encrypt(bytes: Buffer, base: string, { id, bytes: key }: Key): Buffer {
  const nonce = randomBytes(NONCE)
  const cipher = createCipheriv(CIPHER, key, nonce)
  cipher.setAAD(Buffer.from(base))
  const text = cipher.update(bytes)
  const end = cipher.final()
  return Buffer.concat([Buffer.from([MARK, ENCRYPTED]), id, nonce, cipher.getAuthTag(), text, end])
}

/** Compressed, if that makes it smaller. */
function deflate(bytes: Buffer): Buffer {
  const deflated = deflateRawSync(bytes, { level: 1 })
  if (deflated.length + HEADER >= bytes.length) return marked(bytes)
  return Buffer.concat([Buffer.from([MARK, DEFLATED]), deflated])
}

function marked(bytes: Buffer): Buffer {
  return bytes[0] === MARK ? Buffer.concat([Buffer.from([MARK, PLAIN]), bytes]) : bytes
}

function inflate(bytes: Buffer): Buffer {
  try {
    return inflateRawSync(bytes.subarray(HEADER), { maxOutputLength: MAX_UNPACKED })
  } catch {
    throw decodeError('it can not be decompressed')
  }
}

function fingerprint(key: Buffer): Buffer {
  return createHash('sha256').update(key).digest().subarray(0, KEY_ID)
}

function decodeError(problem: string): SessionManagerError {
  return new SessionManagerError('ERR_MSM_DECODE', `Can't open the attributes of a session: ${problem}.`)
}
