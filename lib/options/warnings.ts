import type { ResolvedOptions } from './resolved-options.ts'

/** Browsers keep no cookie for longer (RFC 6265bis, 5.5). */
const MAX_COOKIE_AGE_SECONDS = 400 * 24 * 60 * 60
/** Hosts that are reached without a network. */
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/i

/** Settings that are allowed, but do less or other than they seem to. */
export function findWarnings(options: Omit<ResolvedOptions, 'warnings'>): string[] {
  const { sticky, nodes, raw, lockingMode, cookie } = options
  const kind = nodes.addresses[0]!.kind
  const warnings: string[] = []
  if (kind === 'memory' && options.storage === 'auto' && process.env.NODE_ENV === 'production') {
    warnings.push(
      'Without memcachedNodes, sessions are in the memory of this process only: they are lost when it ends, and other ' +
        'processes do not see them.',
    )
  }
  if (!sticky && raw.failoverNodes?.trim()) {
    warnings.push('failoverNodes has no effect with sticky: false: every node is used.')
  }
  if (!sticky && options.attributeFilter) {
    warnings.push(
      'sessionAttributeFilter with sticky: false: attributes that it does not match are lost at the end of a request.',
    )
  }
  if (!sticky && options.jvmRoute !== undefined) {
    warnings.push('jvmRoute has no use with sticky: false: any process can serve any request.')
  }
  if (sticky && lockingMode.kind === 'none' && lockingMode.text.toLowerCase() !== 'none') {
    warnings.push(
      `lockingMode: '${lockingMode.text}' has no effect in sticky mode; 'all', 'app' and 'uriPattern:' have.`,
    )
  }
  if (kind !== 'memcached' && options.username !== undefined && options.storage === 'auto') {
    const instead =
      kind === 'redis' ? 'Redis takes them from the URL (redis://user:password@host).' : 'no node asks for them.'
    warnings.push(`username and password have no effect: ${instead}`)
  }
  if (kind === 'memcached' && options.username !== undefined && options.storage === 'auto') {
    const open = nodes.addresses.filter(({ host }) => !LOOPBACK.test(host))
    if (open.length > 0) {
      warnings.push(
        `username and password go to memcached unencrypted (${open.map(({ label }) => label).join(', ')}): whoever can ` +
          'read the network there can read them, and the sessions. Use a network of its own, or a TLS tunnel on this machine.',
      )
    }
  }
  if (cookie.maxAge !== undefined && cookie.maxAge > MAX_COOKIE_AGE_SECONDS) {
    warnings.push(
      `cookie.maxAge is in seconds: browsers shorten ${cookie.maxAge} to ${MAX_COOKIE_AGE_SECONDS} (400 days).`,
    )
  }
  return warnings
}
