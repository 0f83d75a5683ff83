import { describe, expect, it } from 'vitest'
import type { SessionManagerOptions } from '../../lib/index.ts'
import { quiet, startApp } from '../support/web-app.ts'

async function warningsOf(options: SessionManagerOptions, headers: Record<string, string>, trust = false) {
  const warnings: string[] = []
  const logger = { ...quiet, warn: (line: string) => void warnings.push(line) }
  const app = await startApp({ logger, ...options }, (web) => void web.set('trust proxy', trust))
  const cookies: (string | null)[] = []
  for (let i = 0; i < 3; i++) {
    const response = await fetch(`${app.url}/set?k=v`, { headers })
    cookies.push(response.headers.get('set-cookie'))
  }
  return { warnings, isSecure: cookies.every((cookie) => cookie!.includes('; Secure')) }
}

describe('a cookie that will not come back, or is less safe than it could be, is warned about once', () => {
  it('behind a proxy that got https and is not trusted', async () => {
    const { warnings, isSecure } = await warningsOf({}, { 'x-forwarded-proto': 'https' })
    expect(isSecure).toBe(false)
    expect(warnings).toEqual([expect.stringMatching(/proxy is not trusted.*trust proxy/)])
  })

  it('with secure: true over http', async () => {
    const { warnings, isSecure } = await warningsOf({ cookie: { secure: true } }, {})
    expect(isSecure).toBe(true)
    expect(warnings).toEqual([expect.stringMatching(/browsers drop it.*cookie\.secure: 'auto'/)])
  })
})

describe('there is no warning', () => {
  it.each<[string, SessionManagerOptions, Record<string, string>, boolean, boolean]>([
    ['over plain http', {}, {}, false, false],
    ['behind a trusted proxy', {}, { 'x-forwarded-proto': 'https' }, true, true],
    ['with proxy: true', { proxy: true }, { 'x-forwarded-proto': 'https, http' }, false, true],
    ['with proxy: false, which is meant so', { proxy: false }, { 'x-forwarded-proto': 'https' }, true, false],
    [
      'with secure: true behind a proxy that says https',
      { cookie: { secure: true } },
      { 'x-forwarded-proto': 'https' },
      false,
      true,
    ],
  ])('%s', async (_what, options, headers, trust, isSecure) => {
    expect(await warningsOf(options, headers, trust)).toEqual({ warnings: [], isSecure })
  })
})

it('the cookie can depend on the request, and what a function returns is checked', async () => {
  const app = await startApp({
    logger: quiet,
    name: 'sid',
    cookie: ((request: { query: { domain?: string } }) => ({ domain: request.query.domain })) as never,
  })
  const response = await fetch(`${app.url}/set?domain=example.com`)
  expect(response.headers.get('set-cookie')).toMatch(/^sid=\w+; Domain=example\.com; Path=\/; HttpOnly; SameSite=Lax$/)
  const refused = await fetch(`${app.url}/set?domain=bad;domain`)
  expect(refused.status).toBe(500)
  expect(await refused.json()).toEqual({ error: expect.stringMatching(/^cookie\.domain: "bad;domain" is not valid/) })
})

it('genid makes the ids, and one that is too short is refused', async () => {
  const app = await startApp({
    logger: quiet,
    genid: ((request: { query: { base: string } }) => request.query.base) as never,
  })
  const id = '3f0a2b64-9d6e-4c7b-8a51-0d1c2b3a4f5e'
  const first = await app.call(`/set?base=${id}`)
  expect(first.announced).toBe(id)
  expect((await app.call('/get', id)).body.attributes).toEqual({ base: id })
  expect((await app.call('/set?base=short')).status).toBe(500)
})

it('what an app sets of a cookie is checked before the answer is sent', async () => {
  const app = await startApp({ logger: quiet }, (web) => {
    web.get('/bad', (request, response) => {
      request.session.cookie.domain = 'bad; domain'
      request.session.k = 1
      response.json({ id: '', attributes: {} })
    })
  })
  const refused = await app.call('/bad')
  expect(refused.status).toBe(500)
  expect(refused.announced).toBeUndefined()
  expect((await app.call('/set?k=v')).status).toBe(200)
})
