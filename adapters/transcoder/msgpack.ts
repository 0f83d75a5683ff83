import { messageOf, SessionManagerError } from '../../lib/errors.ts'
import type { SessionAttributes, SessionTranscoder } from '../../lib/ports.ts'
import { loadPackage } from '../load-package.ts'
import {
  checkEncodedInput,
  checkEncodedSize,
  isAttributes,
  resolveLimits,
  type TranscoderOptions,
  undecodable,
} from './limits.ts'
import { EXTENSION, MsgpackReader } from './msgpack-reader.ts'
import { GRAPH, MapValue, NEEDS_COPY, type Storability, StorableCopy, storabilityOf } from './storable-values.ts'

interface Packr {
  encode(value: unknown, mode?: number): Buffer
  useBuffer(buffer: Buffer): void
}

interface Msgpackr {
  readonly Packr: new (options: Record<string, unknown>) => Packr
  readonly RESET_BUFFER_MODE: number
  addExtension(extension: { Class: unknown; type: number; write(value: MapValue): unknown }): void
}

/** msgpackr writes into a buffer that it keeps and that grows fourfold; beyond this, it is given a new one. */
const MAX_SCRATCH = 65_536
const NEW_SCRATCH = 8192

/**
 * Session attributes as msgpack, by msgpackr: plain objects and arrays, strings, numbers, booleans, null, undefined,
 * Date, Map, Set, BigInt of any size, Buffer and Uint8Array survive, and so do cycles and shared references. A class
 * instance is stored as what its `toJSON` returns, or as a plain object with its own enumerable properties; `-0` as 0,
 * half a surrogate pair as U+FFFD. Functions, symbols, errors, regular expressions and other binary types can't be
 * encoded (`ERR_MSM_ENCODE`, naming the place). `__proto__` and `constructor` keys are dropped at every depth.
 *
 * The bytes stand on their own: any process reads what any other wrote.
 *
 * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` if msgpackr is not installed.
 * @throws TypeError for wrong options.
 */
export function msgpackTranscoder(options: TranscoderOptions = {}): SessionTranscoder {
  const limits = resolveLimits(options)
  sharedWriter ??= new MsgpackWriter(loadMsgpackr())
  const writer = sharedWriter

  return {
    name: 'msgpack',

    encode(attributes: SessionAttributes): Buffer {
      let storability = tryStorabilityOf(attributes, limits.maxDepth)
      let storable = attributes
      if (storability === NEEDS_COPY) {
        const copy = new StorableCopy(attributes, limits.maxDepth)
        storability = copy.storability
        storable = copy.attributes
      }
      return checkEncodedSize(writer.write(storable, storability), limits)
    },

    decode(bytes: Buffer): SessionAttributes {
      checkEncodedInput(bytes, limits)
      const attributes = new MsgpackReader(bytes, limits).read()
      if (!isAttributes(attributes)) throw undecodable('it is not an object')
      return attributes
    },
  }
}

/** msgpackr keeps no state between two messages, so that all transcoders of a process can share it. */
let sharedWriter: MsgpackWriter | undefined

class MsgpackWriter {
  readonly #trees: Packr
  readonly #graphs: Packr
  readonly #mode: number

  constructor({ Packr, RESET_BUFFER_MODE, addExtension }: Msgpackr) {
    addExtension({ Class: MapValue, type: EXTENSION.MAP, write: ({ map }) => map })
    // No records: msgpackr keeps their keys from message to message, where a key of one session can break another's.
    const options = { useRecords: false, variableMapSize: true, moreTypes: true, useToJSON: false }
    this.#trees = new Packr(options)
    this.#graphs = new Packr({ ...options, structuredClone: true })
    this.#mode = RESET_BUFFER_MODE
  }

  /** Bytes of the caller's own: a slice of msgpackr's buffer would keep all of it in memory. */
  write(storable: SessionAttributes, storability: Storability): Buffer {
    const packr = storability === GRAPH ? this.#graphs : this.#trees
    try {
      const scratch = packr.encode(storable, this.#mode)
      const bytes = Buffer.from(scratch)
      if (scratch.buffer.byteLength > MAX_SCRATCH) packr.useBuffer(Buffer.allocUnsafeSlow(NEW_SCRATCH))
      return bytes
    } catch (error) {
      throw new SessionManagerError('ERR_MSM_ENCODE', `The session can't be encoded: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }
}

/**
 * The build of msgpackr that evaluates no code. It is also a copy of its own: extensions are global to a copy, and ours
 * must not change what the host application reads and writes, nor the application's what is stored.
 */
function loadMsgpackr(): Msgpackr {
  const purpose = "the 'msgpack' transcoder"
  try {
    return loadPackage<Msgpackr>('msgpackr/index-no-eval', purpose)
  } catch (error) {
    // If the whole package is missing, the error has to name that as what to install.
    loadPackage('msgpackr', purpose)
    throw error
  }
}

function tryStorabilityOf(attributes: SessionAttributes, maxDepth: number): Storability {
  try {
    return storabilityOf(attributes, maxDepth)
  } catch {
    // A getter threw; the copy names it.
    return NEEDS_COPY
  }
}
