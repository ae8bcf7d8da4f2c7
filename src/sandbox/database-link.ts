import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise'
import { severDatabaseConnection } from '../adapters/databases.ts'
import { parsePosition, type Position } from '../domain/position.ts'

/** What a database says of itself. */
export interface DatabaseView {
  readonly readOnly: boolean
  /** The end of its own log: with log_slave_updates all that it has, its relay log aside. */
  readonly position: Position
  readonly semiSyncPrimary: boolean
  /** Semi-synchronous standbys attached. */
  readonly semiSyncClients: number
  /** Connection ids of attached standbys: a new one is a reconnect. */
  readonly attached: readonly number[]
  readonly replica: ReplicaView | undefined
}

export interface ReplicaView {
  readonly primaryPort: number
  readonly ioRunning: boolean
  readonly connected: boolean
  readonly applying: boolean
  /** What it received. */
  readonly received: Position
  readonly error: string
}

const connectMilliseconds = 2000
const answerMilliseconds = 5000

/** Root's connection to one database of the sandbox, over its unix socket; made anew after a failure. */
export class DatabaseLink {
  readonly name: string
  readonly #socketPath: string
  #connection: Promise<Connection> | undefined

  constructor(name: string, socketPath: string) {
    this.name = name
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

  async view(): Promise<DatabaseView> {
    const [own] = await this.query<{ readOnly: number; position: string; semiSync: number }>(
      'SELECT @@read_only AS readOnly, @@gtid_binlog_pos AS position, @@rpl_semi_sync_master_enabled AS semiSync',
    )
    const [clients] = await this.query<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")
    // Not from information_schema.PROCESSLIST: that fills a temporary table on disk each time.
    const connections = await this.query<{ Id: number; User: string; Command: string }>('SHOW PROCESSLIST')
    const [replica] = await this.query<ReplicaRow>('SHOW SLAVE STATUS')
    if (own === undefined) throw new Error(`${this.name} gave no answer`)
    return {
      readOnly: own.readOnly === 1,
      position: parsePosition('mariadb', own.position),
      semiSyncPrimary: own.semiSync === 1,
      semiSyncClients: Number(clients?.Value ?? 0),
      attached: connections
        .filter(({ User, Command }) => User === replicationUser && Command === 'Binlog Dump')
        .map(({ Id }) => Id),
      replica: replica === undefined ? undefined : replicaView(replica),
    }
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

export const replicationUser = 'whitehole_replication'

interface ReplicaRow {
  readonly Master_Port: number
  readonly Slave_IO_Running: string
  readonly Slave_SQL_Running: string
  readonly Gtid_IO_Pos: string
  readonly Last_IO_Error: string
  readonly Last_SQL_Error: string
}

function replicaView(row: ReplicaRow): ReplicaView {
  return {
    primaryPort: row.Master_Port,
    ioRunning: row.Slave_IO_Running !== 'No',
    connected: row.Slave_IO_Running === 'Yes',
    applying: row.Slave_SQL_Running === 'Yes',
    received: parsePosition('mariadb', row.Gtid_IO_Pos),
    error: row.Last_SQL_Error || row.Last_IO_Error,
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
