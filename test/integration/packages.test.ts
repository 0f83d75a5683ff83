import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import flash from 'connect-flash'
import { csrfSync } from 'csrf-sync'
import express from 'express'
import Koa from 'koa'
import koaFlash from 'koa-better-flash'
import koaPassport from 'koa-passport'
import passport from 'passport'
import { Strategy } from 'passport-local'
import { Server as SocketServer } from 'socket.io'
import { io } from 'socket.io-client'
import { describe, expect, it, onTestFinished } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { session as expressSession } from '../../adapters/web/express.ts'
import { session as koaSession } from '../../adapters/web/koa.ts'
import { createSessionManager, type SessionManager } from '../../lib/index.ts'
import { memoryNodes, quiet } from '../support/web-app.ts'

/** A browser with one cookie. */
class Browser {
  cookie: string | undefined
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  get id(): string {
    return this.cookie!.split('=')[1]!
  }

  async get(path: string, method = 'GET', headers: Record<string, string> = {}) {
    const response = await fetch(this.#url + path, {
      method,
      redirect: 'manual',
      headers: { ...(this.cookie ? { cookie: this.cookie } : {}), ...headers },
    })
    const announced = response.headers.getSetCookie().find((value) => value.startsWith('JSESSIONID='))
    if (announced) this.cookie = announced.split(';')[0]
    return { status: response.status, text: await response.text() }
  }
}

async function serve(manager: SessionManager, handler: Parameters<typeof createServer>[1]) {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    server.close()
    server.closeAllConnections()
    await manager.stop()
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

describe.each([true, false])('with sticky: %s, unpatched', (sticky) => {
  const newManager = (): SessionManager =>
    createSessionManager({ ...memoryNodes(2).options, sticky, sessionBackupAsync: false, logger: quiet })

  it('Passport logs in and out, and the id of before the login is dead', async () => {
    const manager = newManager()
    const auth = new passport.Passport()
    auth.use(new Strategy((name, password, done) => done(null, password === 'secret' ? { name } : false)))
    auth.serializeUser((user, done) => done(null, (user as { name: string }).name))
    auth.deserializeUser((name, done) => done(null, { name }))
    const app = express()
      .use(expressSession(manager))
      .use(auth.session())
      .get('/cart', (request, response) => {
        request.session.cart = ['apple']
        response.send('ok')
      })
      .get('/login', auth.authenticate('local', { successRedirect: '/who', failureRedirect: '/failed' }))
      .get('/logout', (request, response, next) =>
        request.logout((error) => (error ? next(error) : response.send('out'))),
      )
      .get(
        '/who',
        (request, response) => void response.send((request.user as { name?: string } | undefined)?.name ?? 'nobody'),
      )
    const { url } = await serve(manager, app)
    const browser = new Browser(url)
    await browser.get('/cart')
    const before = browser.cookie
    expect((await browser.get('/login?username=ann&password=wrong')).status).toBe(302)
    expect((await browser.get('/who')).text).toBe('nobody')
    await browser.get('/login?username=ann&password=secret')
    expect(browser.cookie).not.toBe(before)
    expect((await browser.get('/who')).text).toBe('ann')
    const attacker = new Browser(url)
    attacker.cookie = before
    expect((await attacker.get('/who')).text).toBe('nobody')
    const loggedIn = browser.cookie
    expect((await browser.get('/logout')).text).toBe('out')
    expect((await browser.get('/who')).text).toBe('nobody')
    attacker.cookie = loggedIn
    expect((await attacker.get('/who')).text).toBe('nobody')
  })

  it('connect-flash shows a message once, after the redirect', async () => {
    const manager = newManager()
    const app = express()
      .use(expressSession(manager))
      .use(flash())
      .get('/leave', (request, response) => {
        request.flash('info', 'hello')
        response.redirect('/read')
      })
      .get('/read', (request, response) => void response.json(request.flash('info')))
    const browser = new Browser((await serve(manager, app)).url)
    expect((await browser.get('/leave')).status).toBe(302)
    expect((await browser.get('/read')).text).toBe('["hello"]')
    expect((await browser.get('/read')).text).toBe('[]')
  })

  it('csrf-sync lets a form through with its token only', async () => {
    const manager = newManager()
    const { csrfSynchronisedProtection, generateToken } = csrfSync()
    const app = express()
      .use(expressSession(manager))
      .get('/token', (request, response) => void response.send(generateToken(request)))
      .post('/form', csrfSynchronisedProtection, (_request, response) => void response.send('sent'))
    const browser = new Browser((await serve(manager, app)).url)
    const { text } = await browser.get('/token')
    expect((await browser.get('/form', 'POST', { 'x-csrf-token': text })).text).toBe('sent')
    expect((await browser.get('/form', 'POST', { 'x-csrf-token': 'forged' })).status).toBe(403)
  })

  it('koa-passport logs in and out', async () => {
    const manager = newManager()
    const auth = new koaPassport.KoaPassport()
    auth.use(new Strategy((name, password, done) => done(null, password === 'secret' ? { name } : false)))
    auth.serializeUser((user, done) => done(null, (user as { name: string }).name))
    auth.deserializeUser((name, done) => done(null, { name }))
    const app = new Koa()
    app.silent = true
    app.use(koaSession(manager)).use(auth.initialize()).use(auth.session())
    app.use(async (context, next) => {
      if (context.path === '/login') {
        return auth.authenticate('local', { successRedirect: '/who', failureRedirect: '/failed' })(context, next)
      }
      if (context.path === '/cart') context.session.cart = ['apple']
      if (context.path === '/logout') await context.logout()
      context.body = (context.state.user as { name?: string } | undefined)?.name ?? 'nobody'
    })
    const browser = new Browser((await serve(manager, app.callback())).url)
    await browser.get('/cart')
    const before = browser.cookie
    await browser.get('/login?username=ann&password=secret')
    expect(browser.cookie).not.toBe(before)
    expect((await browser.get('/who')).text).toBe('ann')
    await browser.get('/logout')
    expect((await browser.get('/who')).text).toBe('nobody')
  })

  it('koa-better-flash shows a message once, after the redirect', async () => {
    const manager = newManager()
    const app = new Koa()
    app.use(koaSession(manager)).use(koaFlash())
    app.use((context) => {
      if (context.path === '/leave') {
        context.flash('info', 'hello')
        context.redirect('/read')
      } else context.body = JSON.stringify(context.flash('info'))
    })
    const browser = new Browser((await serve(manager, app.callback())).url)
    expect((await browser.get('/leave')).status).toBe(302)
    expect((await browser.get('/read')).text).toBe('["hello"]')
    expect((await browser.get('/read')).text).toBe('[]')
  })

  it.each(['polling', 'websocket'] as const)('Socket.IO sees the session of the page, by %s', async (transport) => {
    const manager = newManager()
    const sessions = expressSession(manager)
    const app = express().use(sessions)
    app.get('/login', (request, response) => {
      request.session.user = 'ann'
      response.send('ok')
    })
    app.get('/seen', (request, response) => void response.json(request.session.seen ?? null))
    const { server, url } = await serve(manager, app)
    const sockets = new SocketServer(server)
    onTestFinished(() => void sockets.close())
    sockets.engine.use(sessions)
    sockets.on('connection', (socket) => {
      const { session } = socket.request as unknown as express.Request
      socket.on('who', async (reply: (user: unknown) => void) => {
        await session.reload()
        session.seen = 'by socket'
        await session.save()
        reply(session.user)
      })
    })
    const browser = new Browser(url)
    await browser.get('/login')
    const client = io(url, { transports: [transport], extraHeaders: { cookie: browser.cookie! }, reconnection: false })
    onTestFinished(() => void client.close())
    await once(client as never, 'connect')
    expect(await client.emitWithAck('who')).toBe('ann')
    expect((await browser.get('/seen')).text).toBe('"by socket"')
  })

  it('ws gets the session of its upgrade from the manager', async () => {
    const manager = newManager()
    const app = express().use(expressSession(manager))
    app.get('/login', (request, response) => {
      request.session.user = 'ann'
      response.send('ok')
    })
    const { server, url } = await serve(manager, app)
    const sockets = new WebSocketServer({ noServer: true })
    server.on('upgrade', async (request, socket, head) => {
      const session = await manager.fromRequest(request)
      if (!session?.user) {
        socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n')
        return
      }
      sockets.handleUpgrade(request, socket, head, (webSocket) => webSocket.send(String(session.user)))
    })
    const browser = new Browser(url)
    await browser.get('/login')
    const open = (cookie?: string): WebSocket =>
      new WebSocket(url.replace('http', 'ws'), cookie === undefined ? {} : { headers: { cookie } })
    const [message] = await once(open(browser.cookie), 'message')
    expect(String(message)).toBe('ann')
    const [error] = await once(open(), 'error')
    expect((error as Error).message).toContain('401')
  })
})
