/** A stream that can hold back what is written; a socket is one. */
interface Corkable {
  cork(): void
  uncork(): void
}

/** Operations that leave in one write at most, so that a server has work while this process goes on. */
const MAX_OPERATIONS = 64

/** Lets what all requests of one turn of the event loop ask of a connection leave in few writes. */
export class WriteBatch {
  readonly #stream: Corkable
  #count = 0
  readonly #flush = (): void => {
    if (this.#count === 0) return
    this.#count = 0
    this.#stream.uncork()
  }

  constructor(stream: Corkable) {
    this.#stream = stream
  }

  /** Called before each operation is written. */
  add(): void {
    if (this.#count >= MAX_OPERATIONS) this.#flush()
    if (this.#count === 0) {
      this.#stream.cork()
      setImmediate(this.#flush)
    }
    this.#count++
  }
}
