import { SessionManagerError } from '../errors.ts'
import { isInt32, readInt32, readInt64, writeInt32, writeInt64 } from './int64.ts'

/** The version of the session header this package writes. */
export const SESSION_RECORD_VERSION = 2

/** A stored session: the header's fields, and the attributes as the transcoder wrote them. */
export interface SessionRecord {
  /** 2, or 1 for a record of an old MSM, which has no `savedRequest` and no `savedPrincipal`. */
  version: number
  /** Epoch milliseconds. */
  creationTime: number
  /** Epoch milliseconds: when the request before the current one began. */
  lastAccessedTime: number
  /** Seconds; 0 or less: the session never expires. */
  maxInactiveInterval: number
  isNew: boolean
  isValid: boolean
  /** Epoch milliseconds: when the current request began. */
  thisAccessedTime: number
  /** Epoch milliseconds; 0: never. */
  lastBackupTime: number
  id: string
  /** Tomcat's code: 0 none, 1 BASIC, 2 CLIENT_CERT, 3 DIGEST, 4 FORM. */
  authType: number
  /** Tomcat's principal; opaque, carried verbatim, empty if none. */
  principal: Buffer
  /** Tomcat's saved request of a form login; opaque, carried verbatim, empty if none. */
  savedRequest: Buffer
  /** Tomcat's saved principal of a form login; opaque, carried verbatim, empty if none. */
  savedPrincipal: Buffer
  attributes: Buffer
}

/** All up to the id, which has the first length of the header that varies. */
const FIXED_LENGTH = 42
/** The header with an empty id, principal, saved request and saved principal. */
const MIN_HEADER_LENGTH = [0, FIXED_LENGTH + 6, FIXED_LENGTH + 10]
/** Java reads every length in the header as a signed 16-bit number. */
const MAX_HEADER_LENGTH = 32_767
const ZERO = 0x30
const ONE = 0x31
const NO_BYTES: Buffer = Buffer.alloc(0)

/**
 * The bytes of a session record, as MSM's TranscoderService writes them: version 2, or the layout of version 1 for a
 * record that was read as one.
 *
 * @throws SessionManagerError `ERR_MSM_INVALID_RECORD` for a header of more than 32,767 bytes, or a field out of range.
 */
export function encodeSessionRecord(record: SessionRecord): Buffer {
  const { version, id, principal, savedRequest, savedPrincipal, attributes } = record
  checkFields(record)
  const idLength = Buffer.byteLength(id)
  const headerLength =
    MIN_HEADER_LENGTH[version]! + idLength + principal.length + savedRequest.length + savedPrincipal.length
  if (headerLength > MAX_HEADER_LENGTH) {
    throw invalid(
      `its header would take ${headerLength} bytes, and ${MAX_HEADER_LENGTH} is the most: id, principal, saved request ` +
        'and saved principal are too long together',
    )
  }
  const bytes = Buffer.allocUnsafe(headerLength + attributes.length)
  writeInt16(bytes, version, 0)
  writeInt16(bytes, headerLength, 2)
  writeInt64(bytes, record.creationTime, 4)
  writeInt64(bytes, record.lastAccessedTime, 12)
  writeInt32(bytes, record.maxInactiveInterval, 20)
  bytes[24] = record.isNew ? ONE : ZERO
  bytes[25] = record.isValid ? ONE : ZERO
  writeInt64(bytes, record.thisAccessedTime, 26)
  writeInt64(bytes, record.lastBackupTime, 34)
  writeInt16(bytes, idLength, FIXED_LENGTH)
  bytes.write(id, FIXED_LENGTH + 2, 'utf8')
  let position = FIXED_LENGTH + 2 + idLength
  writeInt16(bytes, record.authType, position)
  position = writeField(bytes, principal, position + 2)
  if (version !== 1) {
    position = writeField(bytes, savedRequest, position)
    position = writeField(bytes, savedPrincipal, position)
  }
  bytes.set(attributes, position)
  return bytes
}

/**
 * Reads a session record of version 1 or 2. The opaque fields and the attributes are views on `bytes`.
 *
 * @throws SessionManagerError `ERR_MSM_INVALID_RECORD` for anything that is not exactly such a record.
 */
export function decodeSessionRecord(bytes: Buffer): SessionRecord {
  if (bytes.length < 4) throw invalid(`${bytes.length} bytes can't hold a session header`)
  const version = readInt16(bytes, 0)
  if (version !== 1 && version !== 2) throw invalid(`version ${version} is unknown`)
  const headerLength = readInt16(bytes, 2)
  if (headerLength < MIN_HEADER_LENGTH[version]! || headerLength > bytes.length) {
    throw invalid(`a header of ${headerLength} bytes does not fit a version ${version} record of ${bytes.length} bytes`)
  }
  const idEnd = fieldEnd(bytes, FIXED_LENGTH)
  const principalEnd = fieldEnd(bytes, idEnd + 2)
  let headerEnd = principalEnd
  let savedRequest = NO_BYTES
  let savedPrincipal = NO_BYTES
  if (version === 2) {
    const savedRequestEnd = fieldEnd(bytes, principalEnd)
    headerEnd = fieldEnd(bytes, savedRequestEnd)
    savedRequest = view(bytes, principalEnd + 2, savedRequestEnd)
    savedPrincipal = view(bytes, savedRequestEnd + 2, headerEnd)
  }
  if (headerEnd !== headerLength) throw invalid(`its header ends at byte ${headerEnd}, not ${headerLength}`)
  const record: SessionRecord = {
    version,
    creationTime: readInt64(bytes, 4),
    lastAccessedTime: readInt64(bytes, 12),
    maxInactiveInterval: readInt32(bytes, 20),
    isNew: readFlag(bytes, 24),
    isValid: readFlag(bytes, 25),
    thisAccessedTime: readInt64(bytes, 26),
    lastBackupTime: readInt64(bytes, 34),
    id: bytes.toString('utf8', FIXED_LENGTH + 2, idEnd),
    authType: readInt16(bytes, idEnd),
    principal: view(bytes, idEnd + 4, principalEnd),
    savedRequest,
    savedPrincipal,
    attributes: bytes.subarray(headerLength),
  }
  checkTimes(record)
  return record
}

/** When a record was written, without reading the rest; 0 if the bytes are too short to say. Never throws. */
export function lastBackupTimeOf(bytes: Buffer): number {
  return bytes.length < FIXED_LENGTH ? 0 : Number(bytes.readBigInt64BE(34))
}

function checkFields(record: SessionRecord): void {
  const { version, savedRequest, savedPrincipal } = record
  if (version !== 1 && version !== 2) throw invalid(`version ${version} is unknown`)
  if (version === 1 && savedRequest.length + savedPrincipal.length > 0) {
    throw invalid('version 1 has no place for a saved request or a saved principal')
  }
  if (!isInt32(record.maxInactiveInterval))
    throw invalid(`maxInactiveInterval ${record.maxInactiveInterval} is no int32`)
  if ((record.authType << 16) >> 16 !== record.authType) throw invalid(`authType ${record.authType} is no int16`)
  checkTimes(record)
}

function checkTimes({ creationTime, lastAccessedTime, thisAccessedTime, lastBackupTime }: SessionRecord): void {
  if (
    !Number.isSafeInteger(creationTime) ||
    !Number.isSafeInteger(lastAccessedTime) ||
    !Number.isSafeInteger(thisAccessedTime) ||
    !Number.isSafeInteger(lastBackupTime)
  ) {
    throw invalid('one of its times is not in whole milliseconds, or out of range')
  }
}

/**
 * Where the field whose 16-bit length stands at `offset` ends. As no length is negative, one that goes past the header
 * shows at the last: the fields end where the header does not.
 */
function fieldEnd(bytes: Buffer, offset: number): number {
  const length = readInt16(bytes, offset)
  if (length < 0) throw invalid(`the length at byte ${offset} is wrong`)
  return offset + 2 + length
}

function writeField(bytes: Buffer, field: Buffer, offset: number): number {
  writeInt16(bytes, field.length, offset)
  bytes.set(field, offset + 2)
  return offset + 2 + field.length
}

function view(bytes: Buffer, start: number, end: number): Buffer {
  return start === end ? NO_BYTES : bytes.subarray(start, end)
}

function readFlag(bytes: Buffer, offset: number): boolean {
  const byte = bytes[offset]
  if (byte !== ONE && byte !== ZERO) throw invalid(`the flag at byte ${offset} is neither '0' nor '1'`)
  return byte === ONE
}

function writeInt16(bytes: Buffer, value: number, offset: number): void {
  bytes[offset] = value >>> 8
  bytes[offset + 1] = value
}

function readInt16(bytes: Buffer, offset: number): number {
  return ((bytes[offset]! << 24) >> 16) | bytes[offset + 1]!
}

function invalid(problem: string): SessionManagerError {
  return new SessionManagerError('ERR_MSM_INVALID_RECORD', `Not a valid session record: ${problem}.`)
}
