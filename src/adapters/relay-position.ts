import type { Connection, RowDataPacket } from 'mysql2/promise'
import { parsePosition, type Position } from '../domain/position.ts'
import { closeDatabaseConnection, type DatabaseAddress, type Databases, severDatabaseConnection } from './databases.ts'

const answerMilliseconds = 2000

/**
 * What a filtered relay of MariaDB has executed, what it passed over included, and where its own log ended after that. (MySQL logs what it
 * passes over as an empty transaction: no position of its is unreachable.)
 */
export class RelayPosition {
  readonly #databases: Databases
  readonly #address: DatabaseAddress
  #connection: Promise<Connection> | undefined

  constructor(databases: Databases, address: DatabaseAddress) {
    this.#databases = databases
    this.#address = address
  }

  /** In this order: a transaction is in a replica's log before it counts as executed. */
  async ask(): Promise<{ readonly executed: Position; readonly logged: Position }> {
    const opening = (this.#connection ??= this.#databases.connect(this.#address, { database: '' }))
    try {
      const connection = await opening
      const executed = await position(connection, 'SELECT @@global.gtid_slave_pos AS position')
      const logged = await position(connection, 'SELECT @@global.gtid_binlog_pos AS position')
      return { executed, logged }
    } catch (error) {
      if (this.#connection === opening) this.#connection = undefined
      opening.then(severDatabaseConnection, () => {})
      throw error
    }
  }

  close(): void {
    this.#connection?.then(closeDatabaseConnection, () => {})
    this.#connection = undefined
  }
}

async function position(connection: Connection, sql: string): Promise<Position> {
  const [[row]] = await connection.query<RowDataPacket[]>({ sql, timeout: answerMilliseconds })
  return parsePosition('mariadb', String(row?.['position'] ?? ''))
}
