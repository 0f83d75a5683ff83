import { inspect } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import { Session } from '../../lib/session/session.ts'
import { facadeOf, facadeTarget, SessionFacade } from '../../lib/session/session-facade.ts'

const api = {
  get id(): string {
    return 'the id'
  },
  save(): string {
    return 'saved'
  },
}
const target = facadeTarget(api)

let session: Session
let facade: SessionFacade
// biome-ignore lint/suspicious/noExplicitAny: a property bag
let bag: any
beforeEach(() => {
  session = new Session('ID', 1800, { text: 'a', list: [1], absent: undefined }, Date.now())
  facade = new SessionFacade(
    { createSession: () => session, isStoredAttribute: (name) => name !== 'filtered' },
    session,
    target,
  )
  bag = facade.proxy
})

describe('the session object is a property bag', () => {
  it('that lists, spreads, and serialises its attributes only', () => {
    expect(Object.keys(bag)).toEqual(['text', 'list', 'absent'])
    expect({ ...bag }).toEqual({ text: 'a', list: [1], absent: undefined })
    expect(JSON.stringify(bag)).toBe('{"text":"a","list":[1]}')
    expect(Object.entries(bag)).toEqual([
      ['text', 'a'],
      ['list', [1]],
      ['absent', undefined],
    ])
  })

  it('that answers in, hasOwn, delete and assign', () => {
    expect('text' in bag).toBe(true)
    expect('save' in bag).toBe(true)
    expect('nothing' in bag).toBe(false)
    expect(Object.hasOwn(bag, 'save')).toBe(false)
    delete bag.text
    Object.assign(bag, { more: 1 })
    expect(session.attributes).toEqual({ list: [1], absent: undefined, more: 1 })
  })

  it('that shows its attributes only when it is logged', () => {
    session.attributes.user = { name: 'joe', roles: ['a'] }
    expect(inspect(bag)).toBe(
      "{\n  text: 'a',\n  list: [ 1 ],\n  absent: undefined,\n  user: { name: 'joe', roles: [ 'a' ] }\n}",
    )
    expect(inspect({ bag }, { depth: 0 })).toBe('{ bag: [Object] }')
    expect(inspect(bag, { breakLength: Number.POSITIVE_INFINITY, depth: 0 })).toContain('user: [Object]')
  })

  it('that has no symbols of its own', () => {
    expect(Reflect.ownKeys(bag)).toEqual(['text', 'list', 'absent'])
    expect(Object.getOwnPropertySymbols(bag)).toEqual([])
  })

  it('of which a copy can be cloned, while cloning itself fails with a name', () => {
    expect(structuredClone({ ...bag })).toEqual({ text: 'a', list: [1], absent: undefined })
    expect(() => structuredClone(bag)).toThrow(expect.objectContaining({ name: 'DataCloneError' }))
  })

  it('whose nested values are those of the session, to be read and changed', () => {
    bag.list.push(2)
    bag.tree = { branch: { leaf: 1 } }
    bag.tree.branch.leaf++
    expect(session.attributes).toMatchObject({ list: [1, 2], tree: { branch: { leaf: 2 } } })
    const { list, ...rest } = bag
    expect(list).toBe(session.attributes.list)
    expect(rest).toEqual({ text: 'a', absent: undefined, tree: { branch: { leaf: 2 } } })
  })

  it('whose methods and properties win over attributes, and can not be replaced', () => {
    session.attributes.id = 'planted'
    session.attributes.save = 'planted'
    expect(bag.id).toBe('the id')
    expect(bag.save()).toBe('saved')
    expect(() => {
      bag.id = 'other'
    }).toThrow(TypeError)
    expect(Object.keys(bag)).not.toContain('save')
  })

  it('in which __proto__, constructor and toString are names like any other', () => {
    Reflect.set(bag, '__proto__', { admin: true })
    bag.constructor = 'c'
    bag.toString = 't'
    expect(bag.admin).toBeUndefined()
    expect(({} as { admin?: boolean }).admin).toBeUndefined()
    expect(bag.constructor).toBe('c')
    expect(bag.toString).toBe('t')
    expect(Object.getPrototypeOf(session.attributes)).toBe(Object.prototype)
    expect(Object.keys(bag)).toEqual(expect.arrayContaining(['__proto__', 'constructor', 'toString']))
  })

  it('that refuses what a bag of attributes can not hold', () => {
    expect(() => Object.defineProperty(bag, 'x', { get: () => 1 })).toThrow(TypeError)
    expect(() => Object.freeze(bag)).toThrow(TypeError)
    expect(() => Object.setPrototypeOf(bag, {})).toThrow(TypeError)
    expect(() => {
      bag[Symbol('s')] = 1
    }).toThrow(TypeError)
  })
})

describe('what counts as a possible change', () => {
  it.each<[string, boolean, () => unknown]>([
    ['nothing', false, () => {}],
    ['reading text', false, () => bag.text],
    ['asking for what is not there', false, () => bag.nothing],
    ['setting the same text', false, () => (bag.text = 'a')],
    ['calling a method', false, () => bag.save()],
    ['setting another text', true, () => (bag.text = 'b')],
    ['setting something new', true, () => (bag.fresh = undefined)],
    ['being handed an object', true, () => bag.list],
    ['deleting', true, () => delete bag.text],
    ['changing what is inside an object', true, () => bag.list.push(2)],
    ['asking whether it is there', false, () => ['list' in bag, Object.hasOwn(bag, 'text')]],
    ['logging objects', true, () => inspect(bag)],
    ['deleting what is not there', false, () => delete bag.nothing],
    ['listing objects', true, () => JSON.stringify(bag)],
    ['setting what is not stored', false, () => (bag.filtered = {})],
  ])('%s: %s', (_what, expected, act) => {
    act()
    expect(facade.mayHaveChanged).toBe(expected)
  })
})

it('a request without session gets one when it sets an attribute, not when it reads', () => {
  let made = 0
  const host = {
    createSession: () => {
      made++
      return session
    },
    isStoredAttribute: () => true,
  }
  // biome-ignore lint/suspicious/noExplicitAny: a property bag
  const empty = new SessionFacade(host, undefined, target).proxy as any
  expect(empty.text).toBeUndefined()
  expect(Object.keys(empty)).toEqual([])
  expect(made).toBe(0)
  empty.first = 1
  expect(made).toBe(1)
})

it('facadeOf finds the facade of a session object, and of nothing else', () => {
  expect(facadeOf(bag)).toBe(facade)
  for (const other of [undefined, null, 1, {}, new Proxy({}, {})]) expect(facadeOf(other)).toBeUndefined()
})
