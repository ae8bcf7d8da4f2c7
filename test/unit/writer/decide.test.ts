import { describe, expect, it } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import { keyFromText } from '../../../src/domain/key.ts'
import { operation } from '../../../src/domain/log-entry.ts'
import { composeVersion, generationOf } from '../../../src/domain/version.ts'
import {
  type Decidable,
  decide,
  type DirectoryRow,
  type KeyMutation,
  type NamespaceRow,
} from '../../../src/writer/decide.ts'

const now = 1_700_000_000.75
const plain: NamespaceRow = { generation: 5, defaultTtlSeconds: 0, maxTtlSeconds: 0, maxValueBytes: 0 }

function world(given: { rows?: Record<string, Partial<DirectoryRow>>; namespace?: Partial<NamespaceRow> } = {}) {
  const keys = new Map<string, Decidable['key']>()
  const rows = new Map<string, DirectoryRow>()
  for (const [key, row] of Object.entries(given.rows ?? {})) {
    rows.set(`1:${key}`, { version: composeVersion(5, 0.25), expiry: 0, flags: 7n, number: undefined, ...row })
  }
  let drawn = 0
  return (...mutations: KeyMutation[]) => {
    const batch = mutations.map((mutation) => {
      const id = `${mutation.namespaceId}:${mutation.key}`
      const hex = Buffer.from(mutation.key).toString('hex')
      const key = keys.get(id) ?? { id, namespaceId: mutation.namespaceId, key: mutation.key, hex }
      keys.set(id, key)
      return { mutation, key }
    })
    const namespaces = new Map([[1, { ...plain, ...given.namespace }]])
    const random = (): number => (drawn++ % 1000) / 1000
    const decision = decide(batch, { nowSeconds: now, namespaces, rows }, random)
    const results = decision.results.map((result) => (result instanceof WhiteholeError ? result.code : result))
    return { ...decision, results }
  }
}

const key = keyFromText('k')
const set = (value = 'v', exptime = 0): KeyMutation => ({
  kind: 'set',
  namespaceId: 1,
  key,
  value: Buffer.from(value),
  flags: 3n,
  exptime,
})
const remove: KeyMutation = { kind: 'delete', namespaceId: 1, key }
const touch = (exptime: number): KeyMutation => ({ kind: 'touch', namespaceId: 1, key, exptime })

describe('a batch of mutations is decided', () => {
  it('in order: each mutation of a key sees what the one before it left, and the directory gets the last state once', () => {
    const { results, inserts, updates, log } = world()(set('1'), remove, remove, set('2'))
    expect(results).toEqual(['stored', 'deleted', 'not-found', 'stored'])
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

  it('under the generation that the namespace has, each version drawn anew', () => {
    const { log } = world({ namespace: { generation: 9 } })(set(), set(), remove)
    expect(log.map(({ version }) => generationOf(version))).toEqual([9, 9, 9])
    expect(new Set(log.map(({ version }) => version)).size).toBe(3)
  })

  it('so that a delete is always logged and leaves a dead row, also where there was nothing (R19, R34)', () => {
    const { results, inserts, log } = world()(remove)
    expect(results).toEqual(['not-found'])
    expect(log).toMatchObject([{ operation: operation.delete, expiry: 1, value: undefined }])
    expect(inserts).toMatchObject([{ expiry: 1, sizeBytes: 0, version: log[0]?.version }])
  })

  it.each([
    ['an older generation', { version: composeVersion(4, 0.5) }],
    ['an expiry that has come', { expiry: Math.floor(now) }],
    ['a deleted key', { expiry: 1 }],
  ])('with a row of %s as not live', (_, row) => {
    expect(world({ rows: { k: row } })(remove).results).toEqual(['not-found'])
    expect(world({ rows: { k: row } })(touch(5))).toMatchObject({ results: ['not-found'], log: [], touches: [] })
  })

  it('with a row that expires in the second to come as live', () => {
    expect(world({ rows: { k: { expiry: Math.floor(now) + 1 } } })(remove).results).toEqual(['deleted'])
  })

  it('so that a touch keeps the version and the flags, and changes the expiry in row and log (R22)', () => {
    const { results, touches, updates, log } = world({ rows: { k: {} } })(touch(10))
    const expiry = Math.floor(now) + 10
    expect(results).toEqual(['touched'])
    expect(touches).toMatchObject([{ expiry }])
    expect(updates).toEqual([])
    expect(log).toMatchObject([{ operation: operation.touch, version: composeVersion(5, 0.25), flags: 7n, expiry }])
  })

  it('so that a touch behind a set changes the row that the set writes', () => {
    const { inserts, touches, log } = world()(set(), touch(10))
    expect(touches).toEqual([])
    expect(inserts).toMatchObject([{ expiry: Math.floor(now) + 10, version: log[0]?.version, sizeBytes: 1 }])
  })

  it('so that a set behind a touch replaces the row', () => {
    const { updates, touches } = world({ rows: { k: {} } })(touch(10), set('x', 20))
    expect(touches).toEqual([])
    expect(updates).toMatchObject([{ expiry: Math.floor(now) + 20 }])
  })

  it.each([
    [0, 0],
    [-1, 1],
    [100, Math.floor(now) + 100],
    [2_592_000, Math.floor(now) + 2_592_000],
    [2_592_001, 2_592_001],
    [1_900_000_000, 1_900_000_000],
  ])('with the exptime %d as the expiry %d', (exptime, expiry) => {
    expect(world()(set('v', exptime)).log).toMatchObject([{ expiry }])
  })

  it('within the TTLs of the namespace', () => {
    const expiryOf = (namespace: Partial<NamespaceRow>, exptime: number) =>
      world({ namespace })(set('v', exptime)).log[0]?.expiry
    const base = Math.floor(now)
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
    const { results, updates, log } = world({ rows: { k: {} }, namespace: { maxValueBytes: 3 } })(set('four'), remove)
    expect(results).toEqual(['value-too-large', 'not-found'])
    expect(updates).toMatchObject([{ expiry: 1 }])
    expect(log[0]).toMatchObject({ operation: operation.delete })
  })

  it('so that an unknown namespace fails its own mutations alone', () => {
    const { results, log } = world()(set(), { ...set(), namespaceId: 99 }, remove)
    expect(results).toEqual(['stored', 'unknown-namespace', 'deleted'])
    expect(log).toHaveLength(2)
  })

  it.each([
    ['0', 0n],
    ['18446744073709551615', 18_446_744_073_709_551_615n],
    ['18446744073709551616', undefined],
    ['00000000000000000007', 7n],
    ['000000000000000000007', undefined],
    ['', undefined],
    ['1 ', undefined],
    ['-1', undefined],
    ['1.5', undefined],
    ['x', undefined],
  ])('with the value "%s" as the counter %s', (value, number) => {
    expect(world()(set(value)).inserts[0]?.number).toBe(number)
  })
})
