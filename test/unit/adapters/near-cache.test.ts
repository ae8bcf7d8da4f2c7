import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { NearCache, noTicket } from '../../../src/adapters/near-cache.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import type { CachedItem } from '../../../src/domain/local-reads.ts'

const key = (name: string): ItemKey => `one:${name}` as ItemKey
const item = (text: string, remainingSeconds = -1): CachedItem => ({
  flags: '7',
  casHigh: 1,
  casLow: 2,
  value: Buffer.from(text, 'latin1'),
  remainingSeconds,
})

let near: NearCache
let chance: number

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] })
  chance = 0
  near = new NearCache(100_000, () => chance)
})
afterEach(() => vi.useRealTimers())

function keep(name: string, text = name, remainingSeconds = -1): void {
  near.keep(near.ticket(), key(name), item(text, remainingSeconds), performance.now())
}

describe('what is kept', () => {
  it('is told as memcached told it', () => {
    keep('a', 'v1')
    const found = near.find(key('a'))
    expect({ ...found, value: found?.value.toString() }).toMatchObject({
      flags: '7',
      casHigh: 1,
      casLow: 2,
      value: 'v1',
    })
  })

  it('is a part of what comes, the larger the more it is used', () => {
    chance = 0.5
    expect(near.ticket()).toBe(noTicket)
    chance = 0.2
    expect(near.ticket()).not.toBe(noTicket)
    chance = 0
    const use = (times: number): void => {
      for (let n = 0; n <= 512; n++) {
        keep('a')
        for (let read = 0; read < times; read++) near.find(key('a'))
      }
      keep('b')
    }
    use(3)
    expect(near.share).toBe(1 / 2)
    use(3)
    expect(near.share).toBe(1)
    for (let round = 0; round < 10; round++) use(2)
    expect(near.share).toBe(1 / 128)
    near = new NearCache(100_000, () => chance)
    for (let n = 0; n < 10_000; n++) keep(`k${n}`, 'x'.repeat(100))
    expect(near.share).toBe(1 / 128)
    chance = 0.01
    expect(near.ticket()).toBe(noTicket)
  })

  it('is a copy: a view would hold on to all that came with it', () => {
    const large = Buffer.alloc(70_000, 'x')
    for (const bytes of [10, 30_000]) {
      const value = large.subarray(0, bytes)
      near.keep(near.ticket(), key('a'), { ...item(''), value }, performance.now())
      expect(near.find(key('a'))?.value.equals(value)).toBe(true)
      expect(near.find(key('a'))?.value.buffer).not.toBe(large.buffer)
    }
  })

  it('is no empty value, which may be a lease, and no very large one', () => {
    keep('lease', '')
    keep('large', 'x'.repeat(64 * 1024 + 1))
    expect(near.items).toBe(0)
  })

  it('stays below its bound, and what is used stays longest', () => {
    keep('hot')
    for (let n = 0; n < 1000; n++) {
      keep(`k${n}`, 'x'.repeat(1000))
      expect(near.find(key('hot'))).toBeDefined()
      expect(near.bytes).toBeLessThanOrEqual(100_000)
    }
    expect(near.find(key('k0'))).toBeUndefined()
    expect(near.find(key('k999'))).toBeDefined()
    expect(near.items).toBeLessThan(100)
  })

  it('is nothing where the bound is 0', () => {
    near = new NearCache(0)
    keep('a')
    expect(near.some).toBe(false)
  })

  it('counts its bytes down to nothing', () => {
    for (let n = 0; n < 60; n++) keep(`k${n}`, 'x'.repeat(1000))
    for (let n = 0; n < 60; n++) near.changes(key(`k${n}`))
    expect([near.items, near.bytes, near.some]).toEqual([0, 0, false])
  })
})

describe('time', () => {
  it('T9: memcached is asked again after half a minute', () => {
    keep('a')
    vi.advanceTimersByTime(29_999)
    expect(near.find(key('a'))).toBeDefined()
    vi.advanceTimersByTime(1)
    expect(near.find(key('a'))).toBeUndefined()
    expect(near.bytes).toBe(0)
  })

  it('T5: a copy ends before the item can, from the question on', () => {
    const ticket = near.ticket()
    const askedAt = performance.now()
    vi.advanceTimersByTime(400)
    near.keep(ticket, key('a'), item('v', 2), askedAt)
    vi.advanceTimersByTime(599)
    expect(near.find(key('a'))).toBeDefined()
    vi.advanceTimersByTime(1)
    expect(near.find(key('a'))).toBeUndefined()
    keep('last second', 'v', 1)
    keep('over', 'v', 0)
    near.keep(near.ticket(), key('untold'), { ...item('v'), remainingSeconds: undefined }, performance.now())
    expect(near.items).toBe(0)
  })
})

describe('a turn of the applier', () => {
  it('T1: takes away what it changes, and nothing else', () => {
    keep('a')
    keep('b')
    near.begin()
    near.changes(key('a'))
    expect(near.find(key('a'))).toBeUndefined()
    expect(near.find(key('b'))).toBeDefined()
    near.end()
    expect(near.find(key('a'))).toBeUndefined()
  })

  it('T2: what was asked before it is not kept, whenever the answer comes', () => {
    const during = near.ticket()
    const behind = near.ticket()
    near.begin()
    near.keep(during, key('a'), item('v1'), performance.now())
    near.end()
    near.keep(behind, key('b'), item('v1'), performance.now())
    expect(near.items).toBe(0)
  })

  it('T3: what is asked during it is not kept', () => {
    near.begin()
    const ticket = near.ticket()
    expect(ticket).toBe(noTicket)
    near.end()
    near.keep(ticket, key('a'), item('v1'), performance.now())
    expect(near.items).toBe(0)
    keep('a', 'v2')
    expect(near.find(key('a'))?.value.toString()).toBe('v2')
  })

  it('that failed lasts until the next life, which begins empty', () => {
    keep('a')
    const before = near.ticket()
    near.begin()
    expect(near.ticket()).toBe(noTicket)
    near.renew()
    expect(near.some).toBe(false)
    near.keep(before, key('b'), item('v1'), performance.now())
    expect(near.some).toBe(false)
    keep('b')
    expect(near.find(key('b'))).toBeDefined()
  })
})
