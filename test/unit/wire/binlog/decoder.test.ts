import * as fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { WhiteholeError } from '../../../../src/domain/errors.ts'
import type { LogEntry } from '../../../../src/domain/log-entry.ts'
import { crc32 } from '../../../../src/wire/binlog/checksum.ts'
import { DamagedEvent } from '../../../../src/wire/binlog/cursor.ts'
import { BinlogDecoder, type DecoderOptions } from '../../../../src/wire/binlog/decoder.ts'
import { type BinlogEvent, eventType } from '../../../../src/wire/binlog/events.ts'

/** Made by captures/capture.ts from real servers. */
function captured(engine: string): Buffer[] {
  const text = readFileSync(new URL(`captures/${engine}.txt`, import.meta.url), 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => Buffer.from(line, 'base64'))
}

function decodeAll(events: readonly Buffer[], options: DecoderOptions = {}): BinlogEvent[] {
  const decoder = new BinlogDecoder(options)
  return events.map((event) => decoder.decode(event))
}

function entriesOf(events: readonly BinlogEvent[]): LogEntry[] {
  return events.flatMap((event) => (event.kind === 'rows' ? event.entries : []))
}

/** With size and checksum as they have to be. */
function sealed(event: Buffer): Buffer {
  const copy = Buffer.concat([event, Buffer.alloc(4)])
  copy.writeUInt32LE(copy.length, 9)
  copy.writeUInt32LE(crc32(copy.subarray(0, -4)), copy.length - 4)
  return copy
}

function unsealed(event: Buffer): Buffer {
  return event.subarray(0, -4)
}

function withType(event: Buffer, type: number): Buffer {
  const copy = Buffer.from(unsealed(event))
  copy[4] = type
  return sealed(copy)
}

function indexOfType(events: readonly Buffer[], ...types: number[]): number {
  const index = events.findIndex((event) => types.includes(event[4] as number))
  if (index === -1) throw new Error(`no event of type ${types.join(' or ')}`)
  return index
}

const expected: LogEntry[] = [
  {
    kind: 'set',
    namespaceId: 1,
    key: 'alone' as never,
    generation: 3,
    expiry: 1_800_000_000,
    versionHigh: 6,
    versionLow: 5,
    flags: '18446744073709551615',
    value: Buffer.from('value'),
  },
  { kind: 'lane', lane: 'n1/0', incarnation: 281_474_976_710_655, sequence: 1 },
  { kind: 'lane', lane: 'n1/0', incarnation: 281_474_976_710_655, sequence: 2 },
  { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 3, flushDue: 0, begins: true, dropped: false },
  { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 4, flushDue: 0, begins: true, dropped: false },
  {
    kind: 'set',
    namespaceId: 7,
    key: 'a' as never,
    generation: 4,
    expiry: 0,
    versionHigh: 8,
    versionLow: 6,
    flags: '0',
    value: Buffer.alloc(0),
  },
  { kind: 'delete', namespaceId: 7, key: 'b' as never },
  { kind: 'touch', namespaceId: 7, key: 'c' as never, generation: 4, expiry: 1 },
  {
    kind: 'stale',
    namespaceId: 7,
    key: 'd' as never,
    generation: 4,
    versionHigh: 9,
    versionLow: 4_294_967_295,
    expiry: 1_800_000_000,
  },
  { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 4, flushDue: 0, begins: false, dropped: true },
]

describe.each(['mariadb', 'mysql'])('a captured stream of %s', (engine) => {
  const events = captured(engine)

  test('becomes the entries that were written', () => {
    const decoded = decodeAll(events)
    expect(entriesOf(decoded)).toEqual(expected)
    const kinds = decoded.map(({ kind }) => kind).filter((kind) => kind !== 'skipped' && kind !== 'heartbeat')
    // MySQL also sends one while it passes over what the reader has.
    expect(decoded.filter(({ kind }) => kind === 'heartbeat')).toHaveLength(1)
    const begin = engine === 'mysql' ? ['begin'] : []
    const group = (rows: number): string[] => ['gtid', ...begin, ...Array<string>(rows).fill('rows'), 'commit']
    expect(kinds).toEqual(['format', ...group(1), ...group(6), 'gtid', 'statement'])
  })

  test('is refused at any event that is cut short, wherever', () => {
    for (const [index, event] of events.entries()) {
      for (let length = 0; length < event.length; length++) {
        const decoder = new BinlogDecoder()
        for (const before of events.slice(0, index)) decoder.decode(before)
        expect(() => decoder.decode(event.subarray(0, length)), `event ${index}, ${length} bytes`).toThrow(DamagedEvent)
      }
    }
  })

  test('is refused at any byte that was changed', () => {
    const format = indexOfType(events, eventType.formatDescription)
    for (const [index, event] of events.entries()) {
      // Nothing is read out of what comes before the format.
      if (index < format) continue
      for (let at = 0; at < event.length; at++) {
        const decoder = new BinlogDecoder()
        for (const before of events.slice(0, index)) decoder.decode(before)
        const copy = Buffer.from(event)
        copy[at] = (copy[at] as number) ^ (1 << (at % 8))
        expect(() => decoder.decode(copy), `event ${index}, byte ${at}`).toThrow()
      }
    }
  })

  test('never gives a value that was not written, where an event is shorter than its length fields say', () => {
    const whole = entriesOf(decodeAll(events))
    for (const [index, event] of events.entries()) {
      if (event[4] === eventType.formatDescription) continue
      for (let length = 19; length < event.length - 4; length++) {
        const decoder = new BinlogDecoder()
        const before = entriesOf(events.slice(0, index).map((other) => decoder.decode(other)))
        const cut = decodeOr(() => decoder.decode(sealed(event.subarray(0, length))))
        if (cut?.kind !== 'rows') continue
        // Cut exactly between two rows.
        expect(whole.slice(before.length, before.length + cut.entries.length)).toEqual(cut.entries)
      }
    }
  })

  test('survives any bytes in place of a body: an error of ours or no rows out of thin air, never another exception', () => {
    const tables = events.slice(0, indexOfType(events, eventType.writeRowsV1, eventType.writeRowsV2) + 1)
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(eventType)), fc.uint8Array({ maxLength: 300 }), (type, body) => {
        const decoder = new BinlogDecoder()
        for (const event of tables) decoder.decode(event)
        const header = Buffer.from(events.at(-1)?.subarray(0, 19) ?? [])
        header[4] = type
        decodeOr(() => decoder.decode(sealed(Buffer.concat([header, body]))))
      }),
      { numRuns: 3000 },
    )
  })

  test('is read without checksums where the server writes none', () => {
    const bare = events.map((event) => {
      const copy = Buffer.from(unsealed(event))
      if (copy[4] !== eventType.formatDescription) {
        copy.writeUInt32LE(copy.length, 9)
        return copy
      }
      const format = Buffer.from(event)
      format[format.length - 5] = 0
      return format
    })
    expect(entriesOf(decodeAll(bare))).toEqual(expected)
  })

  test('passes over rows of tables that are not ours by their number alone', () => {
    const decoder = new BinlogDecoder({ schema: 'other' })
    expect(entriesOf(events.map((event) => decoder.decode(event)))).toEqual([])
  })

  test('is refused where rows come without the description of their table', () => {
    const map = indexOfType(events, eventType.tableMap)
    expect(() => decodeAll(events.toSpliced(map, 1))).toThrow(/table number \d+, which was not described/)
  })

  test.each([
    [eventType.intvar, /set binlog_format=ROW/],
    [eventType.random, /set binlog_format=ROW/],
    [eventType.userVariable, /set binlog_format=ROW/],
    [eventType.executeLoadQuery, /set binlog_format=ROW/],
    [eventType.transactionPayload, /set binlog_transaction_compression=OFF/],
    [eventType.anonymousGtid, /set gtid_mode=ON/],
    [eventType.gtidTagged, /tagged GTID/],
    [eventType.incident, /lost events/],
    [200, /type 200/],
  ])('stops at an event of type %i with a text that says what to change', (type, text) => {
    const [rotate, format] = [events[0] as Buffer, events[indexOfType(events, eventType.formatDescription)] as Buffer]
    const odd = withType(events.at(-1) as Buffer, type)
    const attempt = (): unknown => decodeAll([rotate, format, odd])
    expect(attempt).toThrow(WhiteholeError)
    expect(attempt).toThrow(text)
  })

  test('passes over statements that were allowed, and unknown events that may be ignored', () => {
    const format = events[indexOfType(events, eventType.formatDescription)] as Buffer
    const intvar = withType(events.at(-1) as Buffer, eventType.intvar)
    const unknown = Buffer.from(unsealed(withType(events.at(-1) as Buffer, 200)))
    unknown.writeUInt16LE(0x80, 17)
    const decoded = decodeAll([format, intvar, sealed(unknown)], { foreignStatements: 'skip' })
    expect(decoded.slice(1)).toEqual([{ kind: 'skipped' }, { kind: 'skipped' }])
  })

  test('begins with its format', () => {
    const rows = events[indexOfType(events, eventType.writeRowsV1, eventType.writeRowsV2)] as Buffer
    expect(() => decodeAll([rows])).toThrow(/not with its format/)
  })

  test('has compressed row events, which are inflated within the announced length', () => {
    const v2 = engine === 'mysql'
    const at = indexOfType(events, eventType.writeRowsV1, eventType.writeRowsV2)
    const event = unsealed(events[at] as Buffer)
    // Header, table number and flags, extra data, column count, and the bitmap of seven columns stay.
    const head = 19 + 8 + (v2 ? 2 : 0) + 2
    const rows = event.subarray(head)
    const compressed = (length: number): Buffer[] => {
      const announced = Buffer.from([0x82, length >> 8, length & 0xff])
      const packed = Buffer.concat([event.subarray(0, head), announced, deflateSync(rows)])
      packed[4] = v2 ? eventType.writeRowsCompressedV2 : eventType.writeRowsCompressedV1
      return events.toSpliced(at, 1, sealed(packed))
    }
    expect(entriesOf(decodeAll(compressed(rows.length)))).toEqual(expected)
    expect(() => decodeAll(compressed(rows.length - 1))).toThrow(WhiteholeError)
    expect(() => decodeAll(compressed(rows.length + 1))).toThrow(/were announced/)
  })

  test('keeps no large read buffer in memory for a small value', () => {
    const chunk = Buffer.alloc(64 * 1024)
    const decoder = new BinlogDecoder()
    const decoded = events.map((event) => {
      chunk.fill(0xee)
      event.copy(chunk, 100)
      return decoder.decode(chunk.subarray(100, 100 + event.length))
    })
    chunk.fill(0)
    expect(entriesOf(decoded)).toEqual(expected)
    for (const entry of entriesOf(decoded)) {
      if (entry.kind === 'set') expect(entry.value.buffer.byteLength).toBeLessThan(300)
    }
  })
})

/** Undefined for the two errors that a decoder may throw. */
function decodeOr(decode: () => BinlogEvent): BinlogEvent | undefined {
  try {
    return decode()
  } catch (error) {
    if (error instanceof DamagedEvent || error instanceof WhiteholeError) return undefined
    throw error
  }
}
