import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe } from 'vitest'
import { AttributeSealing } from '../../lib/session/attribute-sealing.ts'
import { anyBytes, mutated, orCode, pool } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const BASE = 'A'.repeat(32)
const OTHER_BASE = `${'A'.repeat(31)}B`
const [one, two] = ['one', 'two'].map((name) => createHash('sha256').update(name).digest()) as [Buffer, Buffer]

const plain = new AttributeSealing(undefined, undefined)
const compressing = new AttributeSealing({ minBytes: 0 }, undefined)
const encrypting = new AttributeSealing(undefined, { keys: [one], readPlain: false })
const both = new AttributeSealing({ minBytes: 20 }, { keys: [one, two], readPlain: false })
const migrating = new AttributeSealing({ minBytes: 20 }, { keys: [two, one], readPlain: true })

/** Also bytes that look as if they were sealed. */
const marked = fc.tuple(fc.constantFrom('c1', 'c100', 'c101', 'c102', 'c103'), anyBytes)
const text = fc.oneof(
  anyBytes,
  marked.map(([mark, bytes]) => Buffer.concat([Buffer.from(mark, 'hex'), bytes])),
  fc.tuple(anyBytes, fc.nat(500)).map(([bytes, length]) => Buffer.alloc(length, bytes.length > 0 ? bytes : 'a')),
)

const sealings = fc.constantFrom(plain, compressing, encrypting, both, migrating)
const originals = fc.sample(text, { numRuns: 300, seed: 1 }).map((bytes) => both.seal(bytes, BASE))
const known = new Set(originals.map((bytes) => bytes.toString('hex')))
const sealed = fc.constantFrom(...originals)

describe('sealed attributes', () => {
  fuzz(
    'are opened as they were, whatever they are',
    fc.property(sealings, text, (sealing, bytes) => sealing.open(sealing.seal(bytes, BASE), BASE).equals(bytes)),
  )
  fuzz(
    'that are encrypted do not open if they were changed',
    fc.property(sealed, fc.nat(), fc.integer({ min: 1, max: 255 }), (bytes, position, bits) => {
      const changed = Buffer.from(bytes)
      changed[position % changed.length]! ^= bits
      return orCode(() => both.open(changed, BASE), 'ERR_MSM_DECODE', 'ERR_MSM_UNKNOWN_KEY') === undefined
    }),
  )
  fuzz(
    'that are encrypted do not open if they were cut, prolonged, or put together anew',
    fc.property(mutated(sealed), (changed) => {
      const opened = orCode(() => both.open(changed, BASE), 'ERR_MSM_DECODE', 'ERR_MSM_UNKNOWN_KEY')
      return opened === undefined || known.has(changed.toString('hex'))
    }),
  )
  fuzz(
    'of one session do not open as those of another',
    fc.property(
      sealed,
      fc.constantFrom(OTHER_BASE, BASE.slice(1), `${BASE}A`, '', BASE.toLowerCase()),
      (bytes, base) => {
        return orCode(() => both.open(bytes, base), 'ERR_MSM_DECODE') === undefined
      },
    ),
  )
  fuzz(
    'that are compressed open to something or are refused, however they were mutated',
    fc.property(
      sealings,
      mutated(pool(text.map((bytes) => compressing.seal(bytes, BASE)))),
      (sealing, bytes) => void orCode(() => sealing.open(bytes, BASE), 'ERR_MSM_DECODE', 'ERR_MSM_UNKNOWN_KEY'),
    ),
  )
  fuzz(
    'of any bytes open to something or are refused',
    fc.property(
      sealings,
      text,
      (sealing, bytes) => void orCode(() => sealing.open(bytes, BASE), 'ERR_MSM_DECODE', 'ERR_MSM_UNKNOWN_KEY'),
    ),
  )
})
