import express from 'express'
import { session } from 'memcached-session-manager/express'

declare module 'memcached-session-manager' {
  interface SessionData {
    cart: string[]
    views: number
  }
}

const sessions = session({ memcachedNodes: 'n1:localhost:11211', cookie: { sameSite: 'lax' } })
const app = express()
app.use(sessions)
app.use('/part', sessions)
app.get('/', async (req, res) => {
  const views: number | undefined = req.session.views
  req.session.views = (views ?? 0) + 1
  req.session.cart = [...(req.session.cart ?? []), 'apple']
  // @ts-expect-error: an attribute of another type
  req.session.views = 'many'
  req.session.cookie.maxAge = 1000
  const id: string = req.sessionID
  await req.session.regenerate({ keep: true })
  req.session.save((error) => error)
  const done: Promise<void> = req.session.destroy()
  await done
  res.json({ id, anything: req.session.anything })
})
app.get('/lazy', async (req) => {
  const { views } = await req.loadSession()
  return views?.toFixed()
})
sessions.manager.on('idChanged', ({ session: hash, reason }) => `${hash} ${reason satisfies string}`)
// @ts-expect-error: no such event
sessions.manager.on('nothing', () => {})
// @ts-expect-error: no such option
session({ memcachedNode: 'n1:localhost:11211' })
