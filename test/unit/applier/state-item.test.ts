import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatStateItem, parseStateItem } from '../../../src/applier/state-item.ts'
import { parsePosition } from '../../../src/domain/position.ts'

const state = {
  contains: parsePosition('mariadb', '0-1-10,2-2-7'),
  mayContain: parsePosition('mariadb', '0-1-20,2-2-7'),
  epoch: 3,
  baseWatermark: 12,
  staleItems: false,
  namespaces: [
    { id: 1, name: 'default', generation: 1, watermark: 12, flushDue: 0 },
    { id: 1001, name: 'a.b-C_9', generation: 1_073_741_823, watermark: 9_007_199_254_740_991, flushDue: 1_800_000_000 },
  ],
}

test('the state item comes back from its text', () => {
  expect(parseStateItem(formatStateItem(state))).toEqual(state)
  const empty = {
    ...state,
    contains: parsePosition('mysql', ''),
    mayContain: parsePosition('mysql', ''),
    namespaces: [],
  }
  expect(parseStateItem(formatStateItem(empty))).toEqual(empty)
})

test('a state item says where items carry versions, and is not trusted where it says both', () => {
  const versioned = {
    ...state,
    baseWatermark: undefined,
    namespaces: state.namespaces.map((namespace) => ({ ...namespace, watermark: undefined })),
  }
  expect(parseStateItem(formatStateItem(versioned))).toEqual(versioned)
  const withStale = { ...versioned, staleItems: true }
  expect(parseStateItem(formatStateItem(withStale))).toEqual(withStale)
  expect(parseStateItem(formatStateItem({ ...state, baseWatermark: undefined }))).toBeUndefined()
  expect(parseStateItem(formatStateItem({ ...versioned, baseWatermark: 12 }))).toBeUndefined()
})

test('a state item that is cut anywhere is not trusted', () => {
  const text = formatStateItem(state)
  for (let length = 0; length < text.length; length++) {
    expect(parseStateItem(text.slice(0, length))).toBeUndefined()
  }
})

test('foreign text is no state item', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(parseStateItem(text)).toBeUndefined()
    }),
  )
  expect(parseStateItem(formatStateItem(state).replace('whitehole-state 1', 'whitehole-state 2'))).toBeUndefined()
})
