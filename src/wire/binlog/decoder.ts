import { inflateSync } from 'node:zlib'
import { WhiteholeError } from '../../domain/errors.ts'
import { checksumBytes, checksumFits } from './checksum.ts'
import { Cursor, DamagedEvent, MalformedEvent } from './cursor.ts'
import { type BinlogEvent, eventType, headerBytes, ignorableFlag } from './events.ts'
import { readRows, type RowChange } from './rows.ts'
import { classifyStatement } from './statements.ts'
import { isLogTable, type LogTable, readTableLayout, type TableLayout } from './table-map.ts'

export interface DecoderOptions {
  /** The name of our database. */
  readonly schema?: string
  /**
   * Statements of others that the log holds as text (a session with binlog_format other than ROW). Triggers and functions that they
   * fired may have written into our log, and that is lost: so `stop`, unless somebody knows that none did: `skip`.
   */
  readonly foreignStatements?: 'stop' | 'skip'
}

const skipped: BinlogEvent = { kind: 'skipped' }
const begin: BinlogEvent = { kind: 'begin' }
const commit: BinlogEvent = { kind: 'commit' }
const heartbeat: BinlogEvent = { kind: 'heartbeat' }

/** As much of a statement's text as its meaning can need: DML is known by its first word, lists of dropped tables are short. */
const statementBytesMax = 64 * 1024

/**
 * Turns the events of a binlog stream into what they mean to us. Holds what later events depend on: whether there are checksums, and
 * which table numbers are ours. One decoder a connection; it never throws away the connection's place, so after any error
 * the connection must be given up.
 */
export class BinlogDecoder {
  readonly #schema: string
  readonly #foreignStatements: 'stop' | 'skip'
  /** Unknown until the first FORMAT_DESCRIPTION; the ROTATE before it is not looked at. */
  #hasChecksums: boolean | undefined
  /** Table numbers of the transaction at hand. A server describes each table again at least once a transaction. */
  readonly #layouts = new Map<number, TableLayout>()
  readonly #foreign = new Set<number>()
  /** The last description of each of our tables, byte for byte: it is the same for a long time. */
  readonly #described = new Map<LogTable, { bytes: Buffer; layout: TableLayout }>()
  /** The source's UUID of the last MySQL GTID: bytes and text. */
  #source = { bytes: Buffer.alloc(16), text: '' }

  constructor(options: DecoderOptions = {}) {
    this.#schema = options.schema ?? 'memcached'
    this.#foreignStatements = options.foreignStatements ?? 'stop'
  }

  /**
   * @param event a whole event with its header. Values of the result may be views into it.
   * @throws DamagedEvent where the bytes aren't those that were sent: read again
   * @throws WhiteholeError `log-unreadable` where a person must change something
   */
  decode(event: Buffer): BinlogEvent {
    if (event.length < headerBytes) throw new DamagedEvent(`an event of ${event.length} bytes`)
    const size = event.readUInt32LE(9)
    if (size !== event.length) throw new DamagedEvent(`an event of ${event.length} bytes says that it has ${size}`)
    const type = event[4] as number
    if (type === eventType.formatDescription) return this.#formatDescription(event)
    if (this.#hasChecksums === undefined) {
      // The pretended ROTATE that opens the stream; whether it carries a checksum, only the next event tells.
      if (type === eventType.rotate || type === eventType.heartbeat) return skipped
      throw new WhiteholeError('log-unreadable', `the log begins with an event of type ${type}, not with its format`)
    }
    if (this.#hasChecksums && !checksumFits(event))
      throw new DamagedEvent(`an event of type ${type} fails its checksum`)
    const end = event.length - (this.#hasChecksums ? checksumBytes : 0)
    try {
      return this.#decode(type, event, end)
    } catch (error) {
      if (!(error instanceof MalformedEvent || isZlibError(error))) throw error
      if (!this.#hasChecksums) throw new DamagedEvent(`an event of type ${type}: ${error.message}`, { cause: error })
      throw new WhiteholeError(
        'log-unreadable',
        `an event of type ${type} has a form that this version of whitehole does not know: ${error.message}`,
        { cause: error },
      )
    }
  }

  #decode(type: number, event: Buffer, end: number): BinlogEvent {
    const cursor = new Cursor(event, headerBytes, end)
    switch (type) {
      case eventType.tableMap:
        this.#tableMap(cursor)
        return skipped
      case eventType.writeRowsV1:
      case eventType.writeRowsV2:
        return this.#rows('write', cursor, { v2: type === eventType.writeRowsV2, compressed: false })
      case eventType.updateRowsV1:
      case eventType.updateRowsV2:
        return this.#rows('update', cursor, { v2: type === eventType.updateRowsV2, compressed: false })
      case eventType.deleteRowsV1:
      case eventType.deleteRowsV2:
        return this.#rows('delete', cursor, { v2: type === eventType.deleteRowsV2, compressed: false })
      case eventType.writeRowsCompressedV1:
      case eventType.writeRowsCompressedV2:
        return this.#rows('write', cursor, { v2: type === eventType.writeRowsCompressedV2, compressed: true })
      case eventType.updateRowsCompressedV1:
      case eventType.updateRowsCompressedV2:
        return this.#rows('update', cursor, { v2: type === eventType.updateRowsCompressedV2, compressed: true })
      case eventType.deleteRowsCompressedV1:
      case eventType.deleteRowsCompressedV2:
        return this.#rows('delete', cursor, { v2: type === eventType.deleteRowsCompressedV2, compressed: true })
      case eventType.partialUpdateRows:
        return this.#partialRows(cursor)
      case eventType.mariadbGtid:
        return this.#mariadbGtid(cursor, event)
      case eventType.gtid:
        return this.#mysqlGtid(cursor, event)
      case eventType.xid:
        return commit
      case eventType.query:
        return this.#query(cursor, false)
      case eventType.queryCompressed:
        return this.#query(cursor, true)
      case eventType.xaPrepare:
        return { kind: 'xa-prepare', onePhase: cursor.u8() !== 0 }
      case eventType.heartbeat:
      case eventType.heartbeatV2:
        return heartbeat
      default:
        return this.#other(type, event)
    }
  }

  #other(type: number, event: Buffer): BinlogEvent {
    switch (type) {
      // Nothing in them is needed: position and tables come with each transaction.
      case eventType.rotate:
      case eventType.stop:
      case eventType.ignorable:
      case eventType.rowsQuery:
      case eventType.previousGtids:
      case eventType.transactionContext:
      case eventType.viewChange:
      case eventType.annotateRows:
      case eventType.binlogCheckpoint:
      case eventType.gtidList:
      case eventType.startEncryption:
        return skipped
      case eventType.intvar:
      case eventType.random:
      case eventType.userVariable:
      case eventType.load:
      case eventType.createFile:
      case eventType.appendBlock:
      case eventType.executeLoad:
      case eventType.deleteFile:
      case eventType.newLoad:
      case eventType.beginLoadQuery:
      case eventType.executeLoadQuery:
        if (this.#foreignStatements === 'skip') return skipped
        throw statementError('a statement')
      case eventType.transactionPayload:
        throw new WhiteholeError(
          'log-unreadable',
          'the log holds a compressed transaction: set binlog_transaction_compression=OFF, also for every session',
        )
      case eventType.anonymousGtid:
        throw new WhiteholeError('log-unreadable', 'the log holds a transaction without a GTID: set gtid_mode=ON')
      case eventType.gtidTagged:
        throw new WhiteholeError('log-unreadable', 'the log holds a tagged GTID: set gtid_next=AUTOMATIC without a tag')
      case eventType.incident:
        throw new WhiteholeError(
          'log-unreadable',
          'the log says that the database lost events of it: rebuild from another database',
        )
      default:
        if ((event.readUInt16LE(17) & ignorableFlag) !== 0) return skipped
        throw new WhiteholeError(
          'log-unreadable',
          `the log holds an event of type ${type}, which this version of whitehole does not know`,
        )
    }
  }

  /** The checksum's algorithm, then always a checksum's four bytes, end this event. */
  #formatDescription(event: Buffer): BinlogEvent {
    const end = event.length - checksumBytes - 1
    const algorithm = event[end]
    if (end <= headerBytes + 57 || algorithm === undefined || algorithm > 1) {
      throw new WhiteholeError('log-unreadable', 'the log has a format older than MySQL 5.6 or MariaDB 5.3')
    }
    if (algorithm === 1 && !checksumFits(event)) throw new DamagedEvent('the format description fails its checksum')
    const cursor = new Cursor(event, headerBytes, end)
    const version = cursor.u16()
    const serverVersion = cursor.latin1(50).replace(/\0.*$/, '')
    const created = cursor.u32()
    const lengths = [cursor.u8(), ...cursor.rest()]
    for (const [type, length] of postHeaderLengths) {
      // 0 or nothing: this server never writes the type.
      if ((lengths[type] ?? 0) === 0 || lengths[type] === length) continue
      throw new WhiteholeError(
        'log-unreadable',
        `events of type ${type} have ${lengths[type]} bytes before their body, not ${length}`,
      )
    }
    if (version !== 4) throw new WhiteholeError('log-unreadable', `the log has format ${version}, not 4`)
    this.#hasChecksums = algorithm === 1
    return { kind: 'format', serverVersion, restarted: created !== 0 }
  }

  #mariadbGtid(cursor: Cursor, event: Buffer): BinlogEvent {
    const sequence = cursor.u64()
    const domain = cursor.u32()
    const flags = cursor.u8()
    this.#forgetTables()
    return {
      kind: 'gtid',
      gtid: { dialect: 'mariadb', domain, server: event.readUInt32LE(5), sequence },
      opens: (flags & standaloneFlag) === 0 ? 'group' : 'statement',
      timestampSeconds: event.readUInt32LE(0),
    }
  }

  #mysqlGtid(cursor: Cursor, event: Buffer): BinlogEvent {
    cursor.skip(1)
    const bytes = cursor.bytes(16)
    if (this.#source.text === '' || bytes.compare(this.#source.bytes) !== 0) {
      const text = bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
      this.#source = { bytes: Buffer.from(bytes), text }
    }
    this.#forgetTables()
    return {
      kind: 'gtid',
      gtid: { dialect: 'mysql', source: this.#source.text, sequence: cursor.u64() },
      opens: 'unknown',
      timestampSeconds: event.readUInt32LE(0),
    }
  }

  #forgetTables(): void {
    this.#layouts.clear()
    this.#foreign.clear()
  }

  #tableMap(cursor: Cursor): void {
    const id = cursor.u48()
    cursor.skip(2)
    const database = cursor.latin1(cursor.u8())
    cursor.skip(1)
    const name = cursor.latin1(cursor.u8())
    cursor.skip(1)
    if (database !== this.#schema || !isLogTable(name)) {
      this.#layouts.delete(id)
      this.#foreign.add(id)
      return
    }
    const bytes = cursor.rest()
    const known = this.#described.get(name)
    const layout = known?.bytes.equals(bytes) === true ? known.layout : readTableLayout(name, new Cursor(bytes))
    if (layout !== known?.layout) this.#described.set(name, { bytes: Buffer.from(bytes), layout })
    this.#foreign.delete(id)
    this.#layouts.set(id, layout)
  }

  #rows(change: RowChange, cursor: Cursor, form: { v2: boolean; compressed: boolean }): BinlogEvent {
    const bytes = cursor.remaining
    const layout = this.#tableOf(cursor)
    if (layout === undefined) return skipped
    cursor.skip(2)
    if (form.v2) {
      const extra = cursor.u16()
      if (extra < 2) throw new MalformedEvent(`extra data of ${extra} bytes`)
      cursor.skip(extra - 2)
    }
    return { kind: 'rows', entries: readRows(layout, change, cursor, form.compressed), bytes }
  }

  #partialRows(cursor: Cursor): BinlogEvent {
    const layout = this.#tableOf(cursor)
    if (layout === undefined) return skipped
    throw new WhiteholeError(
      'log-unreadable',
      `the log holds a partial update of ${layout.table}: set binlog_row_value_options=''`,
    )
  }

  /** The layout of the table that rows belong to; undefined where it is not ours. */
  #tableOf(cursor: Cursor): TableLayout | undefined {
    const id = cursor.u48()
    const layout = this.#layouts.get(id)
    // A table number that only marks the end of a statement has no description.
    if (layout !== undefined || this.#foreign.has(id) || id === dummyTable) return layout
    throw new MalformedEvent(`rows of table number ${id}, which was not described`)
  }

  #query(cursor: Cursor, compressed: boolean): BinlogEvent {
    cursor.skip(8)
    const databaseBytes = cursor.u8()
    cursor.skip(2)
    cursor.skip(cursor.u16())
    const database = cursor.latin1(databaseBytes)
    cursor.skip(1)
    const text = compressed ? inflateText(cursor) : cursor.latin1(Math.min(cursor.remaining, statementBytesMax))
    const statement = classifyStatement(text, database, this.#schema)
    switch (statement.kind) {
      case 'begin':
        return begin
      case 'commit':
        return commit
      case 'dml':
        if (!statement.ours && this.#foreignStatements === 'skip') return skipped
        throw statementError(`a statement (${statement.keyword}, database ${database === '' ? 'none' : database})`)
      case 'destroys':
        throw new WhiteholeError(
          'log-unreadable',
          `the log holds a ${statement.keyword} of ${statement.table}: what that did to its rows is not in the log, ` +
            "so nodes can't go on across it; undo it, then rebuild the nodes from a log that begins later",
        )
      default:
        return statement
    }
  }
}

/** MariaDB's GTID flags: one statement follows, no COMMIT. */
const standaloneFlag = 1
const dummyTable = 0xffffff
/** TABLE_MAP and rows events: with other lengths (MySQL 5.1 betas) the table's number would have another size. */
const postHeaderLengths: readonly (readonly [number, number])[] = [
  [0, headerBytes],
  [eventType.tableMap, 8],
  [eventType.writeRowsV1, 8],
  [eventType.updateRowsV1, 8],
  [eventType.deleteRowsV1, 8],
  [eventType.writeRowsV2, 10],
  [eventType.updateRowsV2, 10],
  [eventType.deleteRowsV2, 10],
]

/** Only the first word and the database are told: a statement's text may hold secrets. */
function statementError(what: string): WhiteholeError {
  return new WhiteholeError(
    'log-unreadable',
    `the log holds ${what} as text, not the rows that it changed; what it or its triggers wrote for the nodes is not there: ` +
      'set binlog_format=ROW on every database and in every session, then rebuild the nodes from a log that begins later',
  )
}

function inflateText(cursor: Cursor): string {
  const lengthBytes = cursor.u8() & 0x0f
  cursor.skip(lengthBytes)
  // A prefix is enough, but zlib gives all or nothing: the server's largest packet bounds it.
  return inflateSync(cursor.rest(), { maxOutputLength: 2 ** 30 }).toString('latin1', 0, statementBytesMax)
}

function isZlibError(error: unknown): error is Error {
  return error instanceof Error && /^(?:Z_|ERR_BUFFER_TOO_LARGE)/.test(String((error as NodeJS.ErrnoException).code))
}
