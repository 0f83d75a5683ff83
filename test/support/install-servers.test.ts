import { describe, expect, it } from 'vitest'
import { ensureServers, findServer, type Machine } from './install-servers.ts'

const ALL = ['memcached', 'redis-server', 'nginx', 'the SASL plugin PLAIN']

/** A machine that has `present`, and after an installation everything that was installed. */
function machine(
  present: string[],
  { isDebian = true, isRoot = true, works = true } = {},
): Machine & { ran: string[] } {
  const has = new Set(present)
  const ran: string[] = []
  const run = (command: string, args: readonly string[]): void => {
    ran.push([command, ...args].join(' '))
    if (works && args[0] === 'install') for (const what of ALL) has.add(what)
  }
  return { isDebian, isRoot, has: (what) => has.has(what), run, ran }
}

describe('ensureServers', () => {
  it('runs nothing when all servers are there', () => {
    const complete = machine(ALL, { isRoot: false })
    ensureServers(complete)
    expect(complete.ran).toEqual([])
  })

  it('installs what is missing, as root on Debian', () => {
    const debian = machine(['nginx', 'the SASL plugin PLAIN'])
    ensureServers(debian)
    expect(debian.ran).toEqual(['apt-get update', 'apt-get install -y --no-install-recommends memcached redis-server'])
  })

  it('says the command to run when it may not install', () => {
    const user = machine(['memcached', 'nginx'], { isRoot: false })
    expect(() => ensureServers(user)).toThrow(
      'The tests need redis-server, the SASL plugin PLAIN, which this machine does not have. Run as root: ' +
        'apt-get update && apt-get install -y --no-install-recommends redis-server libsasl2-modules',
    )
    expect(user.ran).toEqual([])
  })

  it('says what to install where it does not know how', () => {
    const other = machine([], { isDebian: false })
    expect(() => ensureServers(other)).toThrow(
      /^The tests need memcached, redis-server, nginx, .* Install what on Debian/,
    )
    expect(other.ran).toEqual([])
  })

  it('fails when an installation brought nothing', () => {
    expect(() => ensureServers(machine([], { works: false }))).toThrow(
      /but memcached, redis-server, nginx, .* be found/,
    )
  })

  it('finds each server of this machine, and nothing that is not there', () => {
    for (const name of ALL.slice(0, 3)) expect(findServer(name)).toMatch(new RegExp(`^/.*/${name}$`))
    expect(findServer('no-such-server')).toBeUndefined()
  })
})
