import { ensureServers } from './install-servers.ts'

export function setup(): void {
  ensureServers()
}
