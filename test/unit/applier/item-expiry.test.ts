import { describe, expect, it } from 'vitest'
import { memcachedExptime, streamedExptime } from '../../../src/applier/item-commands.ts'

const second = 1_795_423_168
const clock = (databaseNow: number, memcachedNow = databaseNow): Parameters<typeof memcachedExptime>[2] => ({
  databaseNowSeconds: () => databaseNow,
  memcachedNowSeconds: () => memcachedNow,
})

describe('the time that an item is given in memcached', () => {
  it.each([0, 0.01, 0.5, 0.99, 1.2])(
    "is the client's own number of seconds, %s s into the second of its write",
    (passed) => {
      for (const exptime of [1, 2, 60, 2_592_000])
        expect(memcachedExptime(second + exptime, second, clock(second + passed))).toBe(exptime)
    },
  )

  it('is a second at least where the clock ticked between the decision and the log', () => {
    expect(memcachedExptime(second, second, clock(second + 0.02))).toBe(1)
  })

  it('is what is left, rounded up, of an entry that comes late', () => {
    expect(memcachedExptime(second + 60, second, clock(second + 10.25))).toBe(50)
    expect(memcachedExptime(second + 60, second, clock(second + 59.9))).toBe(1)
    expect(memcachedExptime(second + 60, second, clock(second + 60))).toBeUndefined()
  })

  it('is nothing for what was over when it was written', () => {
    expect(memcachedExptime(1, second, clock(second + 0.1))).toBeUndefined()
    expect(memcachedExptime(second - 1, second, clock(second + 0.1))).toBeUndefined()
  })

  it("is absolute by memcached's own clock beyond 30 days, and never beyond its last second", () => {
    const far = second + 2_592_001
    expect(memcachedExptime(far, second, clock(second + 0.5, 1_000_000.75))).toBe(1_000_000 + 2_592_001)
    expect(memcachedExptime(2 ** 31 + 5, second, clock(second))).toBe(0)
    expect(memcachedExptime(0, second, clock(second))).toBe(0)
  })

  it("ends within half a second of the peer's that gave it, wherever the clocks of both stand", () => {
    for (let memcachedNow = 5000; memcachedNow < 5002; memcachedNow += 0.13) {
      for (const left of [0.6, 1, 59.75, 3_000_000.4]) {
        const exptime = streamedExptime(second + left, clock(second, memcachedNow)) ?? Number.NaN
        expect(Math.abs(exptime - memcachedNow - left)).toBeLessThanOrEqual(0.5 + 1e-6)
      }
    }
    expect(streamedExptime(0, clock(second))).toBe(0)
    expect(streamedExptime(second, clock(second + 0.5))).toBeUndefined()
    expect(streamedExptime(2 ** 31 + 5, clock(second))).toBe(0)
  })
})
