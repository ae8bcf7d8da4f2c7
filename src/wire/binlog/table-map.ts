import { WhiteholeError } from '../../domain/errors.ts'
import { Cursor, MalformedEvent } from './cursor.ts'

/** The tables that a node reads in the log. All others are passed over. */
export type LogTable = 'mc_storage' | 'mc_namespaces' | 'mc_lanes'

/** How the rows of one of our tables lie in the log. */
export interface TableLayout {
  readonly table: LogTable
  readonly columnCount: number
  /** Of each column: the bytes of its value, or, where negative, the bytes of the length before it. */
  readonly widths: readonly number[]
}

interface ExpectedColumn {
  readonly name: string
  /** As a person writes it. */
  readonly sql: string
  readonly type: number
  /** The type's metadata; for a VARCHAR its bytes, for a BLOB those of its length. */
  readonly metadata: number
  readonly unsigned?: boolean
}

const type = { tiny: 1, long: 3, longlong: 8, varchar: 15, blob: 252 } as const

const integer = (name: string, unsigned = false): ExpectedColumn => ({
  name,
  sql: unsigned ? 'INT UNSIGNED' : 'INT',
  type: type.long,
  metadata: 0,
  unsigned,
})
const bigint = (name: string): ExpectedColumn => ({
  name,
  sql: 'BIGINT UNSIGNED',
  type: type.longlong,
  metadata: 0,
  unsigned: true,
})
const varbinary = (name: string, bytes: number, sql = `VARBINARY(${bytes})`): ExpectedColumn => ({
  name,
  sql,
  type: type.varchar,
  metadata: bytes,
})

/** The leading columns that rows.ts reads, in order. Columns after them may be anything: a later migration may append some. */
const contract: Readonly<Record<LogTable, readonly ExpectedColumn[]>> = {
  mc_storage: [
    integer('ns_id'),
    varbinary('mc_key', 250),
    { name: 'op', sql: 'TINYINT UNSIGNED', type: type.tiny, metadata: 0, unsigned: true },
    bigint('version'),
    bigint('expire'),
    bigint('flags'),
    { name: 'mc_value', sql: 'LONGBLOB', type: type.blob, metadata: 4 },
  ],
  mc_namespaces: [
    integer('ns_id'),
    varbinary('ns_name', 64, 'VARCHAR(64) CHARACTER SET ascii'),
    integer('generation', true),
    bigint('flush_due'),
  ],
  mc_lanes: [varbinary('lane', 96), bigint('incarnation'), bigint('seq')],
}

export const logTables = Object.keys(contract) as readonly LogTable[]

export function isLogTable(name: string): name is LogTable {
  return Object.hasOwn(contract, name)
}

/**
 * Reads the part of a TABLE_MAP event after the names and checks it against what the tables must look like.
 * @throws WhiteholeError `log-unreadable` that names table, column, what was expected and what was found
 */
export function readTableLayout(table: LogTable, cursor: Cursor): TableLayout {
  const columnCount = cursor.lengthEncoded()
  const types = cursor.bytes(columnCount)
  const metadataCursor = new Cursor(cursor.bytes(cursor.lengthEncoded()))
  const metadata: number[] = []
  for (const code of types) metadata.push(readMetadata(code, metadataCursor))
  cursor.skip((columnCount + 7) >>> 3)
  const unsigned = readUnsigned(types, cursor)
  const expected = contract[table]
  if (columnCount < expected.length) {
    throw shapeError(table, `it has ${columnCount} columns, at least ${expected.length} are expected`)
  }
  for (const [index, column] of expected.entries()) {
    const code = types[index] as number
    const fits =
      code === column.type &&
      metadata[index] === column.metadata &&
      (column.unsigned === undefined || unsigned === undefined || unsigned.has(index) === column.unsigned)
    if (fits) continue
    const found = describeType(code, metadata[index] as number, unsigned?.has(index) === true)
    throw shapeError(table, `column ${index + 1} (${column.name}) is expected to be ${column.sql}, found ${found}`)
  }
  return { table, columnCount, widths: Array.from(types, (code, index) => width(code, metadata[index] as number)) }
}

function shapeError(table: LogTable, text: string): WhiteholeError {
  return new WhiteholeError(
    'log-unreadable',
    `the log's table ${table} has another shape than this version of whitehole reads: ${text}. ` +
      'Use the version that fits the schema, or change the table back',
  )
}

/** Which columns are unsigned, where the server tells (MySQL does, MariaDB only with binlog_row_metadata). */
function readUnsigned(types: Buffer, cursor: Cursor): ReadonlySet<number> | undefined {
  while (cursor.remaining > 0) {
    const field = cursor.u8()
    const value = cursor.bytes(cursor.lengthEncoded())
    if (field !== signednessField) continue
    const unsigned = new Set<number>()
    let bit = 0
    for (const [column, code] of types.entries()) {
      if (!numericTypes.has(code)) continue
      if (((value[bit >>> 3] ?? 0) & (0x80 >>> (bit & 7))) !== 0) unsigned.add(column)
      bit += 1
    }
    return unsigned
  }
  return undefined
}

const signednessField = 1
/** TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, NEWDECIMAL: one bit each in the signedness field. */
const numericTypes: ReadonlySet<number> = new Set([1, 2, 3, 4, 5, 8, 9, 246])

const oneByteMetadata: ReadonlySet<number> = new Set([4, 5, 17, 18, 19, 140, 242, 245, 249, 250, 251, 252, 255])
const twoByteMetadata: ReadonlySet<number> = new Set([15, 16, 141, 246, 247, 248, 253, 254])

function readMetadata(code: number, cursor: Cursor): number {
  if (oneByteMetadata.has(code)) return cursor.u8()
  if (twoByteMetadata.has(code)) return cursor.u16()
  return 0
}

/** Of fixed-width types. Temporal types with a fraction and DECIMAL are computed below. */
const fixedWidths: ReadonlyMap<number, number> = new Map([
  [1, 1],
  [2, 2],
  [3, 4],
  [4, 4],
  [5, 8],
  [6, 0],
  [7, 4],
  [8, 8],
  [9, 3],
  [10, 3],
  [11, 3],
  [12, 8],
  [13, 1],
  [14, 3],
])

function width(code: number, metadata: number): number {
  const fixed = fixedWidths.get(code)
  if (fixed !== undefined) return fixed
  switch (code) {
    case 15: // VARCHAR, VARBINARY
    case 141: // VARCHAR … COMPRESSED
    case 253:
      return metadata < 256 ? -1 : -2
    case 16: // BIT: low byte bits beyond the whole bytes of the high byte
      return (metadata >>> 8) + ((metadata & 0xff) > 0 ? 1 : 0)
    case 17: // TIMESTAMP
      return 4 + ((metadata + 1) >>> 1)
    case 18: // DATETIME
      return 5 + ((metadata + 1) >>> 1)
    case 19: // TIME
      return 3 + ((metadata + 1) >>> 1)
    case 140: // BLOB … COMPRESSED
    case 242: // VECTOR
    case 245: // JSON
    case 252: // BLOB, TEXT
    case 255: // GEOMETRY
      if (metadata < 1 || metadata > 4) throw new MalformedEvent(`a length of ${metadata} bytes before a BLOB`)
      return -metadata
    case 246:
      return decimalWidth(metadata & 0xff, metadata >>> 8)
    case 254:
      return stringWidth(metadata & 0xff, metadata >>> 8)
    default:
      throw new WhiteholeError(
        'log-unreadable',
        `a column has type ${code}, which this version of whitehole does not know`,
      )
  }
}

const decimalDigitBytes = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]

function decimalBytes(digits: number): number {
  return Math.floor(digits / 9) * 4 + (decimalDigitBytes[digits % 9] as number)
}

function decimalWidth(precision: number, scale: number): number {
  if (scale > precision) throw new MalformedEvent(`a DECIMAL(${precision},${scale})`)
  return decimalBytes(precision - scale) + decimalBytes(scale)
}

/** CHAR, BINARY, ENUM, SET: the real type in the first byte, into which the two highest bits of a length are folded. */
function stringWidth(realType: number, length: number): number {
  if (realType === 247 || realType === 248) return length
  const bytesMax = length | (((realType & 0x30) ^ 0x30) << 4)
  return bytesMax > 255 ? -2 : -1
}

function describeType(code: number, metadata: number, unsigned: boolean): string {
  const name = typeNames.get(code) ?? `type ${code}`
  const detail =
    code === type.varchar ? ` of ${metadata} bytes` : code === type.blob ? ` with a ${metadata}-byte length` : ''
  return `${name}${detail}${unsigned ? ' UNSIGNED' : ''}`
}

const typeNames: ReadonlyMap<number, string> = new Map([
  [1, 'TINYINT'],
  [2, 'SMALLINT'],
  [3, 'INT'],
  [4, 'FLOAT'],
  [5, 'DOUBLE'],
  [8, 'BIGINT'],
  [9, 'MEDIUMINT'],
  [15, 'VARCHAR or VARBINARY'],
  [17, 'TIMESTAMP'],
  [18, 'DATETIME'],
  [245, 'JSON'],
  [246, 'DECIMAL'],
  [252, 'BLOB or TEXT'],
  [254, 'CHAR, BINARY, ENUM or SET'],
])
