import { describe, expect, it } from 'vitest'
import { loadPackage } from '../../adapters/load-package.ts'
import { SessionManagerError } from '../../lib/errors.ts'

describe('loadPackage', () => {
  it('gives what the package exports', () => {
    expect(loadPackage<typeof import('node:os')>('node:os', 'a test').EOL).toBe('\n')
    expect(loadPackage<{ Client: unknown }>('memjs', 'a test').Client).toBeTypeOf('function')
  })

  it('names the command that installs a missing package, and what it is needed for', () => {
    const load = (): unknown => loadPackage('msm-no-such-package', 'Redis nodes')
    expect(load).toThrow(SessionManagerError)
    expect(load).toThrow(expect.objectContaining({ code: 'ERR_MSM_MISSING_PACKAGE' }))
    expect(load).toThrow(/needed for Redis nodes\. Install it: npm install msm-no-such-package$/)
  })

  it('does not hide why a package that is there fails', () => {
    expect(() => loadPackage('memjs/package.json/nothing', 'a test')).toThrow()
    expect(() => loadPackage('biome.json/none', 'a test')).toThrow(/npm install/)
  })
})
