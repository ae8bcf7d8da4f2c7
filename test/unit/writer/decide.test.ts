import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import { keyFromText } from '../../../src/domain/key.ts'
import { operation } from '../../../src/domain/log-entry.ts'
import type { ArithmeticMutation, InvalidateMutation, KeyMutation, SetMutation } from '../../../src/domain/mutation.ts'
import { composeVersion, generationOf, type Version } from '../../../src/domain/version.ts'
import { decide } from '../../../src/writer/decide.ts'
import type { Decidable, DirectoryRow, NamespaceRow } from '../../../src/writer/decision.ts'

const now = 1_700_000_000.75
const plain: NamespaceRow = { generation: 5, defaultTtlSeconds: 0, maxTtlSeconds: 0, maxValueBytes: 0 }
const present = composeVersion(5, 0.25)
const liveRow: DirectoryRow = {
  version: present,
  expiry: 0,
  flags: 7n,
  sizeBytes: 4,
  checksum: 99,
  number: undefined,
}

interface Step {
  readonly mutation: KeyMutation
  readonly session: object
}

function world(
  given: { rows?: Record<string, Partial<DirectoryRow>>; namespace?: Partial<NamespaceRow>; unread?: Set<string> } = {},
) {
  const keys = new Map<string, Decidable['key']>()
  const rows = new Map<string, DirectoryRow>()
  for (const [key, row] of Object.entries(given.rows ?? {})) rows.set(`1:${key}`, { ...liveRow, ...row })
  let drawn = 0
  return (...steps: (KeyMutation | Step)[]) => {
    const batch = steps.map((step) => {
      const { mutation, session } = 'mutation' in step ? step : { mutation: step, session: undefined }
      const id = `${mutation.namespaceId}:${mutation.key}`
      const hex = Buffer.from(mutation.key).toString('hex')
      const key = keys.get(id) ?? { id, namespaceId: mutation.namespaceId, key: mutation.key, hex }
      keys.set(id, key)
      return { mutation, key, session }
    })
    const namespaces = new Map([[1, { ...plain, ...given.namespace }]])
    const random = (): number => (drawn++ % 1000) / 1000
    const decision = decide(batch, { nowSeconds: now, namespaces, rows, unread: given.unread ?? new Set() }, random)
    const kinds = decision.results.map((result) => (result instanceof WhiteholeError ? result.code : result.kind))
    const numbers = decision.results.map((result) => ('number' in result ? result.number : undefined))
    const values = decision.log.map(({ value }) => value?.toString())
    return { ...decision, kinds, numbers, values, written: [...decision.inserts, ...decision.updates] }
  }
}

const of = (name: string) => ({ namespaceId: 1, key: keyFromText(name) })
const key = keyFromText('k')
const set = (value = 'v', exptime = 0, given: Partial<SetMutation> = {}): SetMutation => ({
  kind: 'set',
  ...of('k'),
  value: Buffer.from(value),
  flags: 3n,
  exptime,
  ...given,
})
const remove: KeyMutation = { kind: 'delete', ...of('k') }
const touch = (exptime: number): KeyMutation => ({ kind: 'touch', ...of('k'), exptime })
const step = (given: Partial<ArithmeticMutation> = {}): ArithmeticMutation => ({
  kind: 'arithmetic',
  ...of('k'),
  direction: 'incr',
  delta: 1n,
  ...given,
})
const invalidate = (given: Partial<InvalidateMutation>): InvalidateMutation => ({
  kind: 'invalidate',
  ...of('k'),
  stale: false,
  dropsValue: false,
  ...given,
})
const counter = (text: string): Partial<DirectoryRow> => ({ number: BigInt(text.trim()), sizeBytes: text.length })
const base = Math.floor(now)
const nothingWritten = { inserts: [], updates: [], touches: [], log: [] }

describe('a batch of mutations is decided', () => {
  it('in order: each mutation of a key sees what the one before it left, and the directory gets the last state once', () => {
    const { kinds, inserts, updates, log } = world()(set('1'), remove, remove, set('2'))
    expect(kinds).toEqual(['stored', 'deleted', 'not-found', 'stored'])
    expect(log.map((entry) => entry.operation)).toEqual([
      operation.set,
      operation.delete,
      operation.delete,
      operation.set,
    ])
    expect(updates).toEqual([])
    expect(inserts).toHaveLength(1)
    expect(inserts[0]).toMatchObject({ version: log[3]?.version, sizeBytes: 1, number: 2n, flags: 3n })
  })

  it('with an update where the directory has a row, and an insert where it has none', () => {
    expect(world({ rows: { k: {} } })(set())).toMatchObject({ inserts: [], updates: [{ key: { key } }] })
    expect(world()(set())).toMatchObject({ inserts: [{ key: { key } }], updates: [] })
  })

  it('with an update of a row that was not read, and what follows a set in the batch sees what that left', () => {
    const unread = new Set(['1:k'])
    const { updates, inserts, numbers, values } = world({ unread })(
      set('7'),
      step({ delta: 5n }),
      set('x', 0, of('other')),
    )
    expect(updates).toMatchObject([{ key: { key: 'k' }, number: 12n }])
    expect(inserts).toMatchObject([{ key: { key: 'other' } }])
    expect(numbers[1]).toBe(12n)
    expect(values).toEqual(['7', '12', 'x'])
  })

  it('under the generation that the namespace has, each version drawn anew and told to the client', () => {
    const { log, results } = world({ namespace: { generation: 9 } })(set(), set(), remove)
    expect(log.map(({ version }) => generationOf(version))).toEqual([9, 9, 9])
    expect(new Set(log.map(({ version }) => version)).size).toBe(3)
    expect(results.slice(0, 2)).toEqual(log.slice(0, 2).map(({ version }) => ({ kind: 'stored', version })))
  })

  it('so that a delete is always logged and leaves a dead row, also where there was nothing (R19, R34)', () => {
    const { kinds, inserts, log } = world()(remove)
    expect(kinds).toEqual(['not-found'])
    expect(log).toMatchObject([{ operation: operation.delete, expiry: 1, value: undefined }])
    expect(inserts).toMatchObject([{ expiry: 1, sizeBytes: 0, version: log[0]?.version }])
  })

  it.each([
    ['an older generation', { version: composeVersion(4, 0.5) }],
    ['an expiry that has come', { expiry: base }],
    ['a deleted key', { expiry: 1 }],
  ])('with a row of %s as not live', (_, row) => {
    const dead = () => world({ rows: { k: { ...row, number: 5n } } })
    expect(dead()(remove).kinds).toEqual(['not-found'])
    expect(dead()(touch(5))).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
    expect(dead()(set('v', 0, { mode: 'add' })).kinds).toEqual(['stored'])
    expect(dead()(set('v', 0, { mode: 'replace' }))).toMatchObject({ kinds: ['not-stored'], ...nothingWritten })
    expect(dead()(set('v', 0, { compare: 'version' in row ? row.version : present }))).toMatchObject({
      kinds: ['not-found'],
      ...nothingWritten,
    })
    expect(dead()(step())).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
    expect(dead()(invalidate({ stale: true }))).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
  })

  it('with a row that expires in the second to come as live', () => {
    expect(world({ rows: { k: { expiry: base + 1 } } })(remove).kinds).toEqual(['deleted'])
  })

  it('so that a touch keeps the version and the flags, and changes the expiry in row and log (R22)', () => {
    const { results, touches, updates, log } = world({ rows: { k: {} } })(touch(10))
    const expiry = base + 10
    expect(results).toEqual([{ kind: 'touched', version: present }])
    expect(touches).toMatchObject([{ expiry }])
    expect(updates).toEqual([])
    expect(log).toMatchObject([{ operation: operation.touch, version: present, flags: 7n, expiry }])
  })

  it('so that a token from before a touch still wins a cas (R22)', () => {
    expect(world({ rows: { k: {} } })(touch(10), set('v', 0, { compare: present })).kinds).toEqual([
      'touched',
      'stored',
    ])
  })

  it('so that a touch behind a set changes the row that the set writes', () => {
    const { inserts, touches, log } = world()(set(), touch(10))
    expect(touches).toEqual([])
    expect(inserts).toMatchObject([{ expiry: base + 10, version: log[0]?.version, sizeBytes: 1 }])
  })

  it('so that a set behind a touch replaces the row', () => {
    const { updates, touches } = world({ rows: { k: {} } })(touch(10), set('x', 20))
    expect(touches).toEqual([])
    expect(updates).toMatchObject([{ expiry: base + 20 }])
  })

  it.each([
    [0, 0],
    [-1, 1],
    [100, base + 100],
    [2_592_000, base + 2_592_000],
    [2_592_001, 1],
    [1_900_000_000, 1_900_000_000],
  ])('with the exptime %d as the expiry %d', (exptime, expiry) => {
    expect(world()(set('v', exptime)).log).toMatchObject([{ expiry }])
  })

  it('within the TTLs of the namespace', () => {
    const expiryOf = (namespace: Partial<NamespaceRow>, exptime: number) =>
      world({ namespace })(set('v', exptime)).log[0]?.expiry
    expect(expiryOf({ defaultTtlSeconds: 60 }, 0)).toBe(base + 60)
    expect(expiryOf({ defaultTtlSeconds: 3_000_000 }, 0)).toBe(base + 3_000_000)
    expect(expiryOf({ defaultTtlSeconds: 60 }, 100)).toBe(base + 100)
    expect(expiryOf({ maxTtlSeconds: 50 }, 0)).toBe(base + 50)
    expect(expiryOf({ maxTtlSeconds: 50 }, 100)).toBe(base + 50)
    expect(expiryOf({ maxTtlSeconds: 50 }, 1_900_000_000)).toBe(base + 50)
    expect(expiryOf({ maxTtlSeconds: 50, defaultTtlSeconds: 60 }, 0)).toBe(base + 50)
    expect(expiryOf({ maxTtlSeconds: 50 }, -1)).toBe(1)
  })

  it('so that a value beyond the limit of the namespace is refused, and the old value goes, as with memcached', () => {
    const { kinds, updates, log } = world({ rows: { k: {} }, namespace: { maxValueBytes: 3 } })(set('four'), remove)
    expect(kinds).toEqual(['value-too-large', 'not-found'])
    expect(updates).toMatchObject([{ expiry: 1 }])
    expect(log[0]).toMatchObject({ operation: operation.delete })
  })

  it.each([{ mode: 'add' }, { mode: 'replace' }, { compare: present }] as const)(
    'so that a conditional store (%o) beyond that limit leaves the old value alone, as with memcached',
    (given) => {
      const decided = world({ rows: { k: {} }, namespace: { maxValueBytes: 3 } })(set('four', 0, given))
      expect(decided).toMatchObject({ kinds: ['value-too-large'], ...nothingWritten })
    },
  )

  it('so that an unknown namespace fails its own mutations alone', () => {
    const { kinds, log } = world()(set(), { ...set(), namespaceId: 99 }, remove)
    expect(kinds).toEqual(['stored', 'unknown-namespace', 'deleted'])
    expect(log).toHaveLength(2)
  })

  it.each([
    ['18446744073709551615', 18_446_744_073_709_551_615n],
    ['18446744073709551616', undefined],
    [' 12 ', 12n],
    ['x', undefined],
  ])('with the value "%s" as the counter %s', (value, number) => {
    expect(world()(set(value)).inserts[0]?.number).toBe(number)
  })
})

describe('a conditional store is decided by the row', () => {
  it('add: without a live row alone; its token is not looked at, as in memcached', () => {
    expect(world()(set('v', 0, { mode: 'add', compare: 5n })).kinds).toEqual(['stored'])
    const refused = world({ rows: { k: {} } })(set('v', 0, { mode: 'add', compare: present }))
    expect(refused).toMatchObject({ results: [{ kind: 'not-stored', version: present }], ...nothingWritten })
  })

  it('add: of two in one batch one wins', () => {
    const { kinds, values } = world()(set('a', 0, { mode: 'add' }), set('b', 0, { mode: 'add' }))
    expect({ kinds, values }).toEqual({ kinds: ['stored', 'not-stored'], values: ['a'] })
  })

  it('replace: with a live row alone', () => {
    expect(world()(set('v', 0, { mode: 'replace' }))).toMatchObject({ kinds: ['not-stored'], ...nothingWritten })
    expect(world({ rows: { k: {} } })(set('v', 0, { mode: 'replace' })).kinds).toEqual(['stored'])
  })

  it.each(['set', 'replace'] as const)('cas (%s): of two with one token in one batch one wins', (mode) => {
    const { results, values, log } = world({ rows: { k: {} } })(
      set('a', 0, { mode, compare: present }),
      set('b', 0, { mode, compare: present }),
    )
    const version = log[0]?.version as Version
    expect(results).toEqual([
      { kind: 'stored', version },
      { kind: 'exists', version },
    ])
    expect(values).toEqual(['a'])
  })

  it.each([0n, 999_999_999n, 2n ** 64n - 1n])('cas: a token that no version has (%d) meets another', (compare) => {
    const decided = world({ rows: { k: {} } })(set('v', 0, { compare }))
    expect(decided).toMatchObject({ results: [{ kind: 'exists', version: present }], ...nothingWritten })
  })

  it('cas: nothing to compare with is not-found', () => {
    expect(world()(set('v', 0, { compare: 1n }))).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
  })

  it('cas: a token from before a delete and an add is of no use (R21)', () => {
    const { kinds } = world({ rows: { k: {} } })(
      remove,
      set('v', 0, { mode: 'add' }),
      set('w', 0, { compare: present }),
    )
    expect(kinds).toEqual(['deleted', 'stored', 'exists'])
  })

  it('that keeps attributes: value, size and version change, flags and expiry stay', () => {
    const { updates, log } = world({ rows: { k: { expiry: base + 9 } } })(
      set('longer', 77, { compare: present, keepsAttributes: true }),
    )
    expect(updates).toMatchObject([{ flags: 7n, expiry: base + 9, sizeBytes: 6, checksum: crc32('longer') }])
    expect(log).toMatchObject([{ operation: operation.set, flags: 7n, expiry: base + 9 }])
  })

  it('that names the evicted version: a row of it counts as absent, any other does not (R16)', () => {
    const rows = { k: {} }
    expect(world({ rows })(set('v', 0, { mode: 'add', evictedVersion: present })).kinds).toEqual(['stored'])
    const other = composeVersion(5, 0.75)
    expect(world({ rows })(set('v', 0, { mode: 'add', evictedVersion: other })).kinds).toEqual(['not-stored'])
    expect(world({ rows })(set('v', 0, { compare: 4n, evictedVersion: present })).kinds).toEqual(['not-found'])
    expect(world({ rows: { k: counter('5') } })(step({ evictedVersion: present })).kinds).toEqual(['not-found'])
    // A former mutation of the batch has stored it anew.
    const twice = world({ rows })(set('a'), set('b', 0, { mode: 'add', evictedVersion: present }))
    expect(twice.kinds).toEqual(['stored', 'not-stored'])
  })

  it('that is stale on a mismatch: stores and marks, under one version, until the former end; a match is not marked, a miss refused', () => {
    const stale = (compare: bigint) => set('v', 10, { compare, staleOnMismatch: true })
    const { results, log, updates } = world({ rows: { k: { expiry: base + 77 } } })(stale(1n))
    const version = log[0]?.version as Version
    expect(results).toEqual([{ kind: 'stored', version }])
    expect(log).toMatchObject([
      { operation: operation.set, version, expiry: base + 77 },
      { operation: operation.stale, version, expiry: base + 77, value: undefined },
    ])
    expect(updates).toMatchObject([{ version, sizeBytes: 1 }])
    expect(world({ rows: { k: {} } })(stale(present)).log).toHaveLength(1)
    expect(world()(stale(1n))).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
  })
})

describe('delete and touch with a token', () => {
  it('happen where the row has that version', () => {
    const rows = { k: {} }
    expect(world({ rows })({ ...remove, compare: present })).toMatchObject({ kinds: ['deleted'], log: [{}] })
    expect(world({ rows })({ ...touch(9), compare: present })).toMatchObject({ kinds: ['touched'], log: [{}] })
  })

  it('are refused otherwise, and nothing is logged', () => {
    for (const mutation of [remove, touch(9)]) {
      const refused = world({ rows: { k: {} } })({ ...mutation, compare: 1n })
      expect(refused).toMatchObject({ results: [{ kind: 'exists', version: present }], ...nothingWritten })
      expect(world()({ ...mutation, compare: 1n })).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
    }
  })
})

describe('on the condition that the row is the one that was seen', () => {
  const dead = { version: composeVersion(5, 0.5), expiry: 1 }
  const other = composeVersion(5, 0.75)

  it('a store and a delete happen where it is: live, dead or none', () => {
    expect(world()(set('v', 0, { seen: { generation: 5, version: undefined } })).kinds).toEqual(['stored'])
    for (const row of [{}, dead]) {
      const seen = { generation: 5, version: row === dead ? dead.version : present }
      expect(world({ rows: { k: row } })(set('v', 0, { seen })).kinds).toEqual(['stored'])
      expect(world({ rows: { k: row } })({ ...remove, seen }).kinds).toEqual(['deleted'])
    }
  })

  it('they do not where somebody wrote since, flushed since, or wrote before them in the batch', () => {
    const seen = { generation: 5, version: dead.version }
    expect(world({ rows: { k: { ...dead, version: other } } })(set('v', 0, { seen }))).toMatchObject({
      kinds: ['not-found'],
      log: [],
    })
    expect(world({ rows: { k: { version: other } } })(set('v', 0, { seen })).results).toEqual([
      { kind: 'exists', version: other },
    ])
    expect(world()(set('v', 0, { seen })).kinds).toEqual(['not-found'])
    expect(world({ rows: { k: dead } })(set('v', 0, { seen: { ...seen, generation: 4 } })).kinds).toEqual(['not-found'])
    expect(world({ rows: { k: dead } })(remove, set('v', 0, { seen })).kinds).toEqual(['not-found', 'not-found'])
    const none = { generation: 5, version: undefined }
    expect(world()(remove, set('v', 0, { seen: none })).kinds).toEqual(['not-found', 'not-found'])
    expect(world()(remove, { ...remove, seen: none }).log).toHaveLength(1)
  })

  it('a touch tells of a dead row which one it is', () => {
    expect(world({ rows: { k: dead } })(touch(0)).results).toEqual([{ kind: 'not-found', rowVersion: dead.version }])
    expect(world()(touch(0)).results).toEqual([{ kind: 'not-found' }])
  })
})

describe('arithmetic', () => {
  it.each([
    ['5', { direction: 'incr', delta: 1n }, 6n, '6'],
    ['99', { direction: 'incr', delta: 1n }, 100n, '100'],
    ['18446744073709551615', { direction: 'incr', delta: 1n }, 0n, '0'.padEnd(20)],
    [
      '18446744073709551615',
      { direction: 'incr', delta: 18_446_744_073_709_551_615n },
      18_446_744_073_709_551_614n,
      '18446744073709551614',
    ],
    ['10', { direction: 'decr', delta: 1n }, 9n, '9 '],
    ['10', { direction: 'decr', delta: 20n }, 0n, '0 '],
    ['0', { direction: 'decr', delta: 1n }, 0n, '0'],
    [' 12 ', { direction: 'incr', delta: 1n }, 13n, '13  '],
    ['000000000000000000001', { direction: 'incr', delta: 1n }, 2n, '2'.padEnd(21)],
  ] as const)('"%s" %o is %d, in the value "%s"', (text, given, number, value) => {
    const { results, values, updates, log } = world({ rows: { k: counter(text) } })(step(given))
    expect(results).toEqual([{ kind: 'stored', number, version: log[0]?.version }])
    expect(values).toEqual([value])
    expect(updates).toMatchObject([{ number, sizeBytes: value.length, checksum: crc32(value) }])
  })

  it('keeps flags and expiry, unless it brings an expiry', () => {
    const rows = { k: { ...counter('5'), expiry: base + 7 } }
    expect(world({ rows })(step()).log).toMatchObject([{ operation: operation.set, flags: 7n, expiry: base + 7 }])
    expect(world({ rows })(step({ exptime: 60 })).updates).toMatchObject([{ flags: 7n, expiry: base + 60 }])
  })

  it('does not create but where it is told to, with the initial number as it is', () => {
    expect(world()(step())).toMatchObject({ kinds: ['not-found'], ...nothingWritten })
    const create = { initial: 13n, exptime: 30 }
    const { results, values, inserts, log } = world()(step({ create, compare: 9n, delta: 5n }), step({ create }))
    expect(results).toMatchObject([
      { kind: 'stored', number: 13n, created: true },
      { kind: 'stored', number: 14n, version: log[0]?.version },
    ])
    expect(results[1]).not.toHaveProperty('created')
    expect(values).toEqual(['14'])
    expect(inserts).toMatchObject([{ number: 14n, flags: 0n, expiry: base + 30 }])
  })

  it('of what is no number is an error; an empty value comes before the token, another value behind it', () => {
    const text = world({ rows: { k: {} } })
    expect(text(step())).toMatchObject({ results: [{ kind: 'not-a-number', version: present }], ...nothingWritten })
    expect(text(step({ compare: 1n })).kinds).toEqual(['exists'])
    const empty = world({ rows: { k: { sizeBytes: 0 } } })
    expect(empty(step({ compare: 1n })).kinds).toEqual(['not-a-number'])
  })

  it('compares with the token', () => {
    const rows = { k: counter('5') }
    expect(world({ rows })(step({ compare: present })).numbers).toEqual([6n])
    const refused = world({ rows })(step({ compare: 1n }))
    expect(refused).toMatchObject({ results: [{ kind: 'exists', version: present }], ...nothingWritten })
  })

  it('of many on one key folds into one entry, and each client gets a number of its own', () => {
    const { numbers, values, updates, log } = world({ rows: { k: counter('9') } })(
      step(),
      step({ delta: 5n }),
      step({ direction: 'decr', delta: 3n }),
    )
    expect(numbers).toEqual([10n, 15n, 12n])
    expect(values).toEqual(['12'])
    expect(updates).toMatchObject([{ number: 12n, version: log[0]?.version }])
  })

  it('folds over a refusal, and not over anything that changes the key', () => {
    const rows = { k: counter('1') }
    expect(world({ rows })(step(), set('v', 0, { mode: 'add' }), step()).values).toEqual(['3'])
    expect(world({ rows })(step(), touch(5), step()).values).toEqual(['2', undefined, '3'])
    expect(world({ rows })(set('7'), step(), step()).values).toEqual(['7', '9'])
    expect(world({ rows })(step(), remove, step()).kinds).toEqual(['stored', 'deleted', 'not-found'])
  })

  it('folds past what other sessions write, and never past a later write of a session that had a part in it', () => {
    const rows = { k: counter('1') }
    const [a, b, c] = [{}, {}, {}]
    const other = (name: string): KeyMutation => ({ ...set(name), ...of(name) })
    const by = (session: object, mutation: KeyMutation): Step => ({ session, mutation })
    const past = world({ rows })(by(a, step()), by(b, other('x')), by(c, step()))
    expect(past.values).toEqual(['x', '3'])
    // a's x must not stand in the log before a's step.
    const kept = world({ rows })(by(a, step()), by(a, other('x')), by(c, step()), by(b, step()))
    expect(kept.values).toEqual(['2', 'x', '4'])
    const early = world({ rows })(by(a, step()), by(b, step()), by(a, other('x')), by(c, step()))
    expect(early.values).toEqual(['3', 'x', '4'])
    const two = world({ rows: { k: counter('1'), l: counter('5') } })
    const twice = two(by(a, step()), by(a, step(of('l'))), by(b, step()), by(b, step(of('l'))))
    expect(twice.values).toEqual(['2', '3', '7'])
  })
})

describe('an invalidation', () => {
  it('that makes stale keeps the value and draws a version', () => {
    const { results, updates, log } = world({ rows: { k: { expiry: base + 9, number: 5n } } })(
      invalidate({ stale: true }),
    )
    const version = log[0]?.version as Version
    expect(version).not.toBe(present)
    expect(results).toEqual([{ kind: 'stored', version }])
    expect(log).toMatchObject([{ operation: operation.stale, expiry: base + 9, value: undefined }])
    expect(updates).toMatchObject([{ version, expiry: base + 9, flags: 7n, sizeBytes: 4, checksum: 99, number: 5n }])
  })

  it('that drops the value leaves an empty one without flags', () => {
    const { updates, log } = world({ rows: { k: { expiry: base + 9, number: 5n } } })(
      invalidate({ dropsValue: true, exptime: 30 }),
    )
    expect(log).toMatchObject([{ operation: operation.set, expiry: base + 30, flags: 0n, value: Buffer.alloc(0) }])
    expect(updates).toMatchObject([{ sizeBytes: 0, checksum: 0, flags: 0n, expiry: base + 30, number: undefined }])
  })

  it('that does both has one version', () => {
    const { updates, log } = world({ rows: { k: {} } })(invalidate({ stale: true, dropsValue: true, compare: present }))
    expect(log.map((entry) => entry.operation)).toEqual([operation.set, operation.stale])
    expect(new Set([...log, ...updates].map(({ version }) => version)).size).toBe(1)
    expect(updates).toMatchObject([{ sizeBytes: 0 }])
  })

  it('with another token is refused', () => {
    const refused = world({ rows: { k: {} } })(invalidate({ stale: true, compare: 1n }))
    expect(refused).toMatchObject({ results: [{ kind: 'exists', version: present }], ...nothingWritten })
  })
})
