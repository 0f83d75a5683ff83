import { createRequire } from 'node:module'
import { messageOf, SessionManagerError } from '../lib/errors.ts'

const require = createRequire(import.meta.url)

/**
 * Loads an optional package, or an entry point of one (`name/entry`), when it is first needed.
 *
 * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` with the install command.
 */
export function loadPackage<T>(name: string, purpose: string): T {
  try {
    return require(name) as T
  } catch (error) {
    const packageName = name.split('/', name.startsWith('@') ? 2 : 1).join('/')
    throw new SessionManagerError(
      'ERR_MSM_MISSING_PACKAGE',
      `The package ${packageName} can't be loaded, and ${purpose} needs it. Install it with: npm install ${packageName} ` +
        `(${messageOf(error).split('\n', 1)[0]})`,
      { cause: error },
    )
  }
}
