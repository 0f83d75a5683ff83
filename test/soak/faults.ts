import { setTimeout as sleep } from 'node:timers/promises'
import type { Server } from '../support/servers.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import type { SoakedProcess } from './soaked-process.ts'

/** A node of a store, behind its proxy. */
export interface StoreNode {
  readonly name: string
  readonly server: Server
  readonly proxy: TcpProxy
}

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

type NodeFault = (node: StoreNode, ms: number, random: () => number) => Promise<void>
type ProcessFault = (app: SoakedProcess, ms: number) => Promise<void>

/** Milliseconds between two strikes of what is over at once. */
const STRIKES = 500

const byProxy =
  (strike: (proxy: TcpProxy, random: () => number) => void): NodeFault =>
  async ({ proxy }, ms, random) => {
    strike(proxy, random)
    await sleep(ms)
    await proxy.heal()
  }
const again =
  (strike: (proxy: TcpProxy, random: () => number) => void): NodeFault =>
  async ({ proxy }, ms, random) => {
    for (const end = Date.now() + ms; Date.now() < end; await sleep(STRIKES)) strike(proxy, random)
    await proxy.heal()
  }

const nodeFaults: Readonly<Record<string, NodeFault>> = {
  'connections reset': byProxy((proxy) => proxy.reset()),
  silence: byProxy((proxy) => proxy.silent()),
  'black hole': byProxy((proxy) => proxy.blackhole()),
  'delay of 50 ms': byProxy((proxy) => proxy.delay(50)),
  'replies in pieces': byProxy((proxy, random) => proxy.slice(1 + Math.floor(random() * 7))),
  'cut within a reply': again((proxy, random) => proxy.cutAfter(1 + Math.floor(random() * 200))),
  'connections closed': again((proxy) => proxy.closeGracefully()),
  'store stopped': async ({ server }, ms) => {
    await server.pause()
    await sleep(ms)
    server.resume()
  },
  'store killed': async ({ server }, ms) => {
    await server.kill()
    await sleep(ms)
    await server.start()
  },
}
const processFaults: Readonly<Record<string, ProcessFault>> = {
  'process killed': (app, ms) => app.restart('SIGKILL', sleep(ms)),
  'process ended': (app, ms) => app.restart('SIGTERM', sleep(ms)),
}
export const FAULT_KINDS: readonly string[] = [...Object.keys(nodeFaults), ...Object.keys(processFaults)]

export interface Fault {
  readonly kind: string
  readonly victim: string
  /** Milliseconds from strike to heal. */
  readonly ms: number
  /** Strikes, and heals after a while. */
  run(): Promise<void>
}

/** One fault after the other: each of these kinds once, in random order, then each once again. */
export function* faults(
  nodes: readonly StoreNode[],
  apps: readonly SoakedProcess[],
  kinds: readonly string[],
  random: () => number,
): Generator<Fault, never> {
  const oneOf = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)]!
  for (;;) {
    const left = [...kinds]
    while (left.length > 0) {
      const kind = left.splice(Math.floor(random() * left.length), 1)[0]!
      const ms = Math.round(1000 + 4000 * random())
      const [node, app] = [oneOf(nodes), oneOf(apps)]
      const strikeNode = nodeFaults[kind]
      if (strikeNode) yield { kind, victim: node.name, ms, run: () => strikeNode(node, ms, random) }
      else yield { kind, victim: app.name, ms, run: () => processFaults[kind]!(app, ms) }
    }
  }
}
