import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const redis = fileURLToPath(new URL('../../../dist/adapters/storage/redis.js', import.meta.url))
const address = `{ kind: 'redis', host: '127.0.0.1', port: 1, label: 'redis', url: 'redis://127.0.0.1:1' }`
const options = `{ operationTimeout: 100, logger: console }`

/** What a process prints that evaluates this, with V8's own functions. */
function evaluate(code: string): string {
  return execFileSync(process.execPath, ['--allow-natives-syntax', '--input-type=module', '-e', code], {
    encoding: 'utf8',
  }).trim()
}

it('leaves the strings of the process as fast as they were, though ioredis extends String', () => {
  const isFast = 'console.log(%HasFastProperties(String.prototype))'
  const untouched = evaluate(isFast)
  expect(
    evaluate(`import { redisStorage } from ${JSON.stringify(redis)}
    redisStorage(${address}, ${options})
    ${isFast}`),
  ).toBe(untouched)
})
