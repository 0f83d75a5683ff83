/** What `ValueType.parse` answers to a value it can't take. */
export const INVALID: unique symbol = Symbol('invalid')

/** What an option may hold. */
export interface ValueType<T> {
  /** Completes the sentence 'It must be …'. */
  readonly form: string
  parse(value: unknown): T | typeof INVALID
  /** Reads the value from the text of an XML attribute; absent if text is what the option holds anyway. */
  fromText?(text: string): unknown
}

/** One option of a table: its type, and its value if it is left out. */
export interface Row<T, All> {
  readonly type: ValueType<T & {}> | ValueType<T>
  readonly default?: T
  /** A default that depends on options further up in the table. */
  readonly defaultFrom?: (resolved: All) => T
  /** The value may also be given as text, as in Tomcat's context.xml. */
  readonly text?: boolean
  /** The value is never shown. */
  readonly secret?: boolean
}

export type Table<All> = { readonly [K in keyof All]-?: Row<All[K], All> }

/** Values and defaults for all options of a table, in its order. */
export function resolveTable<All extends object>(table: Table<All>, input: object, path = ''): All {
  const resolved: Record<string, unknown> = {}
  const given = input as Record<string, unknown>
  for (const [name, row] of Object.entries<Row<unknown, All>>(table)) {
    const value = given[name]
    resolved[name] =
      value !== undefined ? parseOption(path + name, row, value) : (row.defaultFrom?.(resolved as All) ?? row.default)
  }
  return resolved as All
}

function parseOption<All>(name: string, row: Row<unknown, All>, value: unknown): unknown {
  const { type, text, secret } = row
  const parsed = type.parse(text && typeof value === 'string' && type.fromText ? type.fromText(value) : value)
  if (parsed === INVALID) throw optionError(name, secret ? '(not shown)' : show(value), type.form)
  return parsed
}

/** The error for a wrong option; `shown` is its value as it may be shown. */
export function optionError(name: string, shown: string, form: string): TypeError {
  return new TypeError(`${name}: ${shown} is not valid. It must be ${form}.`)
}

/** A value for an error message: short, and never the inside of an object. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value)
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return 'an array'
  if (value instanceof RegExp) return String(value)
  if (typeof value === 'object' && value !== null) return 'an object'
  return String(value)
}

export const flag: ValueType<boolean> = {
  form: 'true or false',
  parse: (value) => (typeof value === 'boolean' ? value : INVALID),
  fromText: (text) => ({ true: true, false: false })[text.toLowerCase()] ?? text,
}

const MAX_INT32 = 2 ** 31 - 1

/** A whole number of a unit. The largest is the largest delay of a timer, and of a field of the stored header. */
export function whole(unit: string, min: number, max: number = MAX_INT32): ValueType<number> {
  return {
    form:
      max === MAX_INT32 ? `a whole number of ${unit}, ${min} or more` : `a whole number of ${unit}, ${min} to ${max}`,
    parse: (value) =>
      Number.isInteger(value) && Number(value) >= min && Number(value) <= max ? Number(value) : INVALID,
    fromText: (text) => (/^-?\d{1,10}$/.test(text) ? Number(text) : text),
  }
}

export function text(form: string, test: (value: string) => boolean): ValueType<string> {
  return { form, parse: (value) => (typeof value === 'string' && test(value) ? value : INVALID) }
}

/** One of some words, in upper or lower case. */
export function oneOf<const T extends string>(...words: readonly T[]): ValueType<T> {
  const quoted = words.map((word) => `'${word}'`)
  return {
    form: quoted.join(', ').replace(/, (?='[^']*'$)/, ' or '),
    parse: (value) => words.find((word) => typeof value === 'string' && word === value.toLowerCase()) ?? INVALID,
  }
}

/** A function; what it takes and returns is told by `form`. */
export function functionLike<T>(form: string): ValueType<T> {
  return { form, parse: (value) => (typeof value === 'function' ? (value as T) : INVALID) }
}

/** A list of some words, each at most once. */
export function listOf<const T extends string>(...words: readonly T[]): ValueType<readonly T[]> {
  const word = oneOf(...words)
  return {
    form: `a list of ${word.form}, each at most once`,
    parse: (value) => {
      if (!Array.isArray(value) || value.length === 0) return INVALID
      const parsed = value.map((item) => word.parse(item))
      if (parsed.includes(INVALID) || new Set(parsed).size < parsed.length) return INVALID
      return Object.freeze(parsed as T[])
    },
  }
}

/** An object with the given methods. */
export function objectWith<T extends object>(form: string, methods: readonly string[]): ValueType<T> {
  return { form, parse: (value) => (hasMethods(value, methods) ? (value as T) : INVALID) }
}

function hasMethods(value: unknown, methods: readonly string[]): boolean {
  if (typeof value !== 'object' || value === null) return false
  return methods.every((method) => typeof (value as Record<string, unknown>)[method] === 'function')
}

/** What the first type that takes the value makes of it. */
export function either<A, B>(first: ValueType<A>, second: ValueType<B>): ValueType<A | B> {
  return {
    form: `${first.form}, or ${second.form}`,
    parse: (value) => {
      const parsed = first.parse(value)
      return parsed === INVALID ? second.parse(value) : parsed
    },
  }
}
