import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'

/** Daemons live in the sbin folders, which are on root's PATH only. */
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin', '/sbin']
const SASL_PLUGIN = 'the SASL plugin PLAIN'
/** What the tests need, and the Debian package it is in. */
const PACKAGES: Readonly<Record<string, string>> = {
  memcached: 'memcached',
  'redis-server': 'redis-server',
  nginx: 'nginx',
  [SASL_PLUGIN]: 'libsasl2-modules',
}
const POLICY = '/usr/sbin/policy-rc.d'

/** The full path of a server's binary, undefined if it is not installed. */
export function findServer(command: string): string | undefined {
  return FOLDERS.map((folder) => `${folder}/${command}`).find(isExecutable)
}

/** What a machine has and may do. */
export interface Machine {
  readonly isDebian: boolean
  readonly isRoot: boolean
  has(what: string): boolean
  /** Runs a program to its end. @throws Error if it fails */
  run(command: string, args: readonly string[]): void
}

/**
 * Makes sure that the servers the tests run against are there: installs them from Debian's packages when run as root.
 * @throws Error that says what to install where it can't.
 */
export function ensureServers(machine: Machine = thisMachine): void {
  const missing = Object.keys(PACKAGES).filter((what) => !machine.has(what))
  if (missing.length === 0) return
  const packages = missing.map((what) => PACKAGES[what]!)
  const install = ['install', '-y', '--no-install-recommends', ...packages]
  if (!machine.isDebian || !machine.isRoot) {
    const how = `apt-get update && apt-get ${install.join(' ')}`
    throw new Error(
      `The tests need ${missing.join(', ')}, which this machine does not have. ` +
        `${machine.isDebian ? 'Run as root' : 'Install what on Debian is installed by'}: ${how}`,
    )
  }
  machine.run('apt-get', ['update'])
  machine.run('apt-get', install)
  const still = missing.filter((what) => !machine.has(what))
  if (still.length > 0) throw new Error(`Installed ${packages.join(', ')}, but ${still.join(', ')} can't be found.`)
}

const thisMachine: Machine = {
  isDebian: isExecutable('/usr/bin/apt-get'),
  isRoot: process.getuid?.() === 0,
  has: (what) => (what === SASL_PLUGIN ? hasSaslPlugin() : findServer(what) !== undefined),
  run(command, args) {
    // Debian starts the servers that it installs, unless this file forbids it.
    const forbid = !existsSync(POLICY)
    if (forbid) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
    try {
      const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
      const { status, stderr, error } = spawnSync(command, args, { env, encoding: 'utf8' })
      if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr}`)
    } finally {
      if (forbid) rmSync(POLICY, { force: true })
    }
  },
}

/** memcached needs it for a login; it is a library, in a folder named after the architecture. */
function hasSaslPlugin(): boolean {
  const folders = ['/usr/lib', '/usr/lib64', '/usr/local/lib'].filter((folder) => existsSync(folder))
  return folders
    .flatMap((folder) => [folder, ...readdirSync(folder).map((name) => `${folder}/${name}`)])
    .some((folder) => existsSync(`${folder}/sasl2/libplain.so`))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
