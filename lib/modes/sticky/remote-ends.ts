import { messageOf } from '../../errors.ts'
import { extractJvmRoute } from '../../ids/session-id-format.ts'
import type { SessionContext } from '../../session-context.ts'
import { ReplicatedList } from '../../storage/replicated-list.ts'
import type { StickySession } from './sticky-session.ts'

/** Milliseconds between two looks at what other processes have ended. */
const INTERVAL = 1000
/** Seconds for which a process that was stopped or cut off can still learn of it. */
const LIFETIME = 3600

/**
 * Ends sessions that other processes hold: their bases go into a list of the process, by its route, that it looks at once
 * a second as long as it has sessions with a principal.
 */
export class RemoteEnds {
  readonly #context: SessionContext
  readonly #lists: ReplicatedList
  readonly #end: (base: string) => void
  #timer: NodeJS.Timeout | undefined

  /** @param end ends the session with this base, if it is held here */
  constructor(context: SessionContext, end: (base: string) => void) {
    this.#context = context
    this.#lists = new ReplicatedList(context)
    this.#end = end
  }

  start(): void {
    this.#timer = setInterval(() => void this.#look(), INTERVAL)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Tells the process that holds the session, if that is another one. */
  async tell(session: StickySession): Promise<void> {
    const route = extractJvmRoute(session.id)
    if (route === undefined || route === this.#context.options.jvmRoute) return
    const { base } = session
    await this.#lists.add(this.#context.keys.ended(route), base, LIFETIME, (other) => other === base)
  }

  async #look(): Promise<void> {
    const { options, keys, principals, logger } = this.#context
    if (options.jvmRoute === undefined || !options.enabled || !principals.areUsed) return
    try {
      for (const [base] of await this.#lists.read(keys.ended(options.jvmRoute))) this.#end(base)
    } catch (error) {
      logger.debug?.(`Could not look for sessions that others have ended: ${messageOf(error)}`)
    }
  }
}
