import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

describe('the packed package in an empty folder', () => {
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'msm-package-'))
    const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
      cwd: ROOT,
    })
    const [packed] = JSON.parse(stdout.slice(stdout.indexOf('['))) as [{ filename: string }]
    await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }')
    await run('npm', ['install', '--no-audit', '--no-fund', `./${packed.filename}`, 'express@5', 'msgpackr@2'], {
      cwd: folder,
    })
  }, 180_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const script = async (source: string): Promise<string> => {
    await writeFile(join(folder, 'script.mjs'), source)
    const { stdout } = await run(process.execPath, ['script.mjs'], { cwd: folder, timeout: 30_000 })
    return stdout.trim()
  }

  it('serves a session, stops, and lets the process end', async () => {
    const output = await script(`
      import express from 'express'
      import { session } from 'memcached-session-manager/express'
      const sessions = session({ logger: { info() {}, warn() {}, error: console.error } })
      const app = express().use(sessions).get('/', (req, res) => {
        req.session.views = (req.session.views ?? 0) + 1
        res.send(String(req.session.views))
      })
      const server = app.listen(0, '127.0.0.1', async () => {
        const url = 'http://127.0.0.1:' + server.address().port
        const first = await fetch(url)
        const cookie = first.headers.get('set-cookie').split(';')[0]
        const second = await fetch(url, { headers: { cookie } })
        console.log(await first.text(), await second.text())
        await sessions.manager.stop()
        server.close()
        server.closeAllConnections()
      })`)
    expect(output).toBe('1 2')
  })

  it('names the install command of a client that is missing', async () => {
    const output = await script(`
      import { createSessionManager } from 'memcached-session-manager'
      try { createSessionManager({ memcachedNodes: 'n1:localhost:11211' }) }
      catch (error) { console.log(error.code, error.message) }`)
    expect(output).toContain('ERR_MSM_MISSING_PACKAGE')
    expect(output).toContain('npm install memjs')
  })

  it('has every subpath that is exported', async () => {
    const { exports } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { exports: object }
    const names = Object.keys(exports).filter((name) => !name.endsWith('.json'))
    const imports = names.map((name) => `await import('memcached-session-manager${name.slice(1)}')`)
    expect(await script(`${imports.join('\n')}\nconsole.log('all')`)).toBe('all')
  })
})
