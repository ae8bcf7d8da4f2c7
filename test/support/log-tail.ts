import { once } from 'node:events'
import ZongJi, { type BinlogEvent } from '@vlasky/zongji'
import type { Database } from './databases.ts'
import { until } from './processes.ts'

export interface LoggedRow {
  readonly table: string
  readonly kind: 'insert' | 'update' | 'delete'
  /** After the change (of a delete: before). Numbers beyond 2^53 come as text. */
  readonly row: Record<string, unknown>
}

export interface LoggedTransaction {
  readonly gtid: string
  readonly rows: readonly LoggedRow[]
  /** Of our database's tables only rows are logged; whatever else stands here was logged as a statement. */
  readonly statements: readonly string[]
  readonly end: 'xid' | 'commit' | 'statement'
}

/** What a server's binlog says of database `memcached`, read by somebody else's decoder (zongji), not by ours. */
export class LogTail {
  readonly #database: Database
  readonly #zongji: ZongJi
  readonly #finished: LoggedTransaction[] = []
  #open: { gtid: string; rows: LoggedRow[]; statements: string[] } = { gtid: '', rows: [], statements: [] }
  #error: Error | undefined

  private constructor(database: Database, zongji: ZongJi) {
    this.#database = database
    this.#zongji = zongji
    zongji.on('error', (error: Error) => (this.#error = error))
    zongji.on('binlog', (event: BinlogEvent) => this.#take(event))
  }

  /** From now on. The schema must be there: tables are created before they are tailed. */
  static async start(database: Database, serverId: number): Promise<LogTail> {
    const zongji = new ZongJi({
      socketPath: database.socket,
      user: 'root',
      supportBigNumbers: true,
      bigNumberStrings: true,
    })
    const tail = new LogTail(database, zongji)
    zongji.start({
      serverId,
      startAtEnd: true,
      includeEvents: ['gtid', 'mariadbgtid', 'query', 'xid', 'tablemap', 'writerows', 'updaterows', 'deleterows'],
      includeSchema: { memcached: true },
    })
    await once(zongji, 'ready')
    await tail.transactions()
    return tail
  }

  stop(): void {
    this.#zongji.stop()
  }

  /** What was committed since it was last asked (or since the start), without other databases' transactions. */
  async transactions(): Promise<LoggedTransaction[]> {
    const mark = `mark-${nextMark++}`
    await this.#database.query('INSERT INTO memcached.mc_nodes (name) VALUES (?)', [mark])
    const isMark = ({ rows }: LoggedTransaction): boolean => rows.some(({ row }) => row['name'] === mark)
    await until(`the log to reach ${mark}`, () => {
      if (this.#error !== undefined) throw this.#error
      return this.#finished.some(isMark)
    })
    return this.#finished.splice(0).filter(({ rows, statements }) => {
      return !rows.some(({ row }) => String(row['name']).startsWith('mark-')) && rows.length + statements.length > 0
    })
  }

  #take(event: BinlogEvent): void {
    const name = event.getEventName()
    if (name === 'gtid' || name === 'mariadbgtid') {
      this.#open = { gtid: event.gtid ?? '', rows: [], statements: [] }
    } else if (name === 'xid') {
      this.#finished.push({ ...this.#open, end: 'xid' })
    } else if (name === 'query') {
      this.#takeQuery((event as BinlogEvent & { query: string }).query)
    } else if (name in kinds) {
      const { tableMap, tableId, rows } = event as RowsEvent
      const table = tableMap[String(tableId)]?.tableName ?? '?'
      const kind = kinds[name as keyof typeof kinds]
      for (const row of rows) {
        this.#open.rows.push({ table, kind, row: (kind === 'update' ? row['after'] : row) as Record<string, unknown> })
      }
    }
  }

  #takeQuery(query: string): void {
    if (query === 'BEGIN' || query.startsWith('SAVEPOINT')) return
    if (query === 'COMMIT') {
      this.#finished.push({ ...this.#open, end: 'commit' })
    } else {
      this.#finished.push({ ...this.#open, statements: [...this.#open.statements, query], end: 'statement' })
    }
  }
}

type RowsEvent = BinlogEvent & {
  tableMap: Record<string, { tableName: string }>
  tableId: number
  rows: Record<string, unknown>[]
}

const kinds = { writerows: 'insert', updaterows: 'update', deleterows: 'delete' } as const
let nextMark = 1
