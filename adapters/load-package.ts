import { createRequire } from 'node:module'
import { SessionManagerError } from '../lib/errors.ts'

const require = createRequire(import.meta.url)

/**
 * Loads an optional peer dependency.
 *
 * @param purpose What it is needed for, to end the sentence "… is needed for".
 * @throws SessionManagerError `ERR_MSM_MISSING_PACKAGE` that names the install command.
 */
export function loadPackage<T>(name: string, purpose: string): T {
  try {
    return require(name) as T
  } catch (error) {
    if (!isMissing(error, name)) throw error
    throw new SessionManagerError(
      'ERR_MSM_MISSING_PACKAGE',
      `The package ${name} is needed for ${purpose}. Install it: npm install ${name}`,
      { cause: error },
    )
  }
}

/** Not that a package it depends on is missing, or that it fails on its own. */
function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'MODULE_NOT_FOUND' && message.startsWith(`Cannot find module '${name}'`)
}
