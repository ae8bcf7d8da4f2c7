import type { Connection } from 'mysql2/promise'
import { WhiteholeError } from '../domain/errors.ts'
import type { Dialect } from '../domain/position.ts'
import { closeDatabaseConnection, type Databases, severDatabaseConnection } from './databases.ts'

export type SqlRow = readonly (string | number | Buffer | null)[]

/** A connection to whichever database is the primary, made when it is needed and after each failure anew. */
export class PrimaryConnection {
  readonly #databases: Databases
  readonly #timeoutMilliseconds: number
  #open: Promise<{ connection: Connection; dialect: Dialect }> | undefined
  #closed = false

  constructor({ databases, timeoutMilliseconds }: { databases: Databases; timeoutMilliseconds: number }) {
    this.#databases = databases
    this.#timeoutMilliseconds = timeoutMilliseconds
  }

  /** @returns the rows of each statement */
  async ask(sql: (dialect: Dialect) => string): Promise<{ rows: readonly SqlRow[][]; dialect: Dialect }> {
    if (this.#closed) throw new WhiteholeError('database-away', 'the node is stopping')
    const opening = (this.#open ??= this.#connect())
    try {
      const { connection, dialect } = await opening
      const results = await this.#query(connection, sql(dialect))
      return { rows: results, dialect }
    } catch (error) {
      // Also after an error of the server: it may have become read-only or lost its schema, so look for the primary again.
      if (this.#open === opening) this.#open = undefined
      opening.then(({ connection }) => severDatabaseConnection(connection)).catch(() => {})
      throw error
    }
  }

  close(): void {
    this.#closed = true
    this.#open?.then(({ connection }) => closeDatabaseConnection(connection)).catch(() => {})
    this.#open = undefined
  }

  async #connect(): Promise<{ connection: Connection; dialect: Dialect }> {
    const { address, dialect } = await this.#databases.findPrimary()
    const connection = await this.#databases.connect(address, { supportBigNumbers: true, bigNumberStrings: true })
    const opened = this.#open
    connection.on('end', () => {
      if (this.#open === opened) this.#open = undefined
    })
    await this.#query(connection, 'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED')
    return { connection, dialect }
  }

  async #query(connection: Connection, sql: string): Promise<SqlRow[][]> {
    let timer: NodeJS.Timeout | undefined
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        // mysql2 keeps the promise of a severed connection's question open.
        severDatabaseConnection(connection)
        reject(new WhiteholeError('database-away', 'the database did not answer in time'))
      }, this.#timeoutMilliseconds)
    })
    try {
      const [results] = await Promise.race([connection.query({ sql, rowsAsArray: true }), tooLate])
      const several = sql.includes(';')
      return (several ? results : [results]) as unknown as SqlRow[][]
    } finally {
      clearTimeout(timer)
    }
  }
}
