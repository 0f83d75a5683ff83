import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { SessionManagerError } from '../errors.ts'
import type { SessionContext } from '../session-context.ts'
import type { StorageNode } from './storage-node.ts'

/** How many nodes hold a list. */
const COPIES = 2
const MAX_ATTEMPTS = 50
/** More entries than this are no login of a person; the oldest go. */
const MAX_ENTRIES = 1000

/** An entry, and when it was added, in epoch seconds. */
export type ListEntry = readonly [value: string, addedAt: number]

/**
 * A short list of texts in a store that knows only items: changed by compare-and-swap, on two nodes that follow from its
 * key, so that every process looks in the same places, and read as the union of both.
 */
export class ReplicatedList {
  readonly #context: SessionContext

  constructor(context: SessionContext) {
    this.#context = context
  }

  /**
   * Adds an entry at the end, unless one that `isSame` is there. All entries, in the order they were added.
   * @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE if no node took it
   */
  async add(key: string, value: string, ttl: number, isSame: (other: string) => boolean): Promise<ListEntry[]> {
    const now = Math.floor(Date.now() / 1000)
    return this.#change(key, ttl, (entries) =>
      entries.some(([other]) => other === value)
        ? entries
        : [...entries.filter(([other]) => !isSame(other)), [value, now] as const].slice(-MAX_ENTRIES),
    )
  }

  /** Removes the entries for which `isGone`. */
  async remove(key: string, ttl: number, isGone: (value: string) => boolean): Promise<void> {
    await this.#change(key, ttl, (entries) => entries.filter(([value]) => !isGone(value)))
  }

  /** @throws SessionManagerError ERR_MSM_STORAGE_UNAVAILABLE if no node answers */
  async read(key: string): Promise<ListEntry[]> {
    const answers = await Promise.allSettled(this.#nodesOf(key).map((node) => node.get(key)))
    const lists = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [decode(answer.value?.value)] : []))
    if (lists.length === 0) throw unavailable()
    const union = new Map<string, ListEntry>()
    for (const entry of lists.flat()) if (!union.has(entry[0])) union.set(entry[0], entry)
    return [...union.values()]
  }

  /** Gives the list a new expiry. False if it is gone from one of its nodes. */
  async touch(key: string, ttl: number): Promise<boolean> {
    const answers = await Promise.all(this.#nodesOf(key).map((node) => node.touch(key, ttl).catch(() => true)))
    return !answers.includes(false)
  }

  async #change(
    key: string,
    ttl: number,
    change: (entries: readonly ListEntry[]) => readonly ListEntry[],
  ): Promise<ListEntry[]> {
    let result: ListEntry[] | undefined
    // One after the other: the first node decides the order in which concurrent changes take place.
    for (const node of this.#nodesOf(key)) {
      try {
        const entries = await changeOn(node, key, ttl, change)
        result ??= entries
      } catch (error) {
        if (error instanceof SessionManagerError && error.code === 'ERR_MSM_CONFLICT') throw error
      }
    }
    if (!result) throw unavailable()
    return result
  }

  /** The available nodes that come first for this key, in an order that all processes agree on. */
  #nodesOf(key: string): StorageNode[] {
    const ranked = [...this.#context.nodes.all()].map((node) => ({ node, rank: rank(key, node.id ?? '') }))
    ranked.sort((one, other) => one.rank.compare(other.rank))
    return ranked
      .map(({ node }) => node)
      .filter((node) => node.isAvailable)
      .slice(0, COPIES)
  }
}

async function changeOn(
  node: StorageNode,
  key: string,
  ttl: number,
  change: (entries: readonly ListEntry[]) => readonly ListEntry[],
): Promise<ListEntry[]> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const item = await node.get(key)
    const before = decode(item?.value)
    const after = change(before)
    if (after === before || (after.length === 0 && !item)) return [...after]
    const value = Buffer.from(JSON.stringify(after))
    const isStored = item
      ? (await node.compareAndSwap(key, value, ttl, item.version)) === 'stored'
      : await node.add(key, value, ttl)
    if (isStored) return [...after]
    await sleep(Math.random() * Math.min(50, 2 + attempt * 2))
  }
  throw new SessionManagerError('ERR_MSM_CONFLICT', 'Too many processes change the same list at the same time.', {
    status: 503,
  })
}

function decode(value: Buffer | undefined): ListEntry[] {
  if (!value) return []
  try {
    const parsed: unknown = JSON.parse(value.toString())
    return Array.isArray(parsed) ? parsed.filter(isEntry) : []
  } catch {
    return []
  }
}

function isEntry(value: unknown): value is ListEntry {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && Number.isSafeInteger(value[1])
}

function rank(key: string, nodeId: string): Buffer {
  return createHash('sha256').update(`${nodeId} ${key}`).digest()
}

function unavailable(): SessionManagerError {
  return new SessionManagerError('ERR_MSM_STORAGE_UNAVAILABLE', 'No node answers.', { status: 503 })
}
