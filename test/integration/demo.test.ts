import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const DEMO = fileURLToPath(new URL('../../examples/demo/index.mjs', import.meta.url))

function demo(args: string[], env: Record<string, string> = {}): { status: number | null; lines: string[] } {
  const { status, stdout } = spawnSync(process.execPath, [DEMO, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 25_000,
  })
  return { status, lines: stdout.trim().split('\n') }
}

describe('the demo', () => {
  it.each([
    ['nodes in its own process', []],
    ['two memcached servers', ['--memcached']],
  ])('loses no session on %s', (_nodes, args) => {
    const { status, lines } = demo(args)
    expect(lines.at(-1)).toBe('0 sessions lost')
    expect(status).toBe(0)
  })

  it('fails if a process and the only node left are killed at once', () => {
    const { status, lines } = demo([], { DEMO_SABOTAGE: '1' })
    expect(lines.join('\n')).toContain('sessions lost')
    expect(lines.at(-1)).not.toBe('0 sessions lost')
    expect(status).toBe(1)
  })
})
