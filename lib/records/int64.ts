const TWO_32 = 0x1_0000_0000

/** Writes a big-endian int32 at `offset`. */
export function writeInt32(bytes: Uint8Array, value: number, offset: number): void {
  bytes[offset] = value >>> 24
  bytes[offset + 1] = value >>> 16
  bytes[offset + 2] = value >>> 8
  bytes[offset + 3] = value
}

/** Reads a big-endian int32; the caller has checked that four bytes are there. */
export function readInt32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!
}

/** Writes a safe integer as a big-endian int64. In two halves, as going through BigInt takes several times as long. */
export function writeInt64(bytes: Uint8Array, value: number, offset: number): void {
  writeInt32(bytes, Math.floor(value / TWO_32), offset)
  writeInt32(bytes, value >>> 0, offset + 4)
}

/** Reads a big-endian int64. One that a number can't hold exactly comes out as an unsafe integer. */
export function readInt64(bytes: Uint8Array, offset: number): number {
  return readInt32(bytes, offset) * TWO_32 + (readInt32(bytes, offset + 4) >>> 0)
}

/** True for what an int32 can hold. */
export function isInt32(value: number): boolean {
  return (value | 0) === value
}
