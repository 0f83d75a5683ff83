import { setImmediate as nextTurn } from 'node:timers/promises'
import { messageOf, SessionManagerError } from '../errors.ts'
import type { EventHub } from '../events.ts'
import type { Logger } from '../ports.ts'
import type { Statistics } from '../statistics.ts'
import type { StorageNode } from '../storage/storage-node.ts'
import { within } from '../within.ts'

/** Milliseconds between two probes of a node that is up (MSM: `msm.nodeAvailabilityCacheTTL`). */
const PROBE_INTERVAL = 1000
/** Milliseconds between two probes of a node that is down: doubling from the first to the second, with jitter. */
const FIRST_RETRY = 50
const LAST_RETRY = 1000
/** Milliseconds that a node gets to answer on a new connection before its sessions are moved. */
const SECOND_LOOK = 250

/** Called when a node is reachable again, or turned out to have been restarted in between. */
export type RecoveryListener = (node: StorageNode, restarted: boolean) => void
export type OutageListener = (node: StorageNode) => void

interface Watch {
  readonly node: StorageNode
  identity: string | undefined
  retryDelay: number
  timer: NodeJS.Timeout | undefined
  probing: boolean
  lastTrouble: number
  /** Its connection was lost, and nobody has tried a new one yet. */
  isLost: boolean
  /** A new one is being tried. */
  look: Promise<void> | undefined
}

/**
 * Knows which node is up, without any request having to find out: probes each node once a second, a node that is down
 * more often, and tells when one went down, came back, or came back empty. Down and up are logged once each.
 */
export class NodeMonitor {
  readonly #watches = new Map<StorageNode, Watch>()
  readonly #logger: Logger
  readonly #events: EventHub
  readonly #statistics: Statistics
  #running = false
  #lastTrouble = 0
  onOutage: OutageListener = () => {}
  onRecovery: RecoveryListener = () => {}

  constructor(logger: Logger, events: EventHub, statistics: Statistics) {
    this.#logger = logger
    this.#events = events
    this.#statistics = statistics
  }

  watch(node: StorageNode): void {
    this.#watches.set(node, {
      node,
      identity: undefined,
      retryDelay: FIRST_RETRY,
      timer: undefined,
      probing: false,
      lastTrouble: 0,
      isLost: false,
      look: undefined,
    })
  }

  /** Forgets a node that is no longer configured. */
  unwatch(node: StorageNode): void {
    clearTimeout(this.#watches.get(node)?.timer)
    this.#watches.delete(node)
  }

  /** Probes every node once, so that the first request knows what is up, and goes on probing in the background. */
  async start(): Promise<void> {
    this.#running = true
    await Promise.all([...this.#watches.values()].map((watch) => this.#probe(watch)))
  }

  /** Probes the nodes that were added meanwhile, and waits for the answers. */
  async probeNew(): Promise<void> {
    const unknown = [...this.#watches.values()].filter((watch) => watch.identity === undefined)
    if (this.#running) await Promise.all(unknown.map((watch) => this.#probe(watch)))
  }

  stop(): void {
    this.#running = false
    for (const watch of this.#watches.values()) clearTimeout(watch.timer)
  }

  /** Called by the guard, once for each time a node goes down. */
  down(node: StorageNode, error: unknown): void {
    const watch = this.#watches.get(node)
    if (!watch || !this.#running) return
    this.#logger.warn(`Node ${node.address.label} is down: ${messageOf(error)}`)
    this.#statistics.increment('nodesDown')
    this.#events.emit('nodeDown', { node: node.address.label, error })
    this.#lastTrouble = watch.lastTrouble = Date.now()
    watch.retryDelay = FIRST_RETRY
    this.#schedule(watch)
    // A node that did not answer in time is not asked again at once.
    watch.isLost = !(error instanceof SessionManagerError && error.code === 'ERR_MSM_TIMEOUT')
    this.onOutage(node)
  }

  /**
   * A lost connection does not say that the node is down, and other processes may go on with its sessions: who would move
   * one waits for this, which is whether the node answers on a new connection. Undefined if that is known.
   */
  secondLook(node: StorageNode): Promise<void> | undefined {
    const watch = this.#watches.get(node)
    if (watch?.isLost) this.#lookAgain(watch)
    return watch?.look
  }

  /** True if the node is down, or was down or restarted less than `withinMs` ago: what it held may be elsewhere. */
  hadTrouble(node: StorageNode, withinMs: number): boolean {
    if (!node.isAvailable) return true
    const at = this.#watches.get(node)?.lastTrouble ?? 0
    return at > 0 && Date.now() - at < withinMs
  }

  /** When a node last went down, came back or was restarted, in epoch milliseconds; 0: never. */
  get lastTrouble(): number {
    return this.#lastTrouble
  }

  #lookAgain(watch: Watch): void {
    const look = async (): Promise<void> => {
      // The client has to learn, too, that its connection is gone.
      await nextTurn()
      try {
        this.#answered(watch, await watch.node.probe())
      } catch {
        // So it is down.
      }
    }
    watch.isLost = false
    const looking = within(look(), SECOND_LOOK).then(() => {
      if (watch.look === looking) watch.look = undefined
    })
    watch.look = looking
  }

  #schedule(watch: Watch): void {
    clearTimeout(watch.timer)
    if (!this.#running || this.#watches.get(watch.node) !== watch) return
    let delay = PROBE_INTERVAL
    if (!watch.node.isAvailable) {
      delay = watch.retryDelay * (0.5 + Math.random() / 2)
      watch.retryDelay = Math.min(LAST_RETRY, watch.retryDelay * 2)
    }
    watch.timer = setTimeout(() => void this.#probe(watch), delay)
    watch.timer.unref()
  }

  async #probe(watch: Watch): Promise<void> {
    if (watch.probing) return
    watch.probing = true
    const { node } = watch
    const wasAvailable = node.isAvailable
    try {
      const identity = await node.probe()
      this.#answered(watch, identity)
    } catch (error) {
      // The guard has marked the node down, unless it refused the probe (wrong credentials, for example).
      node.markDown(error)
      if (!wasAvailable) watch.isLost = false
    } finally {
      watch.probing = false
      this.#schedule(watch)
    }
  }

  #answered(watch: Watch, identity: string): void {
    const { node } = watch
    const restarted = watch.identity !== undefined && watch.identity !== identity
    const wasDown = !node.isAvailable
    watch.identity = identity
    if (!this.#running || (!wasDown && !restarted)) return
    const downForMs = wasDown ? Date.now() - node.since : 0
    this.#lastTrouble = watch.lastTrouble = Date.now()
    watch.retryDelay = FIRST_RETRY
    watch.isLost = false
    node.markUp()
    if (wasDown) {
      this.#statistics.increment('nodesUp')
      this.#events.emit('nodeUp', { node: node.address.label, downForMs, restarted })
      this.#logger.info(
        `Node ${node.address.label} is up again after ${downForMs} ms${restarted ? ', restarted' : ''}.`,
      )
    } else {
      this.#logger.warn(`Node ${node.address.label} was restarted.`)
    }
    this.onRecovery(node, restarted)
  }
}
