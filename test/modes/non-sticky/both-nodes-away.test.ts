import { expect, it } from 'vitest'
import { type App, type MemoryNodes, memoryNodes, startApp } from '../../support/web-app.ts'

interface Away {
  readonly app: App
  readonly nodes: MemoryNodes
  readonly id: string
  readonly own: string
  readonly other: string
}

/** A session whose copy is a change behind, on two nodes that both went away, of which the one with the copy is back. */
async function bothAway(): Promise<Away> {
  const nodes = memoryNodes(2)
  const app = await startApp({ ...nodes.options, sticky: false, touchAfterSeconds: 600 })
  const id = (await app.call('/set?k=v')).announced!
  const own = id.slice(33)
  const other = own === 'n1' ? 'n2' : 'n1'
  await expect.poll(() => nodes.get(other).get(`bak:validity:${id}`)).toBeDefined()
  const copies = nodes.get(other)
  const { set } = copies
  copies.set = async () => {}
  expect((await app.call('/set?k=w', id)).status).toBe(200)
  await expect.poll(() => app.manager.health().backlog).toBe(0)
  copies.set = set
  for (const node of [own, other]) nodes.get(node).stop()
  expect((await app.call('/get', id)).status).toBe(503)
  nodes.get(other).start()
  const isUp = (): boolean | undefined => app.manager.nodes.find(({ id: node }) => node === other)?.state === 'up'
  await expect.poll(isUp, { interval: 5 }).toBe(true)
  return { app, nodes, id, own, other }
}

it('waits for the node of the session rather than take an older copy for it', async () => {
  const { app, nodes, id, own } = await bothAway()
  expect((await app.call('/get', id)).status).toBe(503)
  nodes.get(own).start()
  await expect.poll(() => app.manager.health().status).toBe('ok')
  expect((await app.call('/get', id)).body).toEqual({ id, attributes: { k: 'w' } })
})

it('takes the copy if that node stays away', async () => {
  const { app, id, other } = await bothAway()
  await expect.poll(async () => (await app.call('/get', id)).status, { timeout: 5000 }).toBe(200)
  expect((await app.call('/get', id)).body).toEqual({ id: `${id.slice(0, 33)}${other}`, attributes: { k: 'v' } })
})
