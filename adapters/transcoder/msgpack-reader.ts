import { isForbiddenKey, type TranscoderLimits, undecodable } from './limits.ts'

/** Extension types that may occur in stored attributes. All but `MAP` are msgpackr's own. */
export const EXTENSION = {
  UNDEFINED: 0x00,
  BIG_INT: 0x42,
  /** Ours: a tag before a msgpack map, which is a Map then, and an object otherwise. */
  MAP: 0x4d,
  /** The number of the value that follows, for a pointer to it. */
  ID: 0x69,
  POINTER: 0x70,
  SET: 0x73,
  TYPED_ARRAY: 0x74,
  TIMESTAMP: 0xff,
} as const

/** The code of Uint8Array among the typed arrays. */
const UINT8_ARRAY = 1
/** Up to this size, strings are cut out of the text of all bytes; it stays in memory as long as one of them does. */
const MAX_SHARED_TEXT = 65_536
const MAX_SHARED_STRING = 1024
const NO_ID = -1

/**
 * Reads the msgpack that the transcoder writes, in one bounded pass: nothing but the listed types is ever built, no
 * length is believed, and nothing is executed. msgpackr's own reader builds whatever the bytes name (regular
 * expressions, errors, code for records), lets the host application's extensions change what it returns, and, without
 * its native part, drops a byte order mark at the start of a longer string.
 */
export class MsgpackReader {
  readonly #bytes: Buffer
  readonly #end: number
  #position = 0
  #levelsLeft: number
  /** The id of the value that is about to be read. */
  #id = NO_ID
  #byId: Map<number, unknown> | undefined
  /** All bytes as Latin-1: a string without multi-byte characters is a slice of it, many times faster than decoding. */
  #text: string | undefined

  constructor(bytes: Buffer, { maxDepth }: TranscoderLimits) {
    this.#bytes = bytes
    this.#end = bytes.length
    this.#levelsLeft = maxDepth + 1
  }

  /** The one value that the bytes hold. */
  read(): unknown {
    const value = this.#value()
    if (this.#position !== this.#end) throw this.#problem('bytes after the end')
    return value
  }

  #value(): unknown {
    const token = this.#uint8()
    if (token < 0x80) return token
    if (token < 0x90) return this.#object(token & 0x0f)
    if (token < 0xa0) return this.#array(token & 0x0f)
    if (token < 0xc0) return this.#string(token & 0x1f)
    if (token >= 0xe0) return token - 0x100
    switch (token) {
      case 0xc0:
        return null
      case 0xc2:
      case 0xc3:
        return token === 0xc3
      case 0xc4:
        return this.#buffer(this.#uint8())
      case 0xc5:
        return this.#buffer(this.#uint16())
      case 0xc6:
        return this.#buffer(this.#uint32())
      case 0xc7:
        return this.#extension(this.#uint8())
      case 0xc8:
        return this.#extension(this.#uint16())
      case 0xc9:
        return this.#extension(this.#uint32())
      case 0xca:
        return this.#bytes.readFloatBE(this.#take(4))
      case 0xcb:
        return this.#bytes.readDoubleBE(this.#take(8))
      case 0xcc:
        return this.#uint8()
      case 0xcd:
        return this.#uint16()
      case 0xce:
        return this.#uint32()
      case 0xcf:
        return this.#bytes.readBigUInt64BE(this.#take(8))
      case 0xd0:
        return this.#bytes.readInt8(this.#take(1))
      case 0xd1:
        return this.#bytes.readInt16BE(this.#take(2))
      case 0xd2:
        return this.#bytes.readInt32BE(this.#take(4))
      case 0xd3:
        return this.#bytes.readBigInt64BE(this.#take(8))
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return this.#extension(1 << (token - 0xd4))
      case 0xd9:
        return this.#string(this.#uint8())
      case 0xda:
        return this.#string(this.#uint16())
      case 0xdb:
        return this.#string(this.#uint32())
      case 0xdc:
        return this.#array(this.#uint16())
      case 0xdd:
        return this.#array(this.#uint32())
      case 0xde:
        return this.#object(this.#uint16())
      case 0xdf:
        return this.#object(this.#uint32())
      default:
        throw this.#problem('a byte that is no token')
    }
  }

  #object(size: number): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    this.#open(object)
    for (let i = 0; i < size; i++) {
      const key = this.#key()
      const value = this.#value()
      if (!isForbiddenKey(key)) object[key] = value
    }
    this.#levelsLeft++
    return object
  }

  #array(length: number): unknown[] {
    // Nothing is reserved for a claimed length: what is not there is noticed when it is read.
    const array: unknown[] = []
    this.#open(array)
    for (let i = 0; i < length; i++) array.push(this.#value())
    this.#levelsLeft++
    return array
  }

  #set(length: number): Set<unknown> {
    const set = new Set<unknown>()
    this.#open(set)
    for (let i = 0; i < length; i++) set.add(this.#value())
    this.#levelsLeft++
    return set
  }

  #map(size: number): Map<unknown, unknown> {
    const map = new Map<unknown, unknown>()
    this.#open(map)
    for (let i = 0; i < size; i++) {
      const key = this.#value()
      map.set(key, this.#value())
    }
    this.#levelsLeft++
    return map
  }

  /** Called before a container's first element is read, so that the elements can point to it. */
  #open(container: object): void {
    if (--this.#levelsLeft < 0) throw this.#problem('it nests too deeply')
    if (this.#id !== NO_ID) this.#register(this.#id, container)
  }

  #key(): string {
    const token = this.#uint8()
    if (token >= 0xa0 && token < 0xc0) return this.#string(token & 0x1f)
    if (token === 0xd9) return this.#string(this.#uint8())
    if (token === 0xda) return this.#string(this.#uint16())
    if (token === 0xdb) return this.#string(this.#uint32())
    throw this.#problem('a key that is no string')
  }

  #extension(length: number): unknown {
    const type = this.#uint8()
    const start = this.#take(length)
    switch (type) {
      case EXTENSION.UNDEFINED:
        return undefined
      case EXTENSION.BIG_INT:
        return this.#bigInt(start, length)
      case EXTENSION.MAP:
        return this.#map(this.#size(0x80, 0xde, 0xdf))
      case EXTENSION.SET:
        return this.#set(this.#size(0x90, 0xdc, 0xdd))
      case EXTENSION.ID:
        if (length === 4) return this.#identified(this.#bytes.readUInt32BE(start))
        break
      case EXTENSION.POINTER:
        if (length === 4) return this.#pointer(this.#bytes.readUInt32BE(start))
        break
      case EXTENSION.TYPED_ARRAY:
        if (length > 0 && this.#bytes[start] === UINT8_ARRAY) {
          return new Uint8Array(this.#bytes.subarray(start + 1, start + length))
        }
        break
      case EXTENSION.TIMESTAMP:
        return this.#date(start, length)
    }
    throw this.#problem(`the extension type ${type} with ${length} bytes, which is not allowed`)
  }

  /** The number of elements of the array or map that has to follow a tag. */
  #size(fixed: number, token16: number, token32: number): number {
    const token = this.#uint8()
    if ((token & 0xf0) === fixed) return token & 0x0f
    if (token === token16) return this.#uint16()
    if (token === token32) return this.#uint32()
    throw this.#problem('a tag before something else than what it is for')
  }

  #identified(id: number): unknown {
    // A tag before a tag is never written; a long row of them would be a way around the depth limit.
    if (this.#id !== NO_ID) throw this.#problem('two ids for one value')
    this.#id = id
    const value = this.#value()
    if (this.#id !== NO_ID) this.#register(id, value)
    return value
  }

  #register(id: number, value: unknown): void {
    this.#id = NO_ID
    this.#byId ??= new Map()
    this.#byId.set(id, value)
  }

  #pointer(id: number): unknown {
    if (!this.#byId?.has(id)) throw this.#problem('a pointer to nothing')
    return this.#byId.get(id)
  }

  /** Two's complement, big-endian, of any length. */
  #bigInt(start: number, length: number): bigint {
    if (length === 0) throw this.#problem('an empty integer')
    const value = BigInt(`0x${this.#bytes.toString('hex', start, start + length)}`)
    return BigInt.asIntN(8 * length, value)
  }

  /** The timestamp extension of the msgpack specification; a single byte is an invalid Date. */
  #date(start: number, length: number): Date {
    const bytes = this.#bytes
    if (length === 1) return new Date(Number.NaN)
    if (length === 4) return new Date(bytes.readUInt32BE(start) * 1000)
    if (length !== 8 && length !== 12) throw this.#problem('a timestamp of unknown length')
    const first = bytes.readUInt32BE(start)
    const nanoseconds = length === 8 ? first >>> 2 : first
    const high = length === 8 ? first & 0x3 : bytes.readInt32BE(start + 4)
    const seconds = high * 0x1_0000_0000 + bytes.readUInt32BE(start + length - 4)
    return new Date(seconds * 1000 + Math.floor(nanoseconds / 1_000_000))
  }

  /** A copy: what the app does to it must not reach the bytes that changes are detected against. */
  #buffer(length: number): Buffer {
    const start = this.#take(length)
    return Buffer.from(this.#bytes.subarray(start, start + length))
  }

  #string(length: number): string {
    const start = this.#take(length)
    const end = this.#position
    const bytes = this.#bytes
    if (length > MAX_SHARED_STRING || this.#end > MAX_SHARED_TEXT) return bytes.toString('utf8', start, end)
    for (let i = start; i < end; i++) {
      if (bytes[i]! >= 0x80) return bytes.toString('utf8', start, end)
    }
    this.#text ??= bytes.toString('latin1')
    return this.#text.slice(start, end)
  }

  #uint8(): number {
    if (this.#position >= this.#end) throw this.#problem('it ends too early')
    return this.#bytes[this.#position++]!
  }

  #uint16(): number {
    const start = this.#take(2)
    return (this.#bytes[start]! << 8) | this.#bytes[start + 1]!
  }

  #uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4))
  }

  /** Moves over `length` bytes and returns where they begin. */
  #take(length: number): number {
    const start = this.#position
    if (length > this.#end - start) throw this.#problem('a length that goes past the end')
    this.#position = start + length
    return start
  }

  #problem(problem: string): Error {
    return undecodable(`${problem} (before byte ${this.#position})`)
  }
}
