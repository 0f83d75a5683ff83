import { channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { messageOf } from './errors.ts'
import type { Logger } from './ports.ts'

/** Why a session's id was changed. */
export type IdChangeReason = 'relocation' | 'takeover' | 'regenerate'
/** Why a session ended. */
export type DestroyReason = 'app' | 'expired' | 'evicted' | 'principal' | 'regenerate'

/**
 * What a manager tells its listeners. Session ids are hashed (the first 8 hex digits of the SHA-256 of the id without
 * node id and route), so events can be logged as they are.
 */
export interface SessionManagerEvents {
  created: { session: string }
  destroyed: { session: string; reason: DestroyReason }
  idChanged: { session: string; reason: IdChangeReason; fromNode?: string; toNode?: string }
  /** Two requests changed the same attributes at the same time; how that was resolved. */
  conflict: { session: string; attributes: string[]; resolution: 'mine' | 'theirs' | 'merged' }
  /** A request did not get the lock of its session in time. */
  lockTimeout: { session: string; waitedMs: number; rejected: boolean }
  /** The lease of a lock ended while its request was still running, and others may have had it since. */
  lockLost: { session: string }
  backupFailed: { session: string; node?: string; error: unknown }
  recordRejected: { session: string; node?: string; error: unknown }
  nodeDown: { node: string; error: unknown }
  nodeUp: { node: string; downForMs: number; restarted: boolean }
}

export type SessionManagerEventName = keyof SessionManagerEvents
export type SessionManagerListener<E extends SessionManagerEventName> = (event: SessionManagerEvents[E]) => void

/** Delivers events to listeners and to `node:diagnostics_channel`; a listener that throws harms no request. */
export class EventHub {
  readonly #emitter = new EventEmitter()
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  on<E extends SessionManagerEventName>(name: E, listener: SessionManagerListener<E>): void {
    this.#emitter.on(name, listener)
  }

  off<E extends SessionManagerEventName>(name: E, listener: SessionManagerListener<E>): void {
    this.#emitter.off(name, listener)
  }

  emit<E extends SessionManagerEventName>(name: E, event: SessionManagerEvents[E]): void {
    channel(`memcached-session-manager:${name}`).publish(event)
    for (const listener of this.#emitter.listeners(name)) {
      try {
        const result: unknown = listener(event)
        if (result instanceof Promise) result.catch((error) => this.#report(name, error))
      } catch (error) {
        this.#report(name, error)
      }
    }
  }

  #report(name: string, error: unknown): void {
    this.#logger.error(`A listener of '${name}' failed: ${messageOf(error)}`)
  }
}
