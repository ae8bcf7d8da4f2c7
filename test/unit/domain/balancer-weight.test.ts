import { expect, test } from 'vitest'
import { weightPercent } from '../../../src/domain/balancer-weight.ts'
import { nodeStates } from '../../../src/domain/node-state.ts'

const well = { state: 'serving', lagSeconds: 0, maxLagSeconds: 10, isDonor: false } as const

test('a node that serves takes its whole share, in every other state none', () => {
  for (const state of nodeStates) expect(weightPercent({ ...well, state })).toBe(state === 'serving' ? 100 : 0)
})

test('half of it while it gives items to another, or is on its way to being too late', () => {
  expect(weightPercent({ ...well, isDonor: true })).toBe(50)
  expect(weightPercent({ ...well, lagSeconds: 5 })).toBe(100)
  expect(weightPercent({ ...well, lagSeconds: 5.1 })).toBe(50)
  expect(weightPercent({ ...well, lagSeconds: 3600, maxLagSeconds: undefined })).toBe(100)
  expect(weightPercent({ ...well, lagSeconds: null })).toBe(100)
})
