import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resolveOptions } from '../../lib/options.ts'
import { type Server, startMemcached } from '../support/servers.ts'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Calls the app of a block twice with one cookie, and prints what it answers. */
const DRIVER = `
import { createServer } from 'node:http'
const server = createServer(app.callback?.() ?? app).listen(0, '127.0.0.1', async () => {
  const url = 'http://127.0.0.1:' + server.address().port
  const first = await fetch(url)
  const cookie = first.headers.getSetCookie().map((value) => value.split(';')[0]).join('; ')
  const second = await fetch(url, { headers: { cookie } })
  process.stdout.write('answers ' + await first.text() + ' ' + await second.text() + '\\n', () => process.exit())
})`

const guide = await readFile(join(ROOT, 'docs/migrating.md'), 'utf8')
const blocks = [...guide.matchAll(/```js (before|after)\n(.*?)```/gs)].map(([, kind, source], i) => ({
  i,
  kind,
  source: source!,
}))

describe('the migration guide', () => {
  let folder: string
  let servers: Server[]
  beforeAll(async () => {
    servers = await Promise.all([startMemcached(), startMemcached()])
    folder = await mkdtemp(join(tmpdir(), 'msm-migrating-'))
    // What is imported by its name is what is installed here, and the package itself as it is built.
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  })
  afterAll(async () => {
    for (const server of servers) await server.stop()
    await rm(folder, { recursive: true, force: true })
  })

  it('has a block of code before and after for each package, and one for Tomcat', () => {
    expect(blocks.map(({ kind }) => kind)).toEqual(['before', 'after', 'before', 'after', 'after'])
  })

  it.each(
    blocks.flatMap((block) =>
      block.kind === 'after'
        ? [
            { ...block, nodes: 0 },
            { ...block, nodes: 2 },
          ]
        : [{ ...block, nodes: 0 }],
    ),
  )('shows code that counts to two: block $i, $kind, on $nodes nodes', async ({ i, source, nodes }) => {
    const own = `'${join(ROOT, 'dist/adapters/web/')}`
    const script = source.replace(/'memcached-session-manager\/(\w+)'/, `${own}$1.js'`)
    const path = join(folder, `block-${i}-${nodes}.mjs`)
    await writeFile(path, script + DRIVER)
    const MEMCACHED_NODES = servers.map(({ port }, n) => `n${n + 1}:127.0.0.1:${port}`).join(',')
    const env = { ...process.env, ...(nodes === 0 ? {} : { MEMCACHED_NODES }) }
    const { stdout } = await run(process.execPath, [path], { env, timeout: 20_000 })
    expect(stdout).toContain('answers 1 2\n')
  })

  it.each(['store', 'secret', 'resave', 'key', 'signed', 'renew', 'ContextStore', 'externalKey', 'maxAge'])(
    'is right that the option %s is refused with what to do instead',
    (name) => {
      expect(() => resolveOptions({ [name]: true } as never)).toThrow(
        new RegExp(`^The option ${name} is not supported\\. .{20}`),
      )
    },
  )
})
