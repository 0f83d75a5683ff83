import { describe, expect, it } from 'vitest'
import { compilePattern } from '../../lib/options/pattern.ts'
import { memoryNodes, startApp } from '../support/web-app.ts'
import { sendBytes } from './tools.ts'

const DOCUMENTED = '.*\\.(png|gif|jpg|css|js|ico)$'
/** Over and over what a pattern looks for, but for the end. */
const LONG = '/.png/x.cs'.repeat(820).slice(0, 8192)

describe('a URL that is made to be slow', () => {
  it.each([DOCUMENTED, '.*\\.(png|css)', '/api/.*', '(GET|POST) /cart/\\d+/.*', '.*/static/.*|.*\\.png'])(
    'of 8 KB is matched with %s within a millisecond',
    (pattern) => {
      const { regExp } = compilePattern('requestUriIgnorePattern', pattern)
      let best = Number.POSITIVE_INFINITY
      for (let i = 0; i < 50; i++) {
        const start = performance.now()
        regExp.test(LONG)
        regExp.test(`GET ${LONG}`)
        best = Math.min(best, performance.now() - start)
      }
      expect(best).toBeLessThan(1)
    },
  )

  it('is seen up to 8,192 characters: what comes after them makes no request an ignored one', async () => {
    const nodes = memoryNodes(1)
    const app = await startApp({
      ...nodes.options,
      sticky: false,
      requestUriIgnorePattern: DOCUMENTED,
      lockingMode: 'uriPattern:.*/locked',
    })
    const { announced } = await app.call('/set?k=v')
    const send = (path: string): Promise<{ status: number; text: string }> =>
      sendBytes(
        app,
        Buffer.from(`GET ${path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: JSESSIONID=${announced}\r\n\r\n`),
      )
    const asked = async (path: string): Promise<string[]> => {
      nodes.log.length = 0
      const start = performance.now()
      expect((await send(path)).status).not.toBe(500)
      expect(performance.now() - start).toBeLessThan(2000)
      return nodes.log.filter((line) => /^(?:get|add) /.test(line) && line.includes(announced!))
    }
    expect(await asked(`/${'a'.repeat(8000)}.png`)).toEqual([])
    expect(await asked(`/get?${'a'.repeat(12_000)}.png`)).not.toEqual([])
    expect(await asked(`/get?${'a'.repeat(100)}/locked`)).toContain(`add n1 lock:${announced}`)
    expect(await asked(`/get?${'a'.repeat(12_000)}/locked`)).not.toContain(`add n1 lock:${announced}`)
    // Longer than node takes: refused before any of it is looked at.
    expect((await send(`/get?${'a'.repeat(20_000)}.png`)).status).toBe(431)
  })
})
