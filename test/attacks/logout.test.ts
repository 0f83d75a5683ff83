import { describe, expect, it } from 'vitest'
import { memoryNodes, startApp } from '../support/web-app.ts'

describe.each([
  [true, 'none'],
  [true, 'all'],
  [false, 'optimistic'],
  [false, 'none'],
  [false, 'all'],
] as const)(
  'a logout while the node of the session is down, with sticky: %s, lockingMode %s',
  (sticky, lockingMode) => {
    it('is final: the node comes back with all it had, and no process and no copy has the session', async () => {
      const nodes = memoryNodes(2)
      const options = { ...nodes.options, sticky, lockingMode, sessionBackupAsync: false, operationTimeout: 200 }
      const app = await startApp(options)
      const id = (await app.call('/set?user=ann')).announced!
      const home = id.slice(33)
      const [itsKeys, others] = [
        [id, `validity:${id}`],
        [`bak:${id}`, `bak:validity:${id}`],
      ]
      if (!sticky) await expect.poll(() => nodes.get(home === 'n1' ? 'n2' : 'n1').get(others[1]!)).toBeDefined()
      nodes.get(home).stop()
      const moved = await app.call('/get', id)
      const current = moved.announced ?? id
      expect(moved.body.attributes).toEqual({ user: 'ann' })
      expect((await app.call('/out', current)).status).toBe(200)
      nodes.get(home).start()
      await expect.poll(() => app.manager.health().status, { timeout: 5000 }).toBe('ok')
      await expect.poll(() => nodes.get(home).get(id)).toBeUndefined()
      const other = await startApp(options)
      for (const process of [app, other]) {
        for (const known of [id, current]) {
          const { status, body } = await process.call('/get', known)
          expect([status, body.attributes]).toEqual([200, {}])
          expect(body.id.slice(0, 32)).not.toBe(id.slice(0, 32))
          expect(await process.manager.get(known)).toBeUndefined()
        }
      }
      for (const nodeId of ['n1', 'n2']) {
        for (const key of [...itsKeys, ...others]) {
          await expect.poll(() => nodes.get(nodeId).get(key.replace(/n[12]$/, nodeId))).toBeUndefined()
        }
      }
    })
  },
)
