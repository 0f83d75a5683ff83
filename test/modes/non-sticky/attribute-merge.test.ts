import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type MergeRules, mergeAttributes } from '../../../lib/modes/non-sticky/attribute-merge.ts'
import type { SessionAttributes } from '../../../lib/ports.ts'

const encode = (all: SessionAttributes, name: string): Buffer | undefined =>
  Object.hasOwn(all, name) ? Buffer.from(JSON.stringify(all[name]) ?? 'undefined') : undefined

function merge(base: object, mine: object, theirs: object, rules: Partial<MergeRules> = {}) {
  const all: MergeRules = { mergeAttribute: undefined, conflictPolicy: 'mine', ...rules }
  return mergeAttributes(base as SessionAttributes, mine as SessionAttributes, theirs as SessionAttributes, encode, all)
}

describe('an attribute', () => {
  it.each<[string, object, object, object, object, string[]]>([
    ['changed here is ours', { a: 1 }, { a: 2 }, { a: 1 }, { a: 2 }, []],
    ['changed there is theirs', { a: 1 }, { a: 1 }, { a: 2 }, { a: 2 }, []],
    ['added here is ours', {}, { a: 1 }, {}, { a: 1 }, []],
    ['added there is theirs', {}, {}, { a: 1 }, { a: 1 }, []],
    ['removed here is gone', { a: 1 }, {}, { a: 1 }, {}, []],
    ['removed there is gone', { a: 1 }, { a: 1 }, {}, {}, []],
    ['removed by both is gone', { a: 1 }, {}, {}, {}, []],
    ['changed by both to the same is that', { a: 1 }, { a: 2 }, { a: 2 }, { a: 2 }, []],
    ['changed by both is ours, and a conflict', { a: 1 }, { a: 2 }, { a: 3 }, { a: 2 }, ['a']],
    ['changed here and removed there is ours, and a conflict', { a: 1 }, { a: 2 }, {}, { a: 2 }, ['a']],
    ['removed here and changed there is gone, and a conflict', { a: 1 }, {}, { a: 2 }, {}, ['a']],
    ['named __proto__ is one like any other', {}, JSON.parse('{"__proto__":1}'), {}, JSON.parse('{"__proto__":1}'), []],
  ])('%s', (_what, base, mine, theirs, expected, conflicts) => {
    const result = merge(base, mine, theirs)
    expect(Object.entries(result.attributes)).toEqual(Object.entries(expected))
    expect(result.conflicts).toEqual(conflicts)
  })

  it("that both changed is theirs with 'theirs'", () => {
    expect(merge({ a: 1 }, { a: 2 }, { a: 3 }, { conflictPolicy: 'theirs' }).attributes).toEqual({ a: 3 })
  })

  it("that both changed is refused with 'reject', also if both have the same now: two steps of a counter are not one", () => {
    const refused = expect.objectContaining({ code: 'ERR_MSM_CONFLICT', status: 409 })
    expect(() => merge({ a: 1 }, { a: 2 }, { a: 3 }, { conflictPolicy: 'reject' })).toThrow(refused)
    expect(() => merge({ a: 1 }, { a: 2 }, { a: 2 }, { conflictPolicy: 'reject' })).toThrow(refused)
    expect(merge({ a: 1 }, { a: 2 }, { a: 1, b: 1 }, { conflictPolicy: 'reject' }).attributes).toEqual({ a: 2, b: 1 })
  })

  it('that both changed goes to mergeAttribute, also if both have the same now; undefined removes it', () => {
    const add = (_name: string, base: unknown, mine: unknown, theirs: unknown): unknown =>
      Number(mine) + Number(theirs) - Number(base)
    expect(merge({ a: 5 }, { a: 6 }, { a: 6 }, { mergeAttribute: add }).attributes).toEqual({ a: 7 })
    expect(merge({ a: 5 }, { a: 6 }, { a: 8 }, { mergeAttribute: add }).attributes).toEqual({ a: 9 })
    expect(merge({ a: 5 }, { a: 6 }, { a: 8 }, { mergeAttribute: () => undefined }).attributes).toEqual({})
  })
})

const attributes = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), fc.integer({ min: 0, max: 3 }))

it('every change of one side survives that the other side left alone', () => {
  fc.assert(
    fc.property(attributes, attributes, attributes, (base, mine, theirs) => {
      const { attributes: merged, conflicts } = merge(base, mine, theirs)
      for (const name of ['a', 'b', 'c', 'd']) {
        if (conflicts.includes(name)) continue
        if (mine[name] !== base[name]) expect(merged[name]).toBe(mine[name])
        else expect(merged[name]).toBe(theirs[name])
      }
    }),
  )
})

it('counters that are added up are exact, in whatever order requests are merged', () => {
  const add = (_name: string, base: unknown, mine: unknown, theirs: unknown): unknown =>
    Number(mine ?? 0) + Number(theirs ?? 0) - Number(base ?? 0)
  fc.assert(
    fc.property(fc.array(fc.nat(5), { minLength: 1, maxLength: 8 }), (steps) => {
      let stored: SessionAttributes = { count: 0 }
      for (const step of steps)
        stored = merge({ count: 0 }, { count: step }, stored, { mergeAttribute: add }).attributes
      expect(stored.count).toBe(steps.reduce((sum, step) => sum + step, 0))
    }),
  )
})
