import type { SessionMode } from './modes/session-mode.ts'
import type { SessionContext } from './session-context.ts'
import type { NodeState } from './storage/storage-nodes.ts'

/** What `manager.health()` says. */
export interface Health {
  /** `down`: send no requests; `degraded`: all is served, but a node is down. */
  readonly status: 'ok' | 'degraded' | 'down'
  readonly mode: 'sticky' | 'non-sticky'
  readonly nodes: readonly NodeState[]
  /** Sessions in the memory of this process. */
  readonly activeSessions: number
  /** Writes to the store that are under way or wait. */
  readonly backlog: number
  /** Requests with a session that are under way. */
  readonly requests: number
}

/** @param isServing false before the manager was started, while it drains, and after it was stopped */
export function healthOf({ nodes, options, requests }: SessionContext, mode: SessionMode, isServing: boolean): Health {
  const states = nodes.states()
  const up = options.enabled ? states.filter((node) => node.state === 'up').length : states.length
  // A process in sticky mode goes on serving from its memory.
  const isDown = !isServing || (up === 0 && !options.sticky)
  return Object.freeze({
    status: isDown ? 'down' : up < states.length ? 'degraded' : 'ok',
    mode: options.sticky ? 'sticky' : 'non-sticky',
    nodes: states,
    activeSessions: mode.activeSessions,
    backlog: mode.backlog,
    requests: requests.count,
  })
}
