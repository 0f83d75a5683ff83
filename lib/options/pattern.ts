import { messageOf } from '../errors.ts'
import { optionError, show } from './values.ts'

/** A pattern as it was configured, and as a RegExp that matches whole strings only. */
export interface Pattern {
  readonly text: string
  readonly regExp: RegExp
}

const FORM = 'a regular expression (text as in Tomcat, or a RegExp object) that is to match as a whole'
/** Escapes that Java knows, and that JavaScript would silently take for the letter itself. */
const JAVA_ESCAPE = /(?<!\\)(?:\\\\)*\\([AEGHQRXZhpPz])/

/**
 * Compiles a pattern that has to match the whole of what it is compared with, as Java's `Matcher.matches` does. A `(?i)`
 * at the beginning means what it means in Java.
 *
 * @param given the value of the option, if the pattern is only a part of it
 * @throws TypeError if it is no pattern, or does not compile.
 */
export function compilePattern(name: string, value: unknown, given: unknown = value): Pattern {
  if (value instanceof RegExp) {
    return Object.freeze({ text: String(value), regExp: wholeMatch(value.source, value.flags.replace(/[dgmy]/g, '')) })
  }
  if (typeof value !== 'string' || value === '') throw optionError(name, show(given), FORM)
  const inline = /^\(\?([is]{1,2})\)/.exec(value)
  const source = inline ? value.slice(inline[0].length) : value
  const javaOnly = JAVA_ESCAPE.exec(source)
  if (javaOnly) throw optionError(name, show(given), `${FORM}; JavaScript has no \\${javaOnly[1]}`)
  try {
    const flags = inline?.[1] ?? ''
    new RegExp(source, flags) // on its own: 'a)|(b' would compile within the group below
    return Object.freeze({ text: value, regExp: wholeMatch(source, flags) })
  } catch (error) {
    throw optionError(name, show(given), `${FORM} (${messageOf(error)})`)
  }
}

function wholeMatch(source: string, flags: string): RegExp {
  return new RegExp(`^(?:${source})$`, flags)
}
