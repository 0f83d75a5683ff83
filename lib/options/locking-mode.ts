import { compilePattern } from './pattern.ts'
import { optionError, show } from './values.ts'

export type LockingModeKind = 'none' | 'all' | 'auto' | 'app' | 'optimistic' | 'uriPattern'

export interface LockingMode {
  /** What applies. In sticky mode `auto` and `optimistic` have no meaning, and are `none` here. */
  readonly kind: LockingModeKind
  /** Of `uriPattern` only. */
  readonly pattern?: RegExp
  /** As configured, for the log. */
  readonly text: string
}

const KINDS = ['none', 'all', 'auto', 'app', 'optimistic'] as const
const URI_PATTERN = 'uripattern:'

/**
 * Reads `lockingMode`; left out, it is `none` in sticky mode and `optimistic` in non-sticky mode.
 *
 * @throws TypeError for an unknown mode, and for a pattern that does not compile.
 */
export function parseLockingMode(value: unknown, sticky: boolean): LockingMode {
  if (value === undefined) return mode(sticky ? 'none' : 'optimistic')
  if (typeof value === 'string') {
    const lower = value.toLowerCase()
    const kind = KINDS.find((word) => word === lower)
    if (kind) return mode(hasMeaning(kind, sticky) ? kind : 'none', value)
    if (lower.startsWith(URI_PATTERN)) {
      const { regExp } = compilePattern('lockingMode', value.slice(URI_PATTERN.length), value)
      return Object.freeze({ kind: 'uriPattern', pattern: regExp, text: value })
    }
  }
  throw optionError(
    'lockingMode',
    show(value),
    `${KINDS.map((kind) => `'${kind}'`).join(', ')} or 'uriPattern:<regex>'`,
  )
}

/** In sticky mode there is one object in one process: no read-only copies to tell apart, no versions to compare. */
function hasMeaning(kind: LockingModeKind, sticky: boolean): boolean {
  return !sticky || (kind !== 'auto' && kind !== 'optimistic')
}

function mode(kind: LockingModeKind, text: string = kind): LockingMode {
  return Object.freeze({ kind, text })
}
