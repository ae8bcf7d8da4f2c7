import { expect, test } from 'vitest'
import { consistencyOf, describeConsistency, ninesOf } from '../../../src/recovery/consistency.ts'

const counts = { keys: 1000, missing: 0, diverged: 0, orphan: 0 }

test('all right is 1, and so is nothing at all', () => {
  expect(consistencyOf(counts)).toBe(1)
  expect(consistencyOf({ ...counts, keys: 0 })).toBe(1)
})

test('what is missing, diverged, or has no row is wrong', () => {
  expect(consistencyOf({ ...counts, missing: 1 })).toBeCloseTo(0.999, 10)
  expect(consistencyOf({ ...counts, diverged: 1, missing: 1 })).toBeCloseTo(0.998, 10)
  expect(consistencyOf({ ...counts, keys: 0, orphan: 3 })).toBe(0)
})

test('nines are counted, and never rounded up', () => {
  expect([0.9, 0.99, 0.999, 0.9995, 0.99999, 0.5].map(ninesOf)).toEqual([1, 2, 3, 3, 5, 0])
  expect(ninesOf(1)).toBe(Infinity)
})

test('people read as many digits as it takes', () => {
  expect(describeConsistency(1)).toBe('100 %')
  expect(describeConsistency(0.99999)).toBe('99.99900 % (5 nines)')
  expect(describeConsistency(0.666666)).toBe('66.66 %')
})
