import type express from 'express'
import passport from 'passport'
import { Strategy } from 'passport-local'
import { describe, expect, it } from 'vitest'
import { startApp } from '../support/web-app.ts'
import { KINDS, type RealStore, startStore } from './tools.ts'

/** Adds a login with Passport 0.7, as its documentation has it, to an app that has sessions. */
function addLogin(web: express.Express): void {
  const auth = new passport.Passport()
  auth.use(new Strategy((name, password, done) => done(null, password === 'secret' ? { name } : false)))
  auth.serializeUser((user, done) => done(null, (user as { name: string }).name))
  auth.deserializeUser((name, done) => done(null, { name }))
  web.use(auth.session())
  web.get('/login', auth.authenticate('local'), (_request, response) => void response.json({}))
  web.get('/logout', (request, response, next) => request.logout((error) => (error ? next(error) : response.json({}))))
  web.get('/who', (request, response) => {
    response.json({ id: request.session.id, attributes: { user: (request.user as { name?: string })?.name ?? null } })
  })
}

const LOGIN = '/login?username=ann&password=secret'

/** All that there is of a session on a node. */
async function itemsOf(store: RealStore, id: string): Promise<string[]> {
  const found: string[] = []
  for (const nodeId of ['n1', 'n2']) {
    const other = id.replace(/-n[12]/, `-${nodeId}`)
    for (const key of [other, `validity:${other}`, `bak:${other}`, `bak:validity:${other}`]) {
      if (await store.raw.get(key)) found.push(key)
    }
  }
  return [...new Set(found)]
}

describe.each(KINDS.flatMap((kind) => [true, false].map((sticky) => [kind, sticky] as const)))(
  'Passport on two nodes of %s, with sticky: %s',
  (kind, sticky) => {
    it('gives a new id at login and at logout; the one of before is dead in memory and on both nodes', async () => {
      const stores = [await startStore(kind), await startStore(kind)]
      const memcachedNodes = stores.map(({ address }, i) => `n${i + 1}:${address}`).join(',')
      const [app, other] = [
        await startApp({ memcachedNodes, sticky, sessionBackupAsync: false }, addLogin),
        await startApp({ memcachedNodes, sticky, sessionBackupAsync: false }, addLogin),
      ]
      const items = async (id: string): Promise<string[]> =>
        (await Promise.all(stores.map((s) => itemsOf(s, id)))).flat()
      const copies = sticky ? 1 : 4
      // The attacker has a session of the app, and has planted its id in the browser of the victim.
      const planted = (await app.call('/set?cart=apple')).announced!
      await expect.poll(async () => (await items(planted)).length).toBe(copies)

      const victim = (await app.call(LOGIN, planted)).announced!
      expect(victim.slice(0, 32)).not.toBe(planted.slice(0, 32))
      expect((await app.call('/who', victim)).body.attributes).toEqual({ user: 'ann' })
      await expect.poll(() => items(planted)).toEqual([])
      for (const process of [app, other]) {
        expect((await process.call('/who', planted)).body).toEqual({
          id: expect.not.stringContaining(planted.slice(0, 32)),
          attributes: { user: null },
        })
        expect(await process.manager.get(planted)).toBeUndefined()
      }
      await expect.poll(async () => (await items(victim)).length).toBe(copies)

      // Whoever has seen the id of the logged-in user has nothing of it after the logout.
      expect((await app.call('/logout', victim)).status).toBe(200)
      await expect.poll(() => items(victim)).toEqual([])
      for (const process of [app, other]) {
        const { body } = await process.call('/who', victim)
        expect(body.id).not.toContain(victim.slice(0, 32))
        expect(body.attributes).toEqual({ user: null })
      }
      expect(await items(planted)).toEqual([])
      expect(await items(victim)).toEqual([])
    })
  },
)
