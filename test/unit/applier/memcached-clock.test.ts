import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { MemcachedClock } from '../../../src/applier/memcached-clock.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

/** Asks now and then; memcached's seconds begin `place` behind this clock's, and wander. */
function follow(place: number, wanderSecondsPerSecond = 0): { clock: MemcachedClock; off: () => number } {
  const clock = new MemcachedClock()
  const truth = (): number => 1000 + (performance.now() / 1000) * (1 - wanderSecondsPerSecond) - place
  for (let n = 0; n < 60; n++) {
    const askedAt = performance.now()
    vi.advanceTimersByTime(1)
    const seconds = Math.floor(truth())
    vi.advanceTimersByTime(1)
    clock.sample(seconds, askedAt, performance.now())
    vi.advanceTimersByTime(698)
  }
  return { clock, off: () => Math.abs(clock.nowSeconds() - truth()) }
}

it.each([0, 0.2, 0.5, 0.99])('finds where its seconds begin (%s)', (place) => {
  expect(follow(place).off()).toBeLessThan(0.1)
  expect(follow(place, 0.001).off()).toBeLessThan(0.1)
})

it('is never off by more than half a second, and begins anew where a second was skipped', () => {
  const { clock } = follow(0.3)
  const now = performance.now()
  const skipped = Math.floor(clock.nowSeconds()) + 5
  clock.sample(skipped, now, now)
  expect(Math.abs(clock.nowSeconds() - skipped - 0.5)).toBeLessThan(0.01)
})
