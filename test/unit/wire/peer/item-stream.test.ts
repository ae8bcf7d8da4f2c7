import { expect, test } from 'vitest'
import type { ItemKey } from '../../../../src/domain/key.ts'
import { formatPosition, parsePosition } from '../../../../src/domain/position.ts'
import {
  formatAlive,
  formatEnd,
  formatHead,
  ItemsFrame,
  ItemStreamParser,
  itemStreamFormat,
  readItems,
  type ReceivedItem,
  type StreamFrame,
  type StreamHead,
} from '../../../../src/wire/peer/item-stream.ts'

const position = parsePosition('mariadb', '0-1-7,3-2-9')
const head: StreamHead = {
  format: itemStreamFormat,
  dump: 'a-dump',
  versions: true,
  staleItems: false,
  keysExpected: 3,
  clockSeconds: 1234.5,
  epoch: 4,
  position,
  namespaces: [{ id: 7, name: 'sessions', generation: 5, flushDue: 0 }],
}
const versions = [1n, 2n ** 32n - 1n, 2n ** 33n - 1n, (5n << 33n) | (2n ** 32n + 17n), 2n ** 63n - 1n]

function stream(): Buffer {
  const frame = new ItemsFrame(64)
  for (const [index, version] of versions.entries()) {
    frame.add({
      key: `sessions:k${index}\xff` as ItemKey,
      stale: index === 1,
      endSeconds: index * 1000.25,
      flags: 2 ** 32 - 1 - index,
      casHigh: Number(version >> 33n),
      casLow: Number(version & (2n ** 33n - 1n)),
      value: Buffer.alloc(index * 9, index),
    })
  }
  return Buffer.concat([
    formatHead(head),
    formatAlive(),
    frame.take(987_654_321_012),
    formatEnd({ position, epoch: 4, keys: 5 }),
  ])
}

function parse(chunks: readonly Buffer[]): StreamFrame[] {
  const parser = new ItemStreamParser()
  return chunks.flatMap((chunk) => [...parser.feed(chunk)])
}

test('what goes in comes out, however the bytes are split', () => {
  const bytes = stream()
  const whole = parse([bytes])
  expect(whole.map(({ kind }) => kind)).toEqual(['head', 'alive', 'items', 'end'])
  const told = JSON.stringify(whole)
  for (let at = 1; at < bytes.length; at++) {
    const split = parse([bytes.subarray(0, at), bytes.subarray(at)])
    if (JSON.stringify(split) !== told) expect(split).toEqual(whole)
  }
  expect(parse([...bytes].map((byte) => Buffer.from([byte])))).toEqual(whole)
})

test('head, items and end keep all they say, versions to the last bit', () => {
  const [first, , items, end] = parse([stream()])
  expect(first).toEqual({ kind: 'head', head })
  if (items?.kind !== 'items' || end?.kind !== 'end') throw new Error('frames are missing')
  expect(items.cursor).toBe(987_654_321_012)
  const received: ReceivedItem[] = []
  expect(readItems(items.piece, (item) => received.push(item))).toBe(versions.length)
  expect(received.map(({ versionHigh, versionLow }) => (BigInt(versionHigh) << 32n) | BigInt(versionLow))).toEqual(
    versions,
  )
  expect(received.map(({ key, stale, endSeconds, flags, value }) => [key, stale, endSeconds, flags, value])).toEqual(
    versions.map((_, n) => [`sessions:k${n}\xff`, n === 1, n * 1000.25, 2 ** 32 - 1 - n, Buffer.alloc(n * 9, n)]),
  )
  expect(formatPosition(end.end.position)).toBe('0-1-7,3-2-9')
})

test('bytes that are no such stream are refused', () => {
  expect(() => parse([Buffer.from([0, 0, 0, 0])])).toThrow(RangeError)
  expect(() => parse([Buffer.from([255, 0, 0, 0])])).toThrow(RangeError)
  expect(() => parse([Buffer.from([0, 0, 0, 1, 9])])).toThrow(RangeError)
  expect(() => parse([formatHead({ ...head, format: 1 })])).toThrow(/format/)
  const [, , items] = parse([stream()])
  if (items?.kind !== 'items') throw new Error('no items')
  expect(() => readItems(items.piece.subarray(0, items.piece.length - 1), () => {})).toThrow(/cut/)
})
