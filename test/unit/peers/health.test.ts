import { expect, test } from 'vitest'
import { judgePeer, parseHealth, type PeerView, type ProbeResult } from '../../../src/peers/health.ts'

const good: ProbeResult = { state: 'serving', lagSeconds: 0 }
const away: ProbeResult = undefined
const rebuilding: ProbeResult = { state: 'rebuilding', lagSeconds: null }

function ups(results: readonly ProbeResult[]): boolean[] {
  let view: PeerView | undefined
  return results.map((result) => (view = judgePeer(view, result, { rise: 2, fall: 3 })).up)
}

test('the first probe counts at once', () => {
  expect(ups([good])).toEqual([true])
  expect(ups([away])).toEqual([false])
})

test('three bad probes in a row make it down, fewer do not', () => {
  expect(ups([good, away, away, good, away, away, away])).toEqual([true, true, true, true, true, true, false])
})

test('two good ones in a row make it up again', () => {
  expect(ups([away, good, away, good, good])).toEqual([false, false, false, false, true])
})

test('who says itself that it does not serve is believed at once, and that it does again', () => {
  expect(ups([good, rebuilding, good, rebuilding, away, good])).toEqual([true, false, true, false, false, true])
  expect(ups([good, { state: 'draining', lagSeconds: 0 }])).toEqual([true, false])
})

test('what a peer tells is checked', () => {
  expect(parseHealth({ state: 'serving', lagSeconds: 1.5 })).toEqual({ state: 'serving', lagSeconds: 1.5 })
  expect(parseHealth({ state: 'serving' }).lagSeconds).toBeNull()
  expect(() => parseHealth({ state: 'fine' })).toThrow(RangeError)
  expect(() => parseHealth(null)).toThrow(RangeError)
})
