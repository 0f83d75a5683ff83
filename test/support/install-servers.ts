import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const SERVERS = [
  { command: 'memcached', package: 'memcached' },
  { command: 'redis-server', package: 'redis-server' },
  { command: 'nginx', package: 'nginx-light' },
] as const
/** Daemons live in the sbin folders, which are on root's PATH only. */
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin', '/sbin']

/** The full path of a server's binary, undefined if it is not installed. */
export function findServer(command: string): string | undefined {
  return FOLDERS.map((folder) => `${folder}/${command}`).find((path) => existsSync(path))
}

/**
 * Makes sure that the servers the tests run against are there: installs them from Debian's packages when run as root.
 * @throws Error that says what to install where it can't.
 */
export function ensureServers(): void {
  const missing = SERVERS.filter(({ command }) => !findServer(command)).map((server) => server.package)
  if (missing.length === 0) return
  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`
  const canInstall = process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0
  if (!canInstall) {
    throw new Error(`The tests need real servers that are not installed. Run as root: apt-get update && ${command}`)
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  execFileSync('apt-get', ['update'], { stdio: 'ignore', env })
  execFileSync('sh', ['-c', command], { stdio: 'ignore', env })
  const still = SERVERS.filter((server) => !findServer(server.command)).map((server) => server.command)
  if (still.length > 0) throw new Error(`Installed ${missing.join(', ')}, but ${still.join(', ')} can't be found.`)
}
