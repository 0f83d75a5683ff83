import type { EventHub } from '../events.ts'
import { extractNodeId } from '../ids/session-id-format.ts'
import type { NodesConfig } from '../nodes/memcached-nodes.ts'
import { NodeMonitor } from '../nodes/node-monitor.ts'
import type { NodeAddress, StorageClientFactory, StorageClientOptions } from '../ports.ts'
import type { Statistics } from '../statistics.ts'
import { StorageNode, type StorageNodeObserver, type StorageNodeOptions } from './storage-node.ts'

/** Bytes. memcached's default limit is 1 MiB for key, value and about 50 bytes of its own. */
const MAX_ITEM_SIZE = 1_048_576 - 400
/** Key in the map of the single node that has no id. */
const UNNAMED = ''

/** The state of one node, as `manager.nodes` shows it. */
export interface NodeState {
  readonly id: string | undefined
  /** `n1:10.0.0.1:11211`; holds no password. */
  readonly label: string
  readonly isFailoverNode: boolean
  readonly state: 'up' | 'down'
  /** Since when it is in this state. */
  readonly since: Date
  readonly operations: number
  readonly failures: number
}

/** All configured nodes, each behind its guard, and the monitor that knows which of them is up. */
export class StorageNodes {
  readonly monitor: NodeMonitor
  readonly #nodes = new Map<string, StorageNode>()
  readonly #createClient: StorageClientFactory
  readonly #guard: StorageNodeOptions
  readonly #observer: StorageNodeObserver
  #config: NodesConfig

  constructor(
    config: NodesConfig,
    createClient: StorageClientFactory,
    clientOptions: StorageClientOptions,
    events: EventHub,
    statistics: Statistics,
  ) {
    this.monitor = new NodeMonitor(clientOptions.logger, events, statistics)
    this.#createClient = createClient
    this.#guard = { operationTimeout: clientOptions.operationTimeout, maxItemSize: MAX_ITEM_SIZE }
    this.#observer = {
      operation: (_node: StorageNode, failed: boolean, timedOut: boolean) => {
        statistics.increment('storageOperations')
        if (failed) statistics.increment('storageFailures')
        if (timedOut) statistics.increment('storageTimeouts')
      },
      down: (node: StorageNode, error: unknown) => this.monitor.down(node, error),
    }
    this.#config = config
    for (const address of config.addresses) this.#add(address, clientOptions)
  }

  get config(): NodesConfig {
    return this.#config
  }

  /**
   * Takes over another configuration. A node whose address stays keeps its connection and state, unless the clients have
   * to be made anew. Returns the nodes that are gone; whoever asked closes them when nothing needs them any more.
   */
  reconfigure(config: NodesConfig, clientOptions: StorageClientOptions): StorageNode[] {
    const renew = clientOptions.operationTimeout !== this.#guard.operationTimeout
    this.#guard.operationTimeout = clientOptions.operationTimeout
    const former = new Map(this.#nodes)
    this.#nodes.clear()
    this.#config = config
    for (const address of config.addresses) {
      const key = address.nodeId ?? UNNAMED
      const node = former.get(key)
      if (!renew && node && isSameAddress(node.address, address)) {
        this.#nodes.set(key, node)
        former.delete(key)
      } else {
        this.#add(address, clientOptions)
      }
    }
    for (const node of former.values()) this.monitor.unwatch(node)
    return [...former.values()]
  }

  #add(address: NodeAddress, clientOptions: StorageClientOptions): void {
    const client = this.#createClient(address, clientOptions)
    const node = new StorageNode(address, client, this.#guard, this.#observer)
    this.#nodes.set(address.nodeId ?? UNNAMED, node)
    this.monitor.watch(node)
  }

  /** The node that holds the session of this id, undefined if the id names none, or one that is not configured. */
  ofSession(id: string): StorageNode | undefined {
    return this.#nodes.get(this.config.encodesNodeId ? (extractNodeId(id) ?? ' ') : UNNAMED)
  }

  get(nodeId: string): StorageNode | undefined {
    return this.#nodes.get(nodeId)
  }

  /** True for the id of a node that is configured. */
  knows(nodeId: string): boolean {
    return this.#nodes.has(nodeId)
  }

  /** True if any node had trouble within the last `withinMs` milliseconds: sessions may be where they do not belong. */
  hadTrouble(withinMs: number): boolean {
    for (const node of this.#nodes.values()) if (this.monitor.hadTrouble(node, withinMs)) return true
    return false
  }

  isAvailable(nodeId: string): boolean {
    return this.#nodes.get(nodeId)?.isAvailable === true
  }

  all(): Iterable<StorageNode> {
    return this.#nodes.values()
  }

  states(): NodeState[] {
    return [...this.#nodes.values()].map((node) => ({
      id: node.id,
      label: node.address.label,
      isFailoverNode: node.id !== undefined && this.config.isFailoverNode(node.id),
      state: node.isAvailable ? 'up' : 'down',
      since: new Date(node.since),
      operations: node.operations,
      failures: node.failures,
    }))
  }

  async close(): Promise<void> {
    this.monitor.stop()
    await Promise.allSettled([...this.#nodes.values()].map((node) => node.close()))
  }
}

function isSameAddress(one: NodeAddress, other: NodeAddress): boolean {
  return one.kind === other.kind && one.host === other.host && one.port === other.port && one.url === other.url
}
