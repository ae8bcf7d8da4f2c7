import { describe, expect, test } from 'vitest'
import { Catalogue } from '../../../src/catalogue/catalogue.ts'
import type { NamespaceEntry } from '../../../src/domain/log-entry.ts'

function change(given: Partial<NamespaceEntry>): NamespaceEntry {
  return {
    kind: 'namespace',
    namespaceId: 1,
    name: 'a',
    generation: 1,
    begins: false,
    dropped: false,
    flushDue: 0,
    ...given,
  }
}

describe('the catalogue', () => {
  test('raises the watermark when a generation begins, and leaves it for any other change', () => {
    const catalogue = new Catalogue()
    catalogue.merge(change({ generation: 3, begins: true }), 100)
    expect(catalogue.byName('a')).toMatchObject({ generation: 3, watermark: 100 })
    const due = change({ generation: 3, flushDue: 1_800_000_000 })
    expect(catalogue.beginsGeneration(due)).toBe(false)
    catalogue.merge(due, undefined)
    expect(catalogue.byName('a')).toMatchObject({ generation: 3, watermark: 100, flushDue: 1_800_000_000 })
    const flush = change({ generation: 4, begins: true })
    expect(catalogue.beginsGeneration(flush)).toBe(true)
    catalogue.merge(flush, 200)
    expect(catalogue.byId(1)).toMatchObject({ generation: 4, watermark: 200, flushDue: 0 })
  })

  test('has no watermarks where items carry versions', () => {
    const catalogue = new Catalogue()
    catalogue.reset(undefined, [{ id: 1, name: 'a', generation: 6, flushDue: 0 }])
    expect(catalogue.beginsGeneration(change({ generation: 7, begins: true }))).toBe(true)
    catalogue.merge(change({ generation: 7, begins: true }), undefined)
    catalogue.merge(change({ namespaceId: 2, name: 'b', generation: 8, begins: true }), undefined)
    expect([...catalogue.all()].map(({ generation, watermark }) => [generation, watermark])).toEqual([
      [7, undefined],
      [8, undefined],
    ])
  })

  test('that is ahead of the log ignores what it knows better', () => {
    const catalogue = new Catalogue()
    catalogue.reset(10, [{ id: 1, name: 'a', generation: 6, flushDue: 0 }])
    const old = change({ generation: 5, begins: true })
    expect(catalogue.beginsGeneration(old)).toBe(false)
    catalogue.merge(old, undefined)
    expect(catalogue.byId(1)).toMatchObject({ generation: 6, watermark: 10 })
    // The flush itself, met again: what was written before it must be a miss.
    const again = change({ generation: 6, begins: true })
    expect(catalogue.beginsGeneration(again)).toBe(true)
  })

  test("keeps a name with its later holder when an earlier holder's life is replayed (R7)", () => {
    const catalogue = new Catalogue()
    catalogue.reset(10, [{ id: 9, name: 'sessions', generation: 10, flushDue: 0 }])
    catalogue.merge(change({ namespaceId: 5, name: 'sessions', generation: 3, begins: true }), 50)
    expect(catalogue.byName('sessions')?.id).toBe(9)
    catalogue.merge(change({ namespaceId: 5, name: 'sessions', generation: 3, dropped: true }), undefined)
    expect(catalogue.byName('sessions')?.id).toBe(9)
    expect(catalogue.byId(5)).toBeUndefined()
  })

  test('forgets a dropped namespace, and takes its name again under a higher generation', () => {
    const catalogue = new Catalogue()
    catalogue.merge(change({ generation: 3, begins: true }), 100)
    catalogue.merge(change({ generation: 3, dropped: true }), undefined)
    expect(catalogue.byName('a')).toBeUndefined()
    catalogue.merge(change({ namespaceId: 2, generation: 4, begins: true }), 150)
    expect(catalogue.byName('a')).toMatchObject({ id: 2, generation: 4, watermark: 150 })
  })

  test('ignores the drop of an earlier life of the same id', () => {
    const catalogue = new Catalogue()
    catalogue.reset(10, [{ id: 1, name: 'a', generation: 8, flushDue: 0 }])
    catalogue.merge(change({ generation: 5, dropped: true }), undefined)
    expect(catalogue.byName('a')).toMatchObject({ generation: 8 })
  })
})
