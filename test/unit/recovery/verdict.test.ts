import { describe, expect, it } from 'vitest'
import type { Key } from '../../../src/domain/key.ts'
import type { DirectoryRow } from '../../../src/recovery/directory-view.ts'
import { ownedGtids } from '../../../src/adapters/server-position.ts'
import { type DirectoryState, judge, settle } from '../../../src/recovery/verdict.ts'

function row(changes: Partial<DirectoryRow> = {}): DirectoryRow {
  return {
    key: 'k' as Key,
    generation: 5,
    version: '1',
    secondsLeft: Infinity,
    expiry: 0,
    flags: '0',
    size: 2,
    checksum: 1,
    number: undefined,
    ...changes,
  }
}

function state(changes: Partial<DirectoryRow> = {}, generation: number | undefined = 5): DirectoryState {
  return { row: row(changes), generation }
}

const absent: DirectoryState = { row: undefined, generation: 5 }
const item = { flags: '0', size: 2, checksum: 1 }
const other = { flags: '0', size: 3, checksum: 9 }
/** The row of version 2, as `other` shows it. */
const second = { version: '2', size: 3, checksum: 9 }

describe('what an item is to the directory', () => {
  it('agrees where size, checksum and flags do', () => {
    expect(judge(state(), item)).toBe('agrees')
    expect(judge(state(), { ...item, size: 3 })).toBe('diverged')
    expect(judge(state(), { ...item, checksum: 2 })).toBe('diverged')
    expect(judge(state(), { ...item, flags: '1' })).toBe('diverged')
    expect(judge(state(), undefined)).toBe('absent')
  })

  it('agrees where memcached kept the low 32 bits of the flags', () => {
    const flags = (kept: string, stored: string): string => judge(state({ flags: stored }), { ...item, flags: kept })
    expect(flags('4294967295', '18446744073709551615')).toBe('agrees')
    expect(flags('0', '4294967296')).toBe('agrees')
    expect(flags('18446744073709551615', '18446744073709551615')).toBe('agrees')
    expect(flags('1', '4294967296')).toBe('diverged')
    expect(flags('18446744073709551615', '4294967295')).toBe('diverged')
  })

  it('is an orphan where the row is absent, dead, expired, of an older generation or of no namespace', () => {
    expect(judge(absent, item)).toBe('orphan')
    expect(judge(state({ secondsLeft: -1e9 }), item)).toBe('orphan')
    expect(judge(state({ secondsLeft: -2.1 }), item)).toBe('orphan')
    expect(judge(state({ generation: 4 }), item)).toBe('orphan')
    expect(judge({ row: row(), generation: undefined }, item)).toBe('orphan')
    expect(judge(absent, undefined)).toBe('agrees')
  })

  it('agrees with anything within two seconds of its expiry', () => {
    for (const secondsLeft of [-1.9, 0, 1.9]) {
      expect(judge(state({ secondsLeft }), undefined)).toBe('agrees')
      expect(judge(state({ secondsLeft }), item)).toBe('agrees')
    }
    expect(judge(state({ secondsLeft: 2.1 }), undefined)).toBe('absent')
  })
})

describe('what a recheck settles', () => {
  it('counts a difference of a row that nobody touched', () => {
    const states = { committed: state(), dirty: state(), again: state() }
    expect(settle(states, undefined)).toBe('absent')
    expect(settle(states, other)).toBe('diverged')
    expect(settle({ committed: absent, dirty: absent, again: absent }, item)).toBe('orphan')
  })

  it('looks again where the row was written meanwhile', () => {
    expect(settle({ committed: state(), dirty: state(second), again: state(second) }, item)).toBeUndefined()
    expect(settle({ committed: absent, dirty: state(), again: state() }, undefined)).toBeUndefined()
  })

  it('looks again where the item is what an open transaction has written: it may be in the log already', () => {
    expect(settle({ committed: state(), dirty: state(second), again: state() }, other)).toBeUndefined()
    expect(settle({ committed: absent, dirty: state(), again: absent }, item)).toBeUndefined()
    const deleted = state({ version: '2', secondsLeft: -1e9 })
    expect(settle({ committed: state(), dirty: deleted, again: state() }, undefined)).toBeUndefined()
  })

  it('counts a difference that no open transaction explains, however long it stays open', () => {
    expect(settle({ committed: state(), dirty: state(second), again: state() }, undefined)).toBe('absent')
    const strange = { flags: '0', size: 7, checksum: 7 }
    expect(settle({ committed: state(), dirty: state(second), again: state() }, strange)).toBe('diverged')
  })

  it('looks again where a flush and a set are both open and the item shows one of them alone', () => {
    const committed = absent
    const dirty = { row: row({ generation: 5 }), generation: 6 }
    expect(settle({ committed, dirty, again: absent }, item)).toBeUndefined()
    const flushing = { committed: state(), dirty: state({}, 6), again: state() }
    expect(settle(flushing, undefined)).toBeUndefined()
    expect(settle(flushing, other)).toBe('diverged')
  })

  it('keeps to a difference while the key is touched: a touch stores nothing', () => {
    const before = state({ secondsLeft: 50 })
    const after = state({ secondsLeft: 100 })
    expect(settle({ committed: before, dirty: after, again: after }, other)).toBe('diverged')
  })

  it('looks again where the key expired while it was looked at', () => {
    const before = state({ secondsLeft: 2.5 })
    const after = state({ secondsLeft: -3 })
    expect(settle({ committed: before, dirty: after, again: after }, item)).toBeUndefined()
    expect(settle({ committed: before, dirty: after, again: after }, undefined)).toBe('agrees')
  })
})

describe('owned GTIDs of MySQL', () => {
  it('become a GTID set without their threads', () => {
    const one = '3e11fa47-71ca-11e1-9e33-c80aa9429562'
    const two = '4e11fa47-71ca-11e1-9e33-c80aa9429562'
    expect(ownedGtids('')).toEqual([])
    expect(ownedGtids(`${one}:23#12`)).toEqual([`${one}:23`])
    expect(ownedGtids(`${one}:23#12:25#14,\n${two}:1#3`)).toEqual([`${one}:23:25`, `${two}:1`])
  })
})
