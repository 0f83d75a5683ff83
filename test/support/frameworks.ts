import { createReadStream } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import express5 from 'express'
import express4 from 'express4'
import Fastify from 'fastify'
import Koa3 from 'koa'
import Koa2 from 'koa2'
import { session as expressSession } from '../../adapters/web/express.ts'
import { session as fastifySession, withoutSessionId } from '../../adapters/web/fastify.ts'
import { session as koaSession } from '../../adapters/web/koa.ts'
import type { SessionManager, SessionMethods } from '../../lib/index.ts'

/** A session, whatever the framework calls it. */
export type AnySession = SessionMethods & { [name: string]: unknown }

/** What a handler of the contract can do, whatever the framework. */
export interface Context {
  readonly query: URLSearchParams
  readonly raw: ServerResponse
  session: AnySession
  loadSession(): Promise<AnySession>
  json(value: unknown): void
  redirect(to: string): void
  stream(file: string): void
  notModified(): void
  encodeURL(url: string): string
}
export type Handler = (context: Context) => void | Promise<void>
export type Routes = Record<string, Handler>

export interface Framework {
  readonly name: string
  /** Trusts one proxy, if asked to. */
  serve(manager: SessionManager, routes: Routes, trustProxy: boolean): Promise<Server>
}

const queryOf = (request: IncomingMessage): URLSearchParams =>
  new URL(request.url ?? '/', 'http://localhost').searchParams

// biome-ignore lint/suspicious/noExplicitAny: the two versions of Express are typed alike, but not the same
function expressFramework(name: string, express: any): Framework {
  return {
    name,
    async serve(manager, routes, trustProxy) {
      const app = express()
      app.set('trust proxy', trustProxy)
      app.use(expressSession(manager))
      for (const [path, handler] of Object.entries(routes)) {
        // biome-ignore lint/suspicious/noExplicitAny: as above
        app.get(path, async (request: any, response: any, next: any) => {
          const context: Context = {
            query: queryOf(request),
            raw: response,
            get session() {
              return request.session
            },
            set session(value) {
              request.session = value
            },
            loadSession: () => request.loadSession(),
            json: (value) => void response.json(value),
            redirect: (to) => void response.redirect(to),
            stream: (file) => void createReadStream(file).pipe(response),
            notModified: () => void response.status(304).end(),
            encodeURL: (url) => response.encodeURL(url),
          }
          try {
            await handler(context)
          } catch (error) {
            next(error)
          }
        })
      }
      // biome-ignore lint/suspicious/noExplicitAny: as above
      app.use((error: any, _request: any, response: any, next: any) => {
        if (response.headersSent) return next(error)
        response.status(error.status ?? 500).json({ error: error.message })
      })
      return createServer(app)
    },
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the two versions of Koa are typed alike, but not the same
function koaFramework(name: string, Koa: any): Framework {
  return {
    name,
    async serve(manager, routes, trustProxy) {
      const app = new Koa()
      app.proxy = trustProxy
      app.silent = true
      app.use(koaSession(manager))
      // biome-ignore lint/suspicious/noExplicitAny: as above
      app.use(async (context: any) => {
        const handler = routes[context.path]
        await handler?.({
          query: queryOf(context.req),
          raw: context.res,
          get session() {
            return context.session
          },
          set session(value) {
            context.session = value
          },
          loadSession: () => context.loadSession(),
          json: (value) => {
            if (!context.res.headersSent) context.body = JSON.stringify(value)
          },
          redirect: (to) => context.redirect(to),
          stream: (file) => {
            context.body = createReadStream(file)
          },
          notModified: () => {
            context.status = 304
          },
          encodeURL: (url) => context.encodeURL(url),
        })
      })
      return createServer(app.callback())
    },
  }
}

const fastify5: Framework = {
  name: 'Fastify 5',
  async serve(manager, routes, trustProxy) {
    let listener: (request: IncomingMessage, response: ServerResponse) => void
    const app = Fastify({
      trustProxy,
      rewriteUrl: (request) => withoutSessionId(request.url ?? '/', 'JSESSIONID'),
      serverFactory: (handler) => {
        listener = handler
        return createServer(handler)
      },
    })
    await app.register(fastifySession, { manager })
    for (const [path, handler] of Object.entries(routes)) {
      app.get(path, (request, reply) => {
        const context: Context = {
          query: new URLSearchParams(request.query as Record<string, string>),
          raw: reply.raw,
          get session() {
            return request.session as unknown as AnySession
          },
          set session(value) {
            request.session = value as never
          },
          loadSession: () => request.loadSession() as never,
          json: (value) => {
            if (!reply.raw.headersSent) reply.send(value)
          },
          redirect: (to) => void reply.redirect(to),
          stream: (file) => void reply.send(createReadStream(file)),
          notModified: () => void reply.code(304).send(),
          encodeURL: (url) => reply.encodeURL(url),
        }
        Promise.resolve()
          .then(() => handler(context))
          .catch((error) => reply.send(error))
      })
    }
    await app.ready()
    return createServer((request, response) => listener(request, response))
  },
}

export const frameworks: readonly Framework[] = [
  expressFramework('Express 4', express4),
  expressFramework('Express 5', express5),
  koaFramework('Koa 2', Koa2),
  koaFramework('Koa 3', Koa3),
  fastify5,
]
