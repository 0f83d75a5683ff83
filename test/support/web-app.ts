import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import express from 'express'
import { onTestFinished } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { type SessionManagerOptions, session } from '../../adapters/web/express.ts'
import type { SessionManager } from '../../lib/index.ts'
import type { Logger, StorageClient } from '../../lib/ports.ts'

export const quiet: Logger = { info: () => {}, warn: () => {}, error: () => {} }

export interface MemoryNodes {
  /** What the nodes were asked, as `get n1 <key>`. */
  readonly log: string[]
  /** The options of a manager that uses them. */
  readonly options: SessionManagerOptions
  get(nodeId: string): MemoryStorageClient
}

/** Nodes n1, n2, … in memory that several managers share and that can be stopped. */
export function memoryNodes(count: number): MemoryNodes {
  const clients = new Map(Array.from({ length: count }, (_, i) => [`n${i + 1}`, new MemoryStorageClient()]))
  const log: string[] = []
  const open = (nodeId: string): StorageClient => {
    const node = clients.get(nodeId)!
    return new Proxy(node, {
      get(_target, method: keyof MemoryStorageClient) {
        if (method === 'close') return async () => {}
        if (!(method in node)) return undefined
        const operation = node[method] as (...args: unknown[]) => unknown
        return (...args: unknown[]) => {
          if (method !== 'probe') log.push(`${method} ${nodeId} ${args[0]}`)
          return operation.apply(node, args)
        }
      },
    })
  }
  const memcachedNodes = [...clients.keys()].map((id) => `${id}:in-memory:1`).join(',')
  const options: SessionManagerOptions = { memcachedNodes, storage: (address) => open(address.nodeId!) }
  return { log, options, get: (nodeId) => clients.get(nodeId)! }
}

export interface Answer {
  readonly status: number
  readonly body: { readonly id: string; readonly attributes: Record<string, unknown> }
  /** The id in the Set-Cookie header, undefined if there is none. */
  readonly announced: string | undefined
}

/** An app and the means to call it. */
export interface App {
  readonly url: string
  readonly manager: SessionManager
  call(path: string, id?: string): Promise<Answer>
  stop(): Promise<void>
}

/** An Express app of this process, that can be asked to set, read, and end its session. */
export async function startApp(
  options: SessionManagerOptions,
  add: (app: express.Express) => void = () => {},
): Promise<App> {
  const sessions = session({ logger: quiet, ...options })
  const app = express().use(sessions)
  app.get('/set', (request, response) => {
    Object.assign(request.session, request.query)
    response.json({ id: request.session.id, attributes: request.session })
  })
  app.get('/get', (request, response) => void response.json({ id: request.session.id, attributes: request.session }))
  app.get('/out', (request, response) => void request.session.destroy(() => response.json({})))
  add(app)
  app.use((error: Error & { status?: number }, _request: unknown, response: express.Response, _next: unknown) => {
    response.status(error.status ?? 500).json({ error: error.message })
  })
  const server = app.listen(0, '127.0.0.1')
  await Promise.all([once(server, 'listening'), sessions.manager.start()])
  const stop = async (): Promise<void> => {
    server.close()
    server.closeAllConnections()
    await sessions.manager.stop()
  }
  onTestFinished(stop)
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const call = async (path: string, id?: string): Promise<Answer> => {
    const response = await fetch(url + path, id === undefined ? {} : { headers: { cookie: `JSESSIONID=${id}` } })
    const announced = /JSESSIONID=([^;]+)/.exec(response.headers.get('set-cookie') ?? '')?.[1]
    return { body: (await response.json()) as Answer['body'], announced, status: response.status }
  }
  return { call, stop, url, manager: sessions.manager }
}
