import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe } from 'vitest'
import { MemoryStorageClient } from '../../adapters/storage/memory.ts'
import { createSessionManager } from '../../lib/index.ts'
import type { StorageClient } from '../../lib/ports.ts'
import { encodeSessionRecord } from '../../lib/records/session-record.ts'
import { encodeValidityInfo } from '../../lib/records/validity-info.ts'
import type { SessionContext } from '../../lib/session-context.ts'
import { type ListEntry, ReplicatedList } from '../../lib/storage/replicated-list.ts'
import { anyBytes, mutated, pool } from '../support/fuzz-inputs.ts'
import { fuzz } from '../support/fuzz-runs.ts'
import { quiet } from '../support/web-app.ts'

type ValueOf<A> = A extends fc.Arbitrary<infer T> ? T : never

const BASE = '2A19B1EB6D9649C9FED3E7277FDFD470'
const ID = `${BASE}-n1.t1`
const ANN = createHash('sha256').update('ann').digest('hex').slice(0, 32)
const OTHER = `${BASE.replace('2', '3')}-n1.t1`

const entries = fc.array(fc.tuple(fc.constantFrom(ID, OTHER, '', 'x'.repeat(300), '__proto__'), fc.maxSafeInteger()), {
  maxLength: 4,
})
const JSON_PIECES = ['[', ']', ',', '"a"', '1', '{', '}', '"__proto__":', '[]', `["${ID}",1]`, 'null', '1e999', '-0.5']
const listBytes = fc.oneof(
  mutated(pool(entries.map((list) => Buffer.from(JSON.stringify(list))))),
  fc.array(fc.constantFrom(...JSON_PIECES), { maxLength: 12 }).map((pieces) => Buffer.from(pieces.join(''))),
  anyBytes,
)

function listOn(client: StorageClient): ReplicatedList {
  const node = Object.assign(client, { id: 'n1', isAvailable: true })
  return new ReplicatedList({ nodes: { all: () => [node] } } as unknown as SessionContext)
}

const isEntry = (entry: ListEntry): boolean =>
  entry.length === 2 && typeof entry[0] === 'string' && Number.isSafeInteger(entry[1])

describe('a replicated list', () => {
  fuzz(
    'of any bytes has entries or is empty, and takes another',
    fc.asyncProperty(listBytes, async (bytes) => {
      const client = new MemoryStorageClient()
      const list = listOn(client)
      await client.set('list', bytes, 0)
      const before = await list.read('list')
      await list.add('list', 'added', 0, (other) => other === ID)
      const after = await list.read('list')
      await list.remove('list', 0, () => true)
      return (
        before.every(isEntry) &&
        after.every(isEntry) &&
        after.at(-1)![0] === 'added' &&
        !after.some(([value]) => value === ID) &&
        (await list.read('list')).length === 0
      )
    }),
    2,
  )
})

const now = Date.now()
const time = fc.constantFrom(now, now, now, 0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER)
const interval = fc.constantFrom(3_600_000, 3_600_000, 60, 0, -1, 1, 2 ** 31 - 1, -(2 ** 31))
const times = fc.record({
  creationTime: time,
  lastAccessedTime: time,
  thisAccessedTime: time,
  lastBackupTime: time,
  maxInactiveInterval: interval,
})
const record = (id: string, fields: ValueOf<typeof times>, attributes: object): Buffer =>
  encodeSessionRecord({
    ...fields,
    version: 2,
    isNew: false,
    isValid: true,
    id,
    authType: 0,
    principal: Buffer.alloc(0),
    savedRequest: Buffer.alloc(0),
    savedPrincipal: Buffer.alloc(0),
    attributes: Buffer.from(JSON.stringify(attributes)),
  })
const HOSTILE = JSON.parse('{"__proto__":{"added":1},"a":{"constructor":{"prototype":{"added":1}}}}') as object
const attributes = fc.constantFrom<object>(
  HOSTILE,
  { principal: 'ann' },
  { principal: 'ann', cart: [{ a: 1 }] },
  { a: 'b' },
  {},
)
const records = fc
  .tuple(fc.constantFrom(ID, ID, ID, OTHER), times, attributes)
  .map(([id, fields, values]) => record(id, fields, values))
const validities = times.map(encodeValidityInfo)
const stored = (valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer | undefined> =>
  fc.oneof(valid, mutated(valid), mutated(valid), anyBytes, fc.constant(undefined))

const items = fc.record({
  [ID]: stored(records),
  [`validity:${ID}`]: stored(validities),
  [`bak:${ID}`]: stored(records),
  [`bak:validity:${ID}`]: stored(validities),
  [`next:${BASE}`]: stored(fc.constantFrom(Buffer.from(OTHER), Buffer.from(ID))),
  [`gone:${BASE}`]: fc.option(anyBytes, { nil: undefined, freq: 1 }),
  [`principal:${ANN}`]: fc.oneof(listBytes, fc.constant(undefined)),
  'ended:t1': fc.oneof(listBytes, fc.constant(undefined)),
})

describe.each([true, false])('sessions, with sticky: %s', (sticky) => {
  fuzz(
    'are served or missing, whatever the store has under their keys',
    fc.asyncProperty(items, fc.boolean(), async (values, onBoth) => {
      const clients = [new MemoryStorageClient(), new MemoryStorageClient()]
      const manager = createSessionManager({
        memcachedNodes: 'n1:in-memory:1,n2:in-memory:2',
        storage: ({ port }) => clients[port - 1]!,
        jvmRoute: 't1',
        transcoder: 'json',
        regenerateGraceSeconds: 5,
        sticky,
        logger: quiet,
      })
      try {
        await Promise.all(
          Object.entries(values).flatMap(([key, value]) =>
            value ? clients.slice(0, onBoth ? 2 : 1).map((client) => client.set(key, value, 0)) : [],
          ),
        )
        const found = await manager.findByPrincipal('ann')
        if (!found.every(({ id }) => id === ID || id === OTHER)) return false
        const session = await manager.get(ID)
        if (!session) return true
        const keys = Object.keys(session)
        session.added = 1
        await session.save()
        return !keys.includes('__proto__') && !keys.includes('constructor') && ({} as { added?: 1 }).added === undefined
      } finally {
        await manager.stop()
      }
    }),
    20,
  )
})
