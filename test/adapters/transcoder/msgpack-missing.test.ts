import Module from 'node:module'
import { expect, onTestFinished, test, vi } from 'vitest'
import { msgpackTranscoder } from '../../../adapters/transcoder/msgpack.ts'

const resolver = Module as unknown as { _resolveFilename(name: string, ...rest: unknown[]): string }

test('without msgpackr, its transcoder says what to install', () => {
  const resolve = resolver._resolveFilename
  const spy = vi.spyOn(resolver, '_resolveFilename').mockImplementation((name, ...rest) => {
    if (!name.startsWith('msgpackr')) return resolve.call(resolver, name, ...rest)
    throw Object.assign(new Error(`Cannot find module '${name}'`), { code: 'MODULE_NOT_FOUND' })
  })
  onTestFinished(() => spy.mockRestore())
  expect(() => msgpackTranscoder()).toThrow(
    expect.objectContaining({
      code: 'ERR_MSM_MISSING_PACKAGE',
      message: expect.stringMatching(/npm install msgpackr$/),
    }),
  )
})
