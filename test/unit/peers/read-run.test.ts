import { expect, test } from 'vitest'
import type { ItemKey } from '../../../src/domain/key.ts'
import { parsePosition } from '../../../src/domain/position.ts'
import { versionFromNumber } from '../../../src/domain/version.ts'
import {
  formatAnswers,
  formatRun,
  parseAnswers,
  parseRun,
  type PeerReadAnswer,
  type ReadRun,
} from '../../../src/peers/read-run.ts'

const position = parsePosition('mysql', '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9')
const key = 'sessions:\x00\xff k' as ItemKey
const run: ReadRun = {
  floor: position,
  withVersions: true,
  reads: [
    { kind: 'fetch', namespaceId: 7, key },
    {
      kind: 'examine',
      namespaceId: 7,
      key,
      question: { withValue: true, noBump: false, vivify: 30, recacheBelow: 5 },
    },
    { kind: 'describe', namespaceId: 7, key },
    { kind: 'fetch', namespaceId: 7, key },
  ],
}
const examined = {
  sizeBytes: 3,
  remainingSeconds: -1,
  hitBefore: true,
  idleSeconds: 4,
  won: true,
  stale: false,
  leased: false,
}
const cas = { casHigh: 2 ** 30 - 1, casLow: 2 ** 33 - 1 }
const item = { cas, version: versionFromNumber(2n ** 63n - 1n), flags: '4294967295', value: Buffer.from([0, 255, 10]) }
const answers: PeerReadAnswer[] = [
  { kind: 'fetched', item },
  { kind: 'examined', item: { ...item, version: undefined, value: undefined, examined } },
  { kind: 'described', text: 'exp=-1 la=0' },
  { kind: 'fetched', item: undefined },
]

test('a run of reads arrives as it was asked', () => {
  expect(parseRun(JSON.parse(formatRun(run)))).toEqual(run)
  const first: ReadRun = { floor: undefined, withVersions: false, reads: run.reads.slice(0, 1) }
  expect(parseRun(JSON.parse(formatRun(first)))).toEqual(first)
})

test('its answers arrive as they were given, fewer too', () => {
  expect(parseAnswers(formatAnswers({ position, answers }), run)).toEqual({ position, answers })
  const fewer = answers.slice(0, 2)
  expect(parseAnswers(formatAnswers({ position, answers: fewer }), run).answers).toEqual(fewer)
})

test('what is no run, and no answer to this one, is refused', () => {
  expect(() => parseRun({ reads: [] })).toThrow(RangeError)
  expect(() => parseRun({ reads: [['guess', 1, 'aa']] })).toThrow(RangeError)
  expect(() => parseRun({ reads: [['fetch', 1, '']] })).toThrow(RangeError)
  expect(() => parseRun({ floor: { dialect: 'x' }, reads: [['fetch', 1, 'aa']] })).toThrow(RangeError)
  const bytes = formatAnswers({ position, answers })
  expect(() => parseAnswers(bytes.subarray(0, bytes.length - 1), run)).toThrow(/cut/)
  expect(() => parseAnswers(Buffer.alloc(3), run)).toThrow(/cut/)
  expect(() => parseAnswers(formatAnswers({ position, answers: [] }), run)).toThrow(RangeError)
})
