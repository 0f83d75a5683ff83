import { SessionManagerError } from '../../errors.ts'
import type { SessionAttributes } from '../../ports.ts'

/** Who wins when two requests changed the same attribute. */
export type ConflictPolicy = 'mine' | 'theirs' | 'reject'

/**
 * Decides what an attribute becomes that two requests changed. Each of the values is undefined if the attribute is not
 * there on that side; returning undefined removes it.
 */
export type MergeAttribute = (name: string, base: unknown, mine: unknown, theirs: unknown) => unknown

export interface MergeRules {
  readonly mergeAttribute: MergeAttribute | undefined
  readonly conflictPolicy: ConflictPolicy
}

export interface MergeResult {
  readonly attributes: SessionAttributes
  /** Names of the attributes that both sides changed, differently. */
  readonly conflicts: readonly string[]
}

/** One attribute's encoded value, undefined if it is not there or can't be stored. */
export type EncodeAttribute = (attributes: SessionAttributes, name: string) => Buffer | undefined

/**
 * Joins the changes of two requests that began with the same attributes, one by one: what one side changed is taken
 * from that side; what both changed goes by the rules. Encoded values are compared, so what counts as changed is what
 * would be stored differently.
 *
 * @throws SessionManagerError ERR_MSM_CONFLICT with status 409 if the policy is to reject
 */
export function mergeAttributes(
  base: SessionAttributes,
  mine: SessionAttributes,
  theirs: SessionAttributes,
  encode: EncodeAttribute,
  rules: MergeRules,
): MergeResult {
  const attributes: SessionAttributes = {}
  const conflicts: string[] = []
  // Their order first: what only they changed then encodes to the same bytes as they stored.
  for (const name of new Set([...Object.keys(theirs), ...Object.keys(mine)])) {
    const was = encode(base, name)
    const here = encode(mine, name)
    const there = encode(theirs, name)
    const isSame = same(here, there)
    // Where both have the same, the objects the app may hold stay those of the session.
    let side = isSame ? mine : theirs
    if (!same(here, was)) {
      if (same(there, was)) side = mine
      else if (rules.mergeAttribute) {
        // Also if both have the same now: two that count up from 5 have 6 each, and should have 7 together.
        if (!isSame) conflicts.push(name)
        const value = rules.mergeAttribute(name, own(base, name), own(mine, name), own(theirs, name))
        if (value !== undefined) put(attributes, name, value)
        continue
      } else if (!isSame || rules.conflictPolicy === 'reject') {
        // Rejected also if both have the same now: it may be one step of a counter where there should be two.
        conflicts.push(name)
        side = rules.conflictPolicy === 'theirs' ? theirs : mine
      }
    }
    if (Object.hasOwn(side, name)) put(attributes, name, side[name])
  }
  if (conflicts.length > 0 && !rules.mergeAttribute && rules.conflictPolicy === 'reject') throw rejected(conflicts)
  return { attributes, conflicts }
}

function rejected(conflicts: readonly string[]): SessionManagerError {
  const names = conflicts.map((name) => JSON.stringify(name)).join(', ')
  return new SessionManagerError(
    'ERR_MSM_CONFLICT',
    `Another request changed the same session attributes meanwhile: ${names}. None of this request's changes is stored.`,
    { status: 409 },
  )
}

function same(one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other)
}

function own(attributes: SessionAttributes, name: string): unknown {
  return Object.hasOwn(attributes, name) ? attributes[name] : undefined
}

/** `__proto__` is a name like any other. */
function put(attributes: SessionAttributes, name: string, value: unknown): void {
  Object.defineProperty(attributes, name, { value, writable: true, enumerable: true, configurable: true })
}
