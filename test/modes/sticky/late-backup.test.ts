import { expect, it } from 'vitest'
import { memoryNodes, startApp } from '../../support/web-app.ts'

it('a backup that arrives late does not bring back a session that was destroyed meanwhile', async () => {
  const nodes = memoryNodes(2)
  let late: (() => Promise<void>) | undefined
  for (const nodeId of ['n1', 'n2']) {
    const node = nodes.get(nodeId)
    const set = node.set.bind(node)
    const probe = node.probe.bind(node)
    node.set = (...args) => {
      if (late) return set(...args)
      // Sent, and neither carried out nor answered until later.
      late = async () => {
        await set(...args)
        node.probe = probe
      }
      node.probe = () => Promise.reject(new Error('silent'))
      return new Promise(() => {})
    }
  }
  const app = await startApp({ ...nodes.options, jvmRoute: 't1', sessionBackupAsync: false, operationTimeout: 50 })
  const other = await startApp({ ...nodes.options, jvmRoute: 't2', sessionBackupAsync: false })
  const { announced } = await app.call('/set?k=v')
  const id = announced!
  const first = nodes.log.find((line) => line.startsWith('set '))!.split(' ')
  expect(id).not.toBe(first[2])
  expect((await app.call('/out', id)).status).toBe(200)
  await late!()
  expect(await nodes.get(first[1]!).get(first[2]!)).toBeDefined()
  await expect.poll(() => nodes.get(first[1]!).get(first[2]!), { timeout: 5000 }).toBeUndefined()
  expect((await other.call('/get', id)).body.attributes).toEqual({})
})
