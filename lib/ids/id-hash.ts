import { createHash } from 'node:crypto'
import { extractBase } from './session-id-format.ts'

/**
 * The first 8 hex digits of the SHA-256 of an id without node id and route: names a session in logs and events without
 * giving away the id, and stays the same through relocation and takeover.
 */
export function hashSessionId(id: string): string {
  return createHash('sha256').update(extractBase(id)).digest('hex').slice(0, 8)
}
