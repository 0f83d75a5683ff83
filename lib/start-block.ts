import type { ResolvedOptions } from './options.ts'

/** The block MSM's operators look for in the log. Shows no password. */
export function startBlock(options: ResolvedOptions, transcoderName: string): string {
  const { nodes, encryption, compression } = options
  const labels = nodes.addresses.map((address) => address.label).join(', ')
  return [
    '--------',
    `- SessionManager finished initialization (${labels}):`,
    `- sticky: ${options.sticky}`,
    `- enabled: ${options.enabled}`,
    `- operation timeout: ${options.operationTimeout}`,
    `- node ids: [${nodes.primaryNodeIds.join(', ')}]`,
    `- failover node ids: [${nodes.failoverNodeIds.join(', ')}]`,
    `- storage key prefix: ${options.keyPrefix === '' ? 'none' : options.keyPrefix}`,
    `- locking mode: ${options.lockingMode.text} (expiration: ${options.lockExpiration}s)`,
    `- transcoder: ${transcoderName}${compression ? ', compressed' : ''}${encryption ? ', encrypted' : ''}`,
    '--------',
  ].join('\n')
}
