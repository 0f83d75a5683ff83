import { types } from 'node:util'
import type { SessionAttributes } from '../../lib/ports.ts'
import { isForbiddenKey, unencodable } from './limits.ts'

/** Stands for a Map in what is given to msgpackr, which can't tell a Map from an object in the bytes it writes. */
export class MapValue {
  readonly map: Map<unknown, unknown>

  constructor(map: Map<unknown, unknown>) {
    this.map = map
  }
}

/** How attributes can be given to msgpackr: as they stand, the same with pointers, or only as a storable copy. */
export type Storability = 0 | 1 | 2
export const TREE: Storability = 0
/** Some object is there more than once, or within itself. */
export const GRAPH: Storability = 1
/** Holds a Map, a class instance, a key to leave out, or something that can't be stored at all. */
export const NEEDS_COPY: Storability = 2

const MAX_PATH_LENGTH = 200

/** Looks at all values once, without copying: most sessions hold nothing but what can be written as it stands. */
export function storabilityOf(attributes: SessionAttributes, maxDepth: number): Storability {
  return ofProperties(attributes, maxDepth, new Set<object>().add(attributes))
}

function ofProperties(object: Record<string, unknown>, levelsLeft: number, seen: Set<object>): Storability {
  let result = TREE
  // With what an app may have added to Object.prototype, which can only make it careful.
  for (const key in object) {
    if (isForbiddenKey(key)) return NEEDS_COPY
    const storability = ofValue(object[key], levelsLeft, seen)
    if (storability === NEEDS_COPY) return NEEDS_COPY
    if (storability === GRAPH) result = GRAPH
  }
  return result
}

function ofElements(array: readonly unknown[], levelsLeft: number, seen: Set<object>): Storability {
  let result = TREE
  for (let i = 0; i < array.length; i++) {
    const storability = ofValue(array[i], levelsLeft, seen)
    if (storability === NEEDS_COPY) return NEEDS_COPY
    if (storability === GRAPH) result = GRAPH
  }
  return result
}

function ofValue(value: unknown, levelsLeft: number, seen: Set<object>): Storability {
  if (typeof value !== 'object') return typeof value === 'function' || typeof value === 'symbol' ? NEEDS_COPY : TREE
  if (value === null) return TREE
  if (seen.has(value)) return GRAPH
  seen.add(value)
  const prototype = Object.getPrototypeOf(value)
  if (prototype === Date.prototype || prototype === Buffer.prototype || prototype === Uint8Array.prototype) return TREE
  if (levelsLeft === 0) return NEEDS_COPY
  if (isPlain(prototype)) return ofProperties(value as Record<string, unknown>, levelsLeft - 1, seen)
  if (prototype === Array.prototype) return ofElements(value as unknown[], levelsLeft - 1, seen)
  if (prototype === Set.prototype) return ofElements([...(value as Set<unknown>)], levelsLeft - 1, seen)
  return NEEDS_COPY
}

function isPlain(prototype: unknown): boolean {
  return prototype === Object.prototype || prototype === null
}

/**
 * A copy of attributes that msgpackr writes as it should be read again: subclasses as the built-in they extend, `toJSON`
 * honoured, other class instances as plain objects, forbidden keys left out.
 */
export class StorableCopy {
  readonly attributes: SessionAttributes = {}
  #storability: Storability = TREE
  readonly #maxDepth: number
  readonly #copies = new Map<object, unknown>()
  #attribute = ''
  /** Keys, and the indexes of elements and entries, from the attribute down to the value at hand. */
  readonly #path: (string | number)[] = []

  /** @throws SessionManagerError `ERR_MSM_ENCODE` that names the attribute and what in it can't be stored. */
  constructor(attributes: SessionAttributes, maxDepth: number) {
    this.#maxDepth = maxDepth
    this.#copies.set(attributes, this.attributes)
    for (const name of Object.keys(attributes)) {
      if (isForbiddenKey(name)) continue
      this.#attribute = name
      this.attributes[name] = this.#copy(this.#property(attributes, name), maxDepth)
    }
  }

  get storability(): Storability {
    return this.#storability
  }

  #copy(value: unknown, levelsLeft: number, honoursToJson: boolean = true): unknown {
    if (typeof value === 'function') throw this.#problem('is a function')
    if (typeof value === 'symbol') throw this.#problem('is a symbol')
    if (typeof value !== 'object' || value === null) return value
    if (this.#copies.has(value)) {
      this.#storability = GRAPH
      return this.#copies.get(value)
    }
    const isSpecial = !isPlain(Object.getPrototypeOf(value))
    const leaf = isSpecial ? leafOf(value) : undefined
    if (leaf) return this.#remember(value, leaf)
    if (levelsLeft === 0) throw this.#problem(`nests deeper than ${this.#maxDepth} levels`)
    if (isSpecial && types.isMap(value)) return this.#copyMap(value, levelsLeft - 1)
    if (isSpecial && types.isSet(value)) return this.#copySet(value, levelsLeft - 1)
    if (honoursToJson && typeof this.#property(value, 'toJSON') === 'function') {
      return this.#remember(value, this.#copy(this.#toJson(value), levelsLeft, false))
    }
    if (Array.isArray(value)) return this.#copyArray(value, levelsLeft - 1)
    const unsupported = isSpecial ? unsupportedKindOf(value) : undefined
    if (unsupported) throw this.#problem(`is ${unsupported}`)
    return this.#copyObject(value, levelsLeft - 1)
  }

  #copyObject(object: object, levelsLeft: number): object {
    const copy: Record<string, unknown> = {}
    this.#remember(object, copy)
    for (const key of Object.keys(object)) {
      if (isForbiddenKey(key)) continue
      this.#path.push(key)
      copy[key] = this.#copy(this.#property(object, key), levelsLeft)
      this.#path.pop()
    }
    return copy
  }

  #copyArray(array: readonly unknown[], levelsLeft: number): unknown[] {
    const copy: unknown[] = []
    this.#remember(array, copy)
    for (let i = 0; i < array.length; i++) copy.push(this.#copyElement(array[i], i, levelsLeft))
    return copy
  }

  #copySet(set: Set<unknown>, levelsLeft: number): Set<unknown> {
    const copy = new Set<unknown>()
    this.#remember(set, copy)
    let index = 0
    for (const value of Set.prototype.values.call(set)) copy.add(this.#copyElement(value, index++, levelsLeft))
    return copy
  }

  #copyMap(map: Map<unknown, unknown>, levelsLeft: number): MapValue {
    const copy = new MapValue(new Map())
    this.#remember(map, copy)
    let index = 0
    for (const [key, value] of Map.prototype.entries.call(map)) {
      const copiedKey = this.#copyElement(key, index, levelsLeft)
      copy.map.set(copiedKey, this.#copyElement(value, index++, levelsLeft))
    }
    return copy
  }

  #copyElement(value: unknown, index: number, levelsLeft: number): unknown {
    this.#path.push(index)
    const copy = this.#copy(value, levelsLeft)
    this.#path.pop()
    return copy
  }

  #remember<T>(original: object, copy: T): T {
    this.#copies.set(original, copy)
    return copy
  }

  #property(owner: object, key: string): unknown {
    try {
      return (owner as Record<string, unknown>)[key]
    } catch (error) {
      throw this.#problem('has a getter that throws', error)
    }
  }

  #toJson(value: object): unknown {
    try {
      return (value as { toJSON(): unknown }).toJSON()
    } catch (error) {
      throw this.#problem('has a toJSON that throws', error)
    }
  }

  #problem(problem: string, cause?: unknown): Error {
    const path = this.#path.map(pathSegment).join('')
    const place = path === '' ? 'it' : `${this.#attribute}${path}`.slice(0, MAX_PATH_LENGTH)
    return unencodable(this.#attribute, `${place} ${problem}`, cause)
  }
}

function pathSegment(segment: string | number): string {
  if (typeof segment === 'number') return `[${segment}]`
  return /^[\w$]+$/.test(segment) ? `.${segment}` : `[${JSON.stringify(segment)}]`
}

/** A Date or bytes as they are written: an instance of a subclass as its base class. */
function leafOf(value: object): Date | Uint8Array | undefined {
  if (types.isDate(value)) return new Date(Date.prototype.getTime.call(value))
  if (Buffer.isBuffer(value)) return Buffer.from(value.buffer, value.byteOffset, value.length)
  if (types.isUint8Array(value)) return new Uint8Array(value.buffer, value.byteOffset, value.length)
  return undefined
}

/** Names what would come back as an empty object, its content lost without a word. */
function unsupportedKindOf(value: object): string | undefined {
  if (types.isNativeError(value) || value instanceof Error) return 'an Error'
  if (types.isRegExp(value)) return 'a RegExp'
  if (types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value)) return 'binary data, but no Buffer or Uint8Array'
  if (types.isPromise(value)) return 'a Promise'
  if (types.isWeakMap(value) || types.isWeakSet(value) || value instanceof WeakRef) return 'a weak reference'
  if (types.isBoxedPrimitive(value)) return 'a boxed primitive'
  return undefined
}
