import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise'
import { mariadbControl } from '../adapters/control-sql-mariadb.ts'
import { mysqlControl } from '../adapters/control-sql-mysql.ts'
import { askFacts, type ControlSql, type Row, type ServerFacts } from '../adapters/control-sql.ts'
import { severDatabaseConnection } from '../adapters/databases.ts'
import type { Dialect } from '../domain/position.ts'
import { replicationUser } from './process-specs.ts'

const connectMilliseconds = 2000
const answerMilliseconds = 5000

/** Root's connection to one database of the sandbox, over its unix socket; made anew after a failure. */
export class DatabaseLink {
  readonly name: string
  readonly #sql: ControlSql
  readonly #socketPath: string
  #connection: Promise<Connection> | undefined

  constructor({ name, dialect, socketPath }: { name: string; dialect: Dialect; socketPath: string }) {
    this.name = name
    this.#sql = dialect === 'mariadb' ? mariadbControl : mysqlControl
    this.#socketPath = socketPath
  }

  /** @throws where the database does not answer in time; then the connection is gone */
  async query<T = Record<string, unknown>>(
    sql: string,
    values: unknown[] = [],
    milliseconds = answerMilliseconds,
  ): Promise<T[]> {
    this.#connection ??= this.connect()
    const mine = this.#connection
    try {
      const connection = await mine
      const [rows] = await within(milliseconds, connection.query<RowDataPacket[]>(sql, values))
      return rows as unknown as T[]
    } catch (error) {
      if (!isSqlError(error)) this.#drop(mine)
      throw error
    }
  }

  /** A connection of the caller's own. */
  async connect(): Promise<Connection> {
    const connection = await createConnection({
      socketPath: this.#socketPath,
      user: 'root',
      multipleStatements: true,
      supportBigNumbers: true,
      connectTimeout: connectMilliseconds,
    })
    connection.on('error', () => {})
    return connection
  }

  /** What it says of itself; it waits for nobody who waits for a standby. */
  async view(): Promise<ServerFacts> {
    return askFacts(this.#sql, (sql) => this.query<Row[]>(sql), { replicationUser })
  }

  async makeWritable(): Promise<void> {
    await this.query(this.#sql.writable)
  }

  close(): void {
    if (this.#connection !== undefined) this.#drop(this.#connection)
  }

  #drop(connection: Promise<Connection>): void {
    if (this.#connection === connection) this.#connection = undefined
    connection.then(
      (open) => severDatabaseConnection(open),
      () => {},
    )
  }
}

/** An answer of the server: the connection is still good. */
function isSqlError(error: unknown): boolean {
  return (
    error instanceof Error && 'sqlState' in error && 'errno' in error && !('fatal' in error && error.fatal === true)
  )
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
