import { inflateSync } from 'node:zlib'
import { WhiteholeError } from '../../domain/errors.ts'
import type { Key } from '../../domain/key.ts'
import { type LogEntry, operation } from '../../domain/log-entry.ts'
import { generationOfHigh32 } from '../../domain/version.ts'
import { Cursor, MalformedEvent } from './cursor.ts'
import type { TableLayout } from './table-map.ts'

export type RowChange = 'write' | 'update' | 'delete'

/** Which columns of a row are there, and how many bytes its null bitmap takes. */
interface Image {
  readonly columns: readonly number[]
  readonly nullBytes: number
}

/**
 * Turns the rows of one of our tables into entries. This is the hot path (bench/replay.ts): no BigInt, one look at each byte.
 * @param cursor stands behind the event's table id, flags and extra data, and ends where the rows end
 * @param compressed the rows are a zlib stream, as MariaDB's log_bin_compress writes them
 */
export function readRows(layout: TableLayout, change: RowChange, cursor: Cursor, compressed: boolean): LogEntry[] {
  const columnCount = cursor.lengthEncoded()
  if (columnCount !== layout.columnCount) {
    throw new MalformedEvent(`rows of ${columnCount} columns for ${layout.table}, which has ${layout.columnCount}`)
  }
  const first = readImage(columnCount, cursor)
  const after = change === 'update' ? readImage(columnCount, cursor) : first
  const rows = compressed ? inflate(cursor) : cursor.rest()
  if (layout.table === 'mc_namespaces') return readNamespaces(layout, change, [first, after], new Cursor(rows))
  if (layout.table === 'mc_lanes') {
    return change === 'delete' ? [] : readLanes(layout, change, [first, after], new Cursor(rows))
  }
  if (change === 'write') return readStorage(layout, first, new Cursor(own(rows)))
  throw new WhiteholeError(
    'log-unreadable',
    `the log holds an ${change.toUpperCase()} of rows of mc_storage; it must be a BLACKHOLE table, and INSERT alone is allowed`,
  )
}

function readStorage(layout: TableLayout, image: Image, cursor: Cursor): LogEntry[] {
  requireLeading(layout, image, 7)
  const entries: LogEntry[] = []
  const hasTail = image.columns.length > 7
  while (cursor.remaining > 0) {
    const nulls = hasTail ? cursor.bytes(image.nullBytes) : undefined
    // All seven are in the first byte of the bitmap; mc_value, the seventh, may be NULL.
    const leading = nulls === undefined ? cursor.u8() : (nulls[0] as number)
    if ((leading & 0x3f) !== 0) throw unexpectedNull(layout)
    const namespaceId = cursor.i32()
    const key = cursor.latin1(cursor.u8()) as Key
    const op = cursor.u8()
    const versionLow = cursor.u32()
    const versionHigh = cursor.u32()
    const generation = generationOfHigh32(versionHigh)
    const expiry = cursor.u64()
    const flags = cursor.u64Decimal()
    const value = (leading & 0x40) === 0 ? cursor.bytes(cursor.u32()) : undefined
    if (nulls !== undefined) skipColumns(layout, image, { from: 7, nulls, cursor })
    switch (op) {
      case operation.set:
        if (value === undefined) throw new WhiteholeError('log-unreadable', 'the log holds a set without a value')
        entries.push({ kind: 'set', namespaceId, key, generation, expiry, versionHigh, versionLow, flags, value })
        break
      case operation.delete:
        entries.push({ kind: 'delete', namespaceId, key })
        break
      case operation.touch:
        entries.push({ kind: 'touch', namespaceId, key, generation, expiry })
        break
      case operation.stale:
        entries.push({ kind: 'stale', namespaceId, key, generation, versionHigh, versionLow, expiry })
        break
      default:
        throw new WhiteholeError(
          'log-unreadable',
          `the log holds operation ${op}, which this version of whitehole does not know: a newer one wrote it`,
        )
    }
  }
  return entries
}

interface NamespaceRow {
  readonly namespaceId: number
  readonly name: string
  readonly generation: number
  readonly flushDue: number
}

function readNamespaces(layout: TableLayout, change: RowChange, images: [Image, Image], cursor: Cursor): LogEntry[] {
  const entries: LogEntry[] = []
  while (cursor.remaining > 0) {
    const before = change === 'write' ? undefined : readNamespace(layout, images[0], cursor)
    const row = change === 'delete' ? before : readNamespace(layout, images[1], cursor)
    if (row === undefined) throw new MalformedEvent('a row without an image')
    if (before !== undefined && (before.namespaceId !== row.namespaceId || before.name !== row.name)) {
      throw new WhiteholeError(
        'log-unreadable',
        `namespace ${before.namespaceId} was renamed or renumbered in the log, around the trigger that refuses it`,
      )
    }
    const begins = change === 'write' || (before !== undefined && row.generation > before.generation)
    entries.push({ kind: 'namespace', ...row, begins, dropped: change === 'delete' })
  }
  return entries
}

function readNamespace(layout: TableLayout, image: Image, cursor: Cursor): NamespaceRow {
  requireLeading(layout, image, 4)
  const nulls = cursor.bytes(image.nullBytes)
  if (((nulls[0] as number) & 0x0f) !== 0) throw unexpectedNull(layout)
  const namespaceId = cursor.i32()
  const name = cursor.latin1(cursor.u8())
  const generation = cursor.u32()
  const flushDue = cursor.u64()
  skipColumns(layout, image, { from: 4, nulls, cursor })
  return { namespaceId, name, generation, flushDue }
}

function readLanes(layout: TableLayout, change: RowChange, images: [Image, Image], cursor: Cursor): LogEntry[] {
  const entries: LogEntry[] = []
  const [before, after] = images
  while (cursor.remaining > 0) {
    if (change === 'update') {
      const nulls = cursor.bytes(before.nullBytes)
      skipColumns(layout, before, { from: 0, nulls, cursor })
    }
    requireLeading(layout, after, 3)
    const nulls = cursor.bytes(after.nullBytes)
    if (((nulls[0] as number) & 0x07) !== 0) throw unexpectedNull(layout)
    const lane = cursor.latin1(cursor.u8())
    const incarnation = cursor.u64()
    const sequence = cursor.u64()
    skipColumns(layout, after, { from: 3, nulls, cursor })
    entries.push({ kind: 'lane', lane, incarnation, sequence })
  }
  return entries
}

function readImage(columnCount: number, cursor: Cursor): Image {
  const present = cursor.bytes((columnCount + 7) >>> 3)
  const columns: number[] = []
  for (let column = 0; column < columnCount; column++) {
    if (isSet(present, column)) columns.push(column)
  }
  return { columns, nullBytes: (columns.length + 7) >>> 3 }
}

/** Passes over columns by their width. `from` counts among the columns that are there, as the null bitmap does. */
function skipColumns(
  layout: TableLayout,
  image: Image,
  { from, nulls, cursor }: { from: number; nulls: Buffer; cursor: Cursor },
): void {
  for (let index = from; index < image.columns.length; index++) {
    if (isSet(nulls, index)) continue
    const width = layout.widths[image.columns[index] as number] as number
    cursor.skip(width >= 0 ? width : readLength(-width, cursor))
  }
}

function readLength(bytes: number, cursor: Cursor): number {
  switch (bytes) {
    case 1:
      return cursor.u8()
    case 2:
      return cursor.u16()
    case 3:
      return cursor.u24()
    default:
      return cursor.u32()
  }
}

/** With all leading columns there, their places in the null bitmap are their numbers. */
function requireLeading(layout: TableLayout, image: Image, count: number): void {
  if (image.columns[count - 1] === count - 1) return
  throw new WhiteholeError(
    'log-unreadable',
    `the log holds a row of ${layout.table} without all its columns: set binlog_row_image=FULL on every database`,
  )
}

function unexpectedNull(layout: TableLayout): WhiteholeError {
  return new WhiteholeError('log-unreadable', `the log holds a NULL in a column of ${layout.table} that is never NULL`)
}

function isSet(bitmap: Buffer, bit: number): boolean {
  return ((bitmap[bit >>> 3] as number) & (1 << (bit & 7))) !== 0
}

/**
 * Values stay views into their event's bytes until they are applied. Out of the socket's read buffer those are copied first (one
 * copy an event), or a small value would keep a whole read chunk in memory.
 */
function own(rows: Buffer): Buffer {
  if (rows.buffer.byteLength <= rows.length * 1.25) return rows
  const copy = Buffer.allocUnsafeSlow(rows.length)
  rows.copy(copy)
  return copy
}

/** MariaDB: a byte `1 algorithm(3) n(4)`, the raw length in n bytes, big-endian, then a zlib stream. */
function inflate(cursor: Cursor): Buffer {
  const head = cursor.u8()
  const lengthBytes = head & 0x0f
  if ((head & 0xf0) !== 0x80 || lengthBytes < 1 || lengthBytes > 4) {
    throw new MalformedEvent(`0x${head.toString(16)} begins no compressed rows`)
  }
  let length = 0
  for (let index = 0; index < lengthBytes; index++) length = length * 256 + cursor.u8()
  if (length > inflatedBytesMax) throw new MalformedEvent(`compressed rows of ${length} bytes`)
  const raw = inflateSync(cursor.rest(), { maxOutputLength: Math.max(length, 1) })
  if (raw.length !== length)
    throw new MalformedEvent(`compressed rows of ${raw.length} bytes where ${length} were announced`)
  return raw
}

/** The server's largest packet: no event is longer. */
const inflatedBytesMax = 2 ** 30
