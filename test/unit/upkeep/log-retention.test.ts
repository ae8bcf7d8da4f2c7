import { expect, test } from 'vitest'
import { assessRetention } from '../../../src/upkeep/log-retention.ts'

const kept = { expireSeconds: 0, sizeBytesMax: 0, bytes: 1e6, oldest: 'b.000001' }
const need = { rebuildSeconds: 100, leastSeconds: 3600 }

test('a log that is never purged is kept long enough', () => {
  expect(assessRetention(kept, 1e6, need)).toEqual({ keptSeconds: Infinity, neededSeconds: 3600, enough: true })
})

test('a log that is purged sooner than the least is not', () => {
  expect(assessRetention({ ...kept, expireSeconds: 3599 }, 0, need).enough).toBe(false)
  expect(assessRetention({ ...kept, expireSeconds: 3600 }, 0, need).enough).toBe(true)
})

test('a rebuild may be begun again: it needs the log for three times as long as one takes', () => {
  const found = assessRetention({ ...kept, expireSeconds: 7200 }, 0, { ...need, rebuildSeconds: 2500 })
  expect(found).toEqual({ keptSeconds: 7200, neededSeconds: 7500, enough: false })
})

test('a log of limited size reaches back as far as its growth lets it', () => {
  const limited = { ...kept, sizeBytesMax: 3_600_000 }
  expect(assessRetention(limited, 1000, need)).toMatchObject({ keptSeconds: 3600, enough: true })
  expect(assessRetention(limited, 1001, need).enough).toBe(false)
  expect(assessRetention(limited, 0, need).keptSeconds).toBe(Infinity)
})
