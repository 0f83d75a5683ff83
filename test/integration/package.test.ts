import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { io } from 'socket.io-client'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { freePort } from '../support/servers.ts'

const run = promisify(execFile)
/** What the examples need besides; their versions are those the other tests run with. */
const FOR_EXAMPLES = ['koa@3', 'fastify@5', 'ws@8', 'socket.io@4']
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
    await run(
      'npm',
      ['install', '--no-audit', '--no-fund', `./${packed.filename}`, 'express@5', 'msgpackr@2', ...FOR_EXAMPLES],
      {
        cwd: folder,
      },
    )
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

  /** Runs an example as its reader would, until `use` is done with it, and sees that it ends by itself then. */
  const example = async (name: string, use: (browse: Browse, url: string) => Promise<void>): Promise<void> => {
    await copyFile(join(ROOT, 'examples', name, 'index.mjs'), join(folder, `${name}.mjs`))
    const port = await freePort()
    const child = spawn(process.execPath, [`${name}.mjs`], {
      cwd: folder,
      env: { ...process.env, PORT: `${port}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    await expect.poll(() => output, { timeout: 10_000 }).toContain('listening')
    const url = `http://127.0.0.1:${port}`
    let cookie = ''
    await use(async (path) => {
      const response = await fetch(url + path, { redirect: 'manual', headers: { cookie } })
      const announced = response.headers.get('set-cookie')
      if (announced) cookie = announced.split(';')[0]!
      const location = response.headers.get('location')
      const text = await response.text()
      return { status: response.status, location, cookie, body: location ? undefined : JSON.parse(text) }
    }, url)
    const exit = once(child, 'exit')
    child.kill('SIGTERM')
    expect((await exit)[0]).toBe(0)
  }

  it('runs the Express example', () =>
    example('express', async (browse) => {
      expect((await browse('/')).body).toEqual({ user: null, views: 1 })
      const before = (await browse('/')).cookie
      expect(await browse('/login?name=ann')).toMatchObject({ status: 302, location: '/' })
      const after = await browse('/')
      expect(after.body).toEqual({ user: 'ann', views: 3 })
      expect(after.cookie).not.toBe(before)
      expect((await browse('/logout-others')).body).toEqual({ ended: 0 })
      expect((await browse('/health')).body).toMatchObject({ status: 'ok', mode: 'sticky' })
      await browse('/logout')
      expect((await browse('/')).body).toEqual({ user: null, views: 1 })
    }))

  it('runs the Koa example', () =>
    example('koa', async (browse) => {
      await browse('/add?item=apple')
      await browse('/add?item=pear')
      expect((await browse('/')).body).toEqual({ cart: ['apple', 'pear'] })
      expect(new Date((await browse('/remember')).body.until).getTime()).toBeGreaterThan(Date.now() + 29 * 86_400_000)
      await browse('/empty')
      expect((await browse('/')).body).toEqual({ cart: [] })
    }))

  it('runs the Fastify example', () =>
    example('fastify', async (browse) => {
      expect((await browse('/')).body).toEqual({ views: 1 })
      expect((await browse('/')).body).toEqual({ views: 2 })
      await browse('/logout')
      expect((await browse('/')).body).toEqual({ views: 1 })
    }))

  it('runs the WebSocket example', () =>
    example('websocket', async (browse, url) => {
      const { cookie } = await browse('/login?name=ann')
      const ws = new WebSocket(`${url.replace('http', 'ws')}/ws`, { headers: { cookie } })
      const [hello] = await once(ws, 'message')
      expect(String(hello)).toBe('hello ann')
      ws.send('anything')
      const [count] = await once(ws, 'message')
      expect(String(count)).toBe('1')
      expect((await browse('/')).body).toEqual({ user: 'ann', messages: 1 })
      const client = io(url, { transports: ['websocket'], extraHeaders: { cookie }, reconnection: false })
      onTestFinished(() => void client.close())
      expect(await client.emitWithAck('who')).toBe('ann')
      client.close()
    }))
})

interface Visit {
  readonly status: number
  readonly location: string | null
  readonly cookie: string
  // biome-ignore lint/suspicious/noExplicitAny: whatever the example answers
  readonly body: any
}
type Browse = (path: string) => Promise<Visit>
