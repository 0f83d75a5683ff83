import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('..', import.meta.url))

// The types as built, in the way an app of its own would use them, without a cast.
it.each([
  ['Express 5', 'express', {}],
  ['Express 4', 'express', { express: ['types-express4'] }],
  ['Koa 3', 'koa', {}],
  ['Koa 2', 'koa', { koa: ['types-koa2'] }],
  ['Fastify 5', 'fastify', {}],
])('an app on %s has its session typed', async (_framework, file, others) => {
  const folder = await mkdtemp(join(tmpdir(), 'msm-types-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const paths = Object.fromEntries(
    Object.entries(others).map(([name, [types]]) => [
      name,
      [join(ROOT, 'node_modules', types as string, 'index.d.ts')],
    ]),
  )
  const config = {
    compilerOptions: {
      strict: true,
      noEmit: true,
      target: 'es2023',
      module: 'nodenext',
      esModuleInterop: true,
      skipLibCheck: true,
      types: ['node'],
      typeRoots: [join(ROOT, 'node_modules/@types')],
      paths,
    },
    files: [join(ROOT, 'test/types', `${file}.ts`)],
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(ROOT, 'node_modules/.bin/tsc')
  const output = await run(tsc, ['-p', folder], { cwd: ROOT }).then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  )
  expect(output).toBe('')
})
