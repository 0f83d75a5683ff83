import { changeJvmRoute, createNewSessionId, extractNodeId } from '../ids/session-id-format.ts'
import type { NodesConfig } from './memcached-nodes.ts'

/** Where a session may go from a node, best first. */
interface Successors {
  readonly relocation: readonly string[]
  readonly copy: readonly string[]
}

/** Says which node a session goes to. Knows the order of the nodes; asks `isAvailable` for their state. */
export class NodeSelector {
  readonly #nodes: NodesConfig
  readonly #isAvailable: (nodeId: string) => boolean
  readonly #random: () => number
  readonly #successors = new Map<string, Successors>()

  constructor(nodes: NodesConfig, isAvailable: (nodeId: string) => boolean, random: () => number = Math.random) {
    this.#nodes = nodes
    this.#isAvailable = isAvailable
    this.#random = random
    for (const nodeId of nodes.nodeIds) {
      const copy = nodes.after(nodeId)
      const relocation = [
        ...copy.filter((id) => !nodes.isFailoverNode(id)),
        ...copy.filter((id) => nodes.isFailoverNode(id)),
      ]
      this.#successors.set(nodeId, { relocation, copy })
    }
  }

  /** A random available primary; a failover node only if no primary is left; undefined if no node is, or none has an id. */
  forNewSession(): string | undefined {
    return this.#randomOf(this.#nodes.primaryNodeIds) ?? this.#randomOf(this.#nodes.failoverNodeIds)
  }

  /**
   * The node a session moves to when its own is gone: the next available primary in list order, a failover node only if
   * no primary is left, never the node itself (NodeIdServiceTest). A node that is no longer configured is left as for a
   * new session, rather than failing the request that named it (GH207).
   */
  next(nodeId: string): string | undefined {
    const successors = this.#successors.get(nodeId)
    return successors ? this.#firstAvailable(successors.relocation) : this.forNewSession()
  }

  /** The node for the second copy: the next available one in list order, wrapping around, never the node itself. */
  nextForCopy(nodeId: string): string | undefined {
    return this.#firstAvailable(this.#successors.get(nodeId)?.copy ?? this.#nodes.nodeIds)
  }

  /**
   * The id under which a process takes a session over: with its own route, and off a node that is its local failover
   * node as long as a primary is available (testChangeSessionIdForTomcatFailover, GH192).
   */
  changeSessionIdForTakeover(id: string, jvmRoute: string | undefined): string {
    const routed = changeJvmRoute(id, jvmRoute)
    const nodeId = this.#nodes.encodesNodeId ? extractNodeId(routed) : undefined
    if (nodeId === undefined || !this.#nodes.isFailoverNode(nodeId)) return routed
    const primary = this.next(nodeId)
    return primary === undefined || this.#nodes.isFailoverNode(primary) ? routed : createNewSessionId(routed, primary)
  }

  #firstAvailable(nodeIds: readonly string[]): string | undefined {
    for (const id of nodeIds) if (this.#isAvailable(id)) return id
    return undefined
  }

  #randomOf(nodeIds: readonly string[]): string | undefined {
    if (nodeIds.length === 0) return undefined
    const start = Math.floor(this.#random() * nodeIds.length)
    const chosen = nodeIds[start]!
    if (this.#isAvailable(chosen)) return chosen
    const available = nodeIds.filter((id) => this.#isAvailable(id))
    return available[Math.floor(this.#random() * available.length)]
  }
}
