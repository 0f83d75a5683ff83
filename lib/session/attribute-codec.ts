import { messageOf, SessionManagerError } from '../errors.ts'
import type { Logger, SessionAttributes, SessionTranscoder } from '../ports.ts'
import type { Statistics } from '../statistics.ts'
import type { AttributeSealing } from './attribute-sealing.ts'

/** Characters of an attribute's name that are logged; it may come from a client, so it is also quoted. */
const MAX_SHOWN = 100

/**
 * Session attributes to stored bytes and back: applies `sessionAttributeFilter`, measures, and when one attribute
 * can't be encoded names it and stores the others (MSM's Kryo transcoder gave up on all of them, GH224).
 */
export class AttributeCodec {
  readonly #transcoder: SessionTranscoder
  readonly #others: readonly SessionTranscoder[]
  readonly #sealing: AttributeSealing
  readonly #filter: RegExp | undefined
  readonly #statistics: Statistics
  readonly #logger: Logger

  /** @param transcoders the first one writes, all of them read */
  constructor(
    transcoders: readonly [SessionTranscoder, ...SessionTranscoder[]],
    sealing: AttributeSealing,
    filter: RegExp | undefined,
    statistics: Statistics,
    logger: Logger,
  ) {
    ;[this.#transcoder, ...this.#others] = transcoders
    this.#sealing = sealing
    this.#filter = filter
    this.#statistics = statistics
    this.#logger = logger
  }

  /** False for an attribute that `sessionAttributeFilter` keeps out of the store. */
  isStored(name: string): boolean {
    return this.#filter === undefined || this.#filter.test(name)
  }

  /** @throws SessionManagerError ERR_MSM_INVALID_ITEM if the session is too large to be stored. */
  encode(attributes: SessionAttributes): Buffer {
    const start = performance.now()
    const stored = this.#filter ? this.#filtered(attributes) : attributes
    let bytes: Buffer
    try {
      bytes = this.#transcoder.encode(stored)
    } catch (error) {
      // Too large as a whole: no attribute is at fault, and leaving one out would lose it silently.
      if (error instanceof SessionManagerError && error.code === 'ERR_MSM_INVALID_ITEM') throw error
      bytes = this.#transcoder.encode(this.#encodable(stored))
    }
    this.#statistics.record('attributesSerialization', performance.now() - start)
    return bytes
  }

  /** @throws SessionManagerError with ERR_MSM_DECODE, or whatever the transcoder throws. */
  decode(bytes: Buffer): SessionAttributes {
    const start = performance.now()
    const attributes = this.#decode(bytes)
    this.#statistics.record('sessionDeserialization', performance.now() - start)
    return attributes
  }

  /** One attribute by itself, to compare it with; undefined if it is not there or is not stored. */
  encodeOne(attributes: SessionAttributes, name: string): Buffer | undefined {
    if (!Object.hasOwn(attributes, name) || !this.isStored(name)) return undefined
    try {
      return this.#transcoder.encode({ [name]: attributes[name] })
    } catch {
      return undefined
    }
  }

  /** What is stored of encoded attributes: compressed and encrypted, or as they are. */
  seal(bytes: Buffer, base: string): Buffer {
    return this.#sealing.seal(bytes, base)
  }

  /** The encoded attributes in what is stored. @throws SessionManagerError ERR_MSM_DECODE or ERR_MSM_UNKNOWN_KEY */
  open(stored: Buffer, base: string): Buffer {
    return this.#sealing.open(stored, base)
  }

  #decode(bytes: Buffer): SessionAttributes {
    if (this.#others.length === 0) return this.#transcoder.decode(bytes)
    try {
      return this.#transcoder.decode(bytes)
    } catch (error) {
      for (const other of this.#others) {
        try {
          return other.decode(bytes)
        } catch {
          // What the first one said is what is reported.
        }
      }
      throw error
    }
  }

  #filtered(attributes: SessionAttributes): SessionAttributes {
    const stored: SessionAttributes = {}
    for (const name of Object.keys(attributes)) {
      if (this.isStored(name)) stored[name] = attributes[name]
    }
    return stored
  }

  #encodable(attributes: SessionAttributes): SessionAttributes {
    const encodable: SessionAttributes = {}
    for (const name of Object.keys(attributes)) {
      try {
        this.#transcoder.encode({ [name]: attributes[name] })
        encodable[name] = attributes[name]
      } catch (error) {
        const shown = JSON.stringify(name.slice(0, MAX_SHOWN))
        this.#logger.error(`A session attribute can't be stored and is left out, ${shown}: ${messageOf(error)}`)
      }
    }
    return encodable
  }
}
