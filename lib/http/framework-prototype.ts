/**
 * The topmost prototype that a framework has put between an object and node's own class, as `express.response` is.
 * @param member what node's own class has, and no framework gives to its prototypes
 * @returns undefined if there is none: the object is of node's class itself, or of no class that has such a member
 */
export function frameworkPrototype(object: object, member: string): object | undefined {
  let topmost: object | undefined
  for (let one: object | null = Object.getPrototypeOf(object); one !== null; one = Object.getPrototypeOf(one)) {
    if (Object.hasOwn(one, member)) return topmost
    topmost = one
  }
  return undefined
}
