import type { EventHub } from './events.ts'
import type { SessionIdFormat } from './ids/session-id-format.ts'
import type { StorageKeyFormat } from './ids/storage-key-format.ts'
import type { NodeSelector } from './nodes/node-selector.ts'
import type { ResolvedOptions } from './options.ts'
import type { CookieCodec, Logger } from './ports.ts'
import type { PrincipalIndex } from './principals/principal-index.ts'
import type { RequestsUnderWay } from './requests-under-way.ts'
import type { AttributeCodec } from './session/attribute-codec.ts'
import type { Statistics } from './statistics.ts'
import type { StorageNodes } from './storage/storage-nodes.ts'

/**
 * The parts a manager is made of, shared by all of its requests. Those that depend on options which can change at run
 * time are replaced then, so nobody keeps them.
 */
export interface SessionContext {
  options: ResolvedOptions
  readonly logger: Logger
  readonly events: EventHub
  readonly statistics: Statistics
  ids: SessionIdFormat
  readonly keys: StorageKeyFormat
  readonly nodes: StorageNodes
  selector: NodeSelector
  readonly attributes: AttributeCodec
  readonly cookies: CookieCodec
  readonly principals: PrincipalIndex
  readonly requests: RequestsUnderWay
  /** What was warned about, once for all requests. */
  readonly warned: { droppedCookie: boolean }
}
