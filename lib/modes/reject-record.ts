import { messageOf, SessionManagerError } from '../errors.ts'
import { hashSessionId } from '../ids/id-hash.ts'
import type { SessionContext } from '../session-context.ts'
import type { StorageNode } from '../storage/storage-node.ts'

/** A stored record can't be read: it is purged, counted and told, and counts as missing. */
export function rejectRecord(
  { logger, statistics, events }: SessionContext,
  node: StorageNode,
  key: string,
  id: string,
  error: unknown,
): void {
  const session = hashSessionId(id)
  const where = `Could not read session ${session} from ${node.address.label}`
  const code = error instanceof SessionManagerError ? error.code : undefined
  if (code === 'ERR_MSM_UNKNOWN_KEY') {
    // Another process knows the key.
    logger.warn(`${where}: ${messageOf(error)}`)
    return
  }
  logger.warn(`${where}, it is purged: ${messageOf(error)}`)
  statistics.increment(code === 'ERR_MSM_INVALID_RECORD' ? 'recordsRejected' : 'sessionsPurged')
  events.emit('recordRejected', { session, node: node.address.label, error })
  void node.delete(key).catch(() => {})
}
