import type { EventHub } from './events.ts'
import type { SessionIdFormat } from './ids/session-id-format.ts'
import type { StorageKeyFormat } from './ids/storage-key-format.ts'
import type { NodeSelector } from './nodes/node-selector.ts'
import type { ResolvedOptions } from './options.ts'
import type { CookieCodec, Logger } from './ports.ts'
import type { AttributeCodec } from './session/attribute-codec.ts'
import type { Statistics } from './statistics.ts'
import type { StorageNodes } from './storage/storage-nodes.ts'

/** The parts a manager is made of, made once and shared by all of its requests. */
export interface SessionContext {
  readonly options: ResolvedOptions
  readonly logger: Logger
  readonly events: EventHub
  readonly statistics: Statistics
  readonly ids: SessionIdFormat
  readonly keys: StorageKeyFormat
  readonly nodes: StorageNodes
  readonly selector: NodeSelector
  readonly attributes: AttributeCodec
  readonly cookies: CookieCodec
}
