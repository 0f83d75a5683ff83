import fc from 'fast-check'
import { describe } from 'vitest'
import {
  changeJvmRoute,
  createNewSessionId,
  extractBase,
  extractJvmRoute,
  extractNodeId,
  isValidWithNodeId,
  SessionIdFormat,
} from '../../lib/ids/session-id-format.ts'
import { parseStorageKeyPrefix, StorageKeyFormat } from '../../lib/ids/storage-key-format.ts'
import { anyText, mutatedText, orMessage, pool } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'

const ID = /^[A-Za-z0-9._-]{1,250}$/
const NODES = ['n1', 'n2', '_', 'node_3']
const HOSTILE = [
  '\r',
  '\n',
  '\0',
  ' ',
  '\t',
  '\u2028',
  'é',
  '\ud800',
  '/',
  ':',
  ';',
  '%',
  '..',
  '-',
  '.',
  'n1',
  'a',
  'Ａ',
]

const hex = new SessionIdFormat()
const custom = new SessionIdFormat({ hasCustomIds: true, nodeIds: NODES })
const format = fc.constantFrom(hex, custom, new SessionIdFormat({ hasCustomIds: true }))

const characters = (set: string, minLength: number, maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...set), minLength, maxLength })
const WORD = 'ABCDEFabcdxyz0123456789_'
const hexBase = characters('0123456789ABCDEF', 32, 32)
const customBase = characters(`${WORD}-`, 16, 80)
const route = fc.option(characters(`${WORD}.-`, 1, 64), { nil: undefined })
const valid = fc
  .tuple(fc.oneof(hexBase, customBase), fc.option(fc.constantFrom(...NODES), { nil: undefined }), route)
  .map(([base, nodeId, jvmRoute]) => hex.join(base, nodeId, jvmRoute))

function check(ids: SessionIdFormat, id: string): boolean {
  const parts = ids.parse(id)
  if (parts === undefined) return true
  return ID.test(id) && parts.id === id && ids.format(parts) === id && id.startsWith(parts.base)
}

describe('a session id', () => {
  fuzz(
    'is parsed into the parts it was made of',
    fc.property(hexBase, fc.option(characters(WORD, 1, 64), { nil: undefined }), route, (base, nodeId, jvmRoute) => {
      const parts = hex.parse(hex.join(base, nodeId, jvmRoute))
      return parts?.base === base && parts.nodeId === nodeId && parts.jvmRoute === jvmRoute
    }),
  )
  fuzz(
    'of the app, with a node, is parsed into the parts it was made of',
    fc.property(customBase, fc.constantFrom(...NODES), route, (base, nodeId, jvmRoute) => {
      const parts = custom.parse(custom.join(base, nodeId, jvmRoute))
      return parts?.base === base && parts.nodeId === nodeId && parts.jvmRoute === jvmRoute
    }),
  )
  fuzz('that was mutated is none, or exactly that text', fc.property(format, mutatedText(pool(valid), HOSTILE), check))
  fuzz('of any text is none, or exactly that text', fc.property(format, anyText, check))
  fuzz(
    'holds no character that could end a header, a command or a key',
    fc.property(
      format,
      pool(valid),
      fc.constantFrom('\r', '\n', '\r\n', '\0', ' ', '\t', '\x7f', '\u0130', '\u212a', '\ud800', '\u{1f600}', '\u2028'),
      fc.nat(),
      (ids, id, hostile, position) => {
        const at = position % (id.length + 1)
        return ids.parse(id.slice(0, at) + hostile + id.slice(at)) === undefined
      },
    ),
  )
  fuzz(
    'of any text can be taken apart and changed',
    fc.property(fc.oneof(anyText, mutatedText(pool(valid), HOSTILE)), (id) => {
      isValidWithNodeId(id)
      const moved = createNewSessionId(id, 'n9')
      const routed = changeJvmRoute(id, 't9')
      return (
        extractJvmRoute(moved) === extractJvmRoute(id) &&
        extractJvmRoute(routed) === 't9' &&
        extractBase(routed) === extractBase(id) &&
        extractNodeId(routed) === extractNodeId(id) &&
        (extractBase(id) === '' || extractBase(moved) === extractBase(id))
      )
    }),
  )
  fuzz(
    'gives keys that every node takes',
    fc.property(fc.oneof(anyText, characters(`${WORD}.:-/`, 0, 200)), mutatedText(pool(valid), HOSTILE), (text, id) => {
      const prefix = orMessage(() => parseStorageKeyPrefix('static:x,host,context', { host: text, context: text }))
      if ('message' in prefix) return prefix.message.startsWith('storageKeyPrefix: ')
      const keys = new StorageKeyFormat(prefix.value)
      const ids = new SessionIdFormat({ maxSessionIdLength: keys.maxSessionIdLength, hasCustomIds: true })
      const parts = ids.parse(id)
      if (!parts) return true
      const all = [
        ...[keys.session(id), keys.validity(id), keys.lock(id), keys.backup(id), keys.validityBackup(id)],
        ...[keys.tombstone(parts.base), keys.successor(parts.base)],
      ]
      return new Set(all).size === all.length && all.every((key) => /^[\x21-\x7e]{1,250}$/.test(key))
    }),
  )
})
