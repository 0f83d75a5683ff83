import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createSessionManager, type SessionManagerOptions } from '../../lib/index.ts'
import { type RawStore, rawMemcached, rawRedis } from '../support/raw-stores.ts'
import { type Server, startMemcached, startRedis } from '../support/servers.ts'
import { memoryNodes, quiet, startApp } from '../support/web-app.ts'
import { MADE_UP } from './tools.ts'

const APP = fileURLToPath(new URL('./apps/talkative.mjs', import.meta.url))
const PASSWORD = 'hunter2-Secr3t'
const KEY = Buffer.alloc(32, 'A key of thirty-two characters!!')

/** A process of the talkative app, and all that it has written and answered. */
class Talker {
  readonly ids = new Set<string>()
  output = ''
  #url = ''
  readonly #child: ChildProcess

  private constructor(options: SessionManagerOptions) {
    this.#child = fork(APP, [JSON.stringify(options)], {
      silent: true,
      env: { ...process.env, NODE_ENV: 'production' },
    })
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on('data', (data) => {
        this.output += String(data)
      })
    }
    onTestFinished(() => void this.#child.kill('SIGKILL'))
  }

  static async start(options: SessionManagerOptions): Promise<Talker> {
    const talker = new Talker(options)
    const [port] = await Promise.race([once(talker.#child, 'message'), once(talker.#child, 'exit')])
    talker.#url = `http://127.0.0.1:${port}`
    return talker
  }

  /** The status, and the id that the client has from then on. */
  async call(path: string, id?: string): Promise<{ status: number; id: string }> {
    const response = await fetch(this.#url + path, id === undefined ? {} : { headers: { cookie: `JSESSIONID=${id}` } })
    const body = await response.text()
    if (response.status >= 400) this.output += `${body}\n`
    const announced = /JSESSIONID=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1]
    for (const known of [announced, id]) if (known) this.ids.add(known)
    return { status: response.status, id: announced ?? id ?? '' }
  }

  /** Ends the process as it should, so that all it has to say is there. */
  async stop(): Promise<void> {
    const closed = once(this.#child, 'close')
    this.#child.send('stop')
    const [code] = await closed
    expect(code).toBe(0)
  }
}

const STORES = ['memcached', 'Redis'] as const

async function startNodes(
  kind: (typeof STORES)[number],
): Promise<{ servers: Server[]; raws: RawStore[]; nodes: string }> {
  const start = () => (kind === 'Redis' ? startRedis({ args: ['--requirepass', PASSWORD] }) : startMemcached())
  const servers = [await start(), await start()]
  onTestFinished(async () => void (await Promise.all(servers.map((server) => server.stop()))))
  const url = ({ port }: Server): string =>
    kind === 'Redis' ? `redis://:${PASSWORD}@127.0.0.1:${port}` : `127.0.0.1:${port}`
  return {
    servers,
    raws: servers.map((server) => (kind === 'Redis' ? loggedIn(server) : rawMemcached(server))),
    nodes: servers.map((server, i) => `n${i + 1}:${url(server)}`).join(','),
  }
}

/** Looking into a Redis that asks for a password: that is taken away for the moment. */
function loggedIn(server: Server): RawStore {
  const raw = rawRedis(server)
  const opened = new Promise<void>((resolve, reject) => {
    const socket = connect(server.port, server.host, () =>
      socket.write(`AUTH ${PASSWORD}\r\nCONFIG SET requirepass ""\r\n`),
    )
    socket.once('error', reject)
    socket.once('data', () => {
      socket.destroy()
      setTimeout(resolve, 20)
    })
  })
  return {
    get: async (key) => opened.then(() => raw.get(key)),
    set: async (key, value, ttl) => opened.then(() => raw.set(key, value, ttl)),
    delete: async (key) => opened.then(() => raw.delete(key)),
    commands: async () => opened.then(() => raw.commands()),
  }
}

/** Where the text is in the output, with what stands there; empty if it is nowhere. */
function around(output: string, text: string): string {
  const at = output.indexOf(text)
  return at < 0 ? '' : output.slice(Math.max(0, at - 300), at + 300)
}

function expectSilence(talker: Talker): void {
  const { output, ids } = talker
  expect(ids.size).toBeGreaterThan(3)
  const upper = output.toUpperCase()
  for (const id of ids) expect(around(upper, id.slice(0, 32).toUpperCase())).toBe('')
  for (const secret of [PASSWORD, Buffer.from(PASSWORD).toString('base64'), KEY.toString('hex'), 'thirty-two']) {
    expect(around(output, secret)).toBe('')
  }
  expect(around(output, 'private')).toBe('')
}

describe.each(STORES.flatMap((kind) => [true, false].map((sticky) => [kind, sticky] as const)))(
  'whatever goes wrong on %s, with sticky: %s,',
  (kind, sticky) => {
    it('no output has a session id, an attribute, or a password: hashes only', async () => {
      const { servers, raws, nodes } = await startNodes(kind)
      const talker = await Talker.start({
        memcachedNodes: nodes,
        sticky,
        sessionBackupAsync: false,
        operationTimeout: 300,
        lockingMode: 'all',
        lockTimeoutMs: 50,
        lockTimeoutPolicy: 'reject',
        maxSessionsPerPrincipal: 1,
        commitFailurePolicy: 'error',
        encryption: { keys: [KEY.toString('hex')], readPlain: true },
        ...(kind === 'memcached' ? { username: 'app', password: PASSWORD } : {}),
      })
      const { id } = await talker.call('/set?k=private-value')
      // Two at a time, of which one does not get the lock; a large one; one that can't be stored; a name that forges a line.
      await Promise.all([talker.call('/slow', id), talker.call('/slow', id), talker.call('/slow', id)])
      await talker.call('/large', (await talker.call('/set?k=private-value')).id)
      await talker.call('/function?name=f', id)
      await talker.call('/function?name=f%0A[error]%20forged%20line', id)
      await talker.call('/save', id)
      // An id that nobody knows, one that is none, and a login more than there may be.
      await talker.call('/set?k=private-value', `${MADE_UP}-n1`)
      await talker.call('/get', `${'B'.repeat(32)}-n9.t7`)
      const ann = await talker.call('/login', (await talker.call('/set?k=private-value')).id)
      await talker.call('/login', (await talker.call('/set?k=private-value')).id)
      await talker.call('/others')
      await talker.call('/get', ann.id)
      // Records that can not be read.
      const spoilt = await Promise.all(Array.from({ length: 4 }, () => talker.call('/set?k=private-value')))
      for (const [i, { id: other }] of spoilt.entries()) {
        const raw = raws[other.endsWith('n1') ? 0 : 1]!
        const whole = (await raw.get(other))?.value ?? Buffer.from('private')
        await raw.set(
          other,
          [Buffer.from('private'), whole.subarray(0, 60), Buffer.concat([whole, whole])][i % 3]!,
          100,
        )
      }
      const restarted = sticky ? await Talker.start({ memcachedNodes: nodes, sessionBackupAsync: false }) : talker
      for (const { id: other } of spoilt) await restarted.call('/get', other)
      for (const { id: other } of spoilt) talker.ids.add(other)
      if (restarted !== talker) {
        await restarted.stop()
        talker.output += restarted.output
      }
      await talker.call('/state')
      // A node that does not answer, one that is gone, both, and both back.
      await servers[0]!.pause()
      for (const path of ['/set?k=private-2', '/save', '/get']) await talker.call(path, id)
      servers[0]!.resume()
      await servers[0]!.kill()
      for (const path of ['/set?k=private-3', '/save', '/login', '/out'])
        await talker.call(path, (await talker.call('/set?k=1')).id)
      await servers[1]!.kill()
      const { id: orphan } = await talker.call('/set?k=private-4')
      for (const path of ['/get', '/save', '/set?k=private-5', '/login', '/others', '/out']) {
        await talker.call(path, id)
        await talker.call(path, orphan || undefined)
      }
      await talker.call('/state')
      await Promise.all(servers.map((server) => server.start()))
      await new Promise((resolve) => setTimeout(resolve, 700))
      await talker.call('/set?k=private-6')
      await talker.call('/state')
      await talker.stop()

      // It did talk: else there is nothing to be seen here.
      for (const said of [
        'finished initialization',
        'is down',
        'recordRejected',
        'backupFailed',
        'nodeUp',
        'is left out',
      ]) {
        expect(talker.output).toContain(said)
      }
      expect(talker.output).toMatch(/\b[0-9a-f]{8}\b/)
      expect(talker.output).not.toMatch(/^\[error\] forged line/m)
      expectSilence(talker)
    })
  },
)

it.each(['single', 'sentinel', 'cluster'] as const)(
  'a password that Redis refuses, or that is of no use, is in no output: %s',
  async (topology) => {
    const server = await startRedis({ args: ['--requirepass', 'another'] })
    onTestFinished(() => server.stop())
    const host = `127.0.0.1:${server.port}`
    const memcachedNodes = {
      single: `redis://app:${PASSWORD}@${host}`,
      sentinel: `redis+sentinel://:${PASSWORD}@${host}/master`,
      cluster: `redis+cluster://:${PASSWORD}@${host}`,
    }[topology]
    const talker = await Talker.start({
      memcachedNodes,
      sticky: false,
      operationTimeout: 300,
      commitFailurePolicy: 'error',
    })
    for (const path of ['/set?k=1', '/get', '/save', '/state']) await talker.call(path, `${MADE_UP}`)
    await talker.stop()
    expect(talker.output).toMatch(/is down/)
    expect(around(talker.output, PASSWORD)).toBe('')
    expect(around(talker.output, MADE_UP)).toBe('')
  },
)

it.each([
  `redis://:${PASSWORD}@h:99999`,
  `redis://:${PASSWORD}@h1,h2`,
  `redis://:${PASSWORD}@h/x/y`,
  `redis://:${PASSWORD}%zz@h`,
  `redis://:${PASSWORD}/@h`,
  `n1:redis://:${PASSWORD}@h,n1:redis://:${PASSWORD}@h2`,
  `n1:redis://:${PASSWORD}@h,n2:h:11211`,
  `http://:${PASSWORD}@h:1`,
  `:${PASSWORD}@h:11211`,
  `n1:user:${PASSWORD}@h:11211`,
])('an address that is wrong is refused without showing the password: %s', (memcachedNodes) => {
  let refused: unknown
  try {
    createSessionManager({ memcachedNodes, logger: quiet })
  } catch (error) {
    refused = error
  }
  expect(refused).toBeInstanceOf(TypeError)
  expect(inspect(refused, { depth: 9, showHidden: true })).not.toContain(PASSWORD)
})

it('SASL credentials that go over a network unencrypted are warned about at the start, without showing them', async () => {
  const lines: string[] = []
  const log = (line: string): void => void lines.push(line)
  const logger = { info: log, warn: (line: string) => log(`WARN ${line}`), error: log }
  const server = await startMemcached()
  onTestFinished(() => server.stop())
  const manager = createSessionManager({
    memcachedNodes: `n1:127.0.0.1:${server.port},n2:192.0.2.1:11211`,
    operationTimeout: 50,
    username: 'app',
    password: PASSWORD,
    logger,
  })
  await manager.start()
  await manager.stop()
  expect(lines.filter((line) => line.startsWith('WARN username'))).toEqual([
    expect.stringMatching(/unencrypted \(n2:192\.0\.2\.1:11211\)/),
  ])
  expect(lines.join('\n')).not.toContain(PASSWORD)
})

it('a session id gets into no URL of another site', async () => {
  const app = await startApp({ ...memoryNodes(1).options, sessionTracking: ['url'] }, (web) => {
    web.get('/link', (request, response) => {
      request.session.k = 1
      response.json({ id: request.session.id, attributes: { url: response.encodeURL(String(request.query.to)) } })
    })
  })
  const link = async (to: string): Promise<string> => {
    const { body } = await app.call(`/link?to=${encodeURIComponent(to)}`)
    return String(body.attributes.url).replace(body.id, 'ID')
  }
  const FOREIGN = ['//evil.example/', '/\\evil.example/', '\\\\evil.example/', '\\/evil.example', '/\t/evil.example/']
  const MORE = [
    '\t//evil.example',
    '/\n\\evil.example',
    '/\r\n/evil.example',
    ' //evil.example',
    'https://evil.example/',
  ]
  for (const to of [...FOREIGN, ...MORE, 'https:evil.example', 'javascript:x', 'mailto:a@evil.example']) {
    expect(await link(to), JSON.stringify(to)).toBe(to)
  }
  for (const [to, expected] of [
    ['/cart', '/cart;jsessionid=ID'],
    ['/cart?a=//b', '/cart;jsessionid=ID?a=//b'],
    ['?page=2', ';jsessionid=ID?page=2'],
    ['../up', '../up;jsessionid=ID'],
    ['/', '/;jsessionid=ID'],
  ] as const) {
    expect(await link(to)).toBe(expected)
  }
})
