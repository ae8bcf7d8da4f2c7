import { type Connection, createConnection, type ConnectionOptions } from 'mysql2/promise'
import { DatabaseControlError } from '../domain/database-control.ts'
import { describeError } from '../domain/errors.ts'
import { closeDatabaseConnection, severDatabaseConnection } from './databases.ts'
import { readOnlyErrors } from './sql-errors.ts'

/** Asks one statement on a session; its deadline is the caller's. */
export type Ask = <T>(sql: string, values?: readonly unknown[]) => Promise<T[]>

/** A point of `performance.now()` by which an answer is due. */
export class Deadline {
  readonly at: number

  constructor(timeoutMilliseconds: number) {
    this.at = performance.now() + timeoutMilliseconds
  }

  get leftMilliseconds(): number {
    return Math.max(0, this.at - performance.now())
  }

  get over(): boolean {
    return this.leftMilliseconds === 0
  }
}

/** One SQL session of the monitor with a database. Every question has a deadline; after a late one the session is gone, for it may still be under way. */
export class ControlSession {
  readonly id: number
  readonly #connection: Connection
  #open = true

  private constructor(connection: Connection) {
    this.#connection = connection
    this.id = connection.threadId ?? 0
    connection.on('error', () => (this.#open = false))
    connection.on('end', () => (this.#open = false))
  }

  /** @throws what the driver throws, or DatabaseControlError `timed-out` */
  static async open(options: ConnectionOptions, deadline: Deadline): Promise<ControlSession> {
    // connectTimeout covers the handshake as well; 0 would mean none.
    const connectTimeout = Math.max(1, Math.ceil(deadline.leftMilliseconds))
    const connection = await createConnection({
      ...options,
      connectTimeout,
      multipleStatements: true,
      supportBigNumbers: true,
      enableKeepAlive: true,
      keepAliveInitialDelay: 5000,
    })
    return new ControlSession(connection)
  }

  get open(): boolean {
    return this.#open
  }

  /**
   * The rows of one statement, or of several a list each.
   * @throws DatabaseControlError `refused`, `read-only` (the session stays), `away`, `timed-out` (it is gone)
   */
  async ask<T>(sql: string, deadline: Deadline, values: readonly unknown[] = []): Promise<T[]> {
    if (!this.#open) throw new DatabaseControlError('away', 'the connection is lost')
    try {
      const [rows] = await inTime(this.#connection.query(sql, [...values]), deadline)
      return rows as T[]
    } catch (error) {
      const told = toldError(error)
      if (told.code === 'away' || told.code === 'timed-out') this.sever()
      throw told
    }
  }

  /**
   * Where the answer is late the statement is left waiting in the server (it would be given up within a second after its client has gone),
   * and the session is no more use for anything else. It is closed once the answer comes.
   * @returns whether the answer came in time
   */
  async askAndLeave(sql: string, deadline: Deadline): Promise<boolean> {
    if (!this.#open) throw new DatabaseControlError('away', 'the connection is lost')
    const work = this.#connection.query(sql)
    try {
      await inTime(work, deadline)
      return true
    } catch (error) {
      const told = toldError(error)
      if (told.code === 'away') this.sever()
      if (told.code !== 'timed-out') throw told
      this.#open = false
      const close = (): void => closeDatabaseConnection(this.#connection)
      work.then(close, close)
      return false
    }
  }

  asking(deadline: Deadline): Ask {
    return async <T>(sql: string, values?: readonly unknown[]) => this.ask<T>(sql, deadline, values)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    closeDatabaseConnection(this.#connection)
  }

  sever(): void {
    this.#open = false
    severDatabaseConnection(this.#connection)
  }
}

/** What went wrong in the port's words. */
export function toldError(error: unknown): DatabaseControlError {
  if (error instanceof DatabaseControlError) return error
  const text = describeError(error)
  const errno = sqlErrorNumber(error)
  if (errno === undefined) return new DatabaseControlError('away', text)
  return new DatabaseControlError(readOnlyErrors.has(errno) ? 'read-only' : 'refused', text, { cause: error })
}

/** The server's own number, where it is the server's answer and the connection is still good. */
export function sqlErrorNumber(error: unknown): number | undefined {
  const cause = error instanceof DatabaseControlError ? error.cause : error
  if (!(cause instanceof Error) || !('sqlState' in cause) || !('errno' in cause)) return undefined
  if ('fatal' in cause && cause.fatal === true) return undefined
  return typeof cause.errno === 'number' ? cause.errno : undefined
}

async function inTime<T>(work: Promise<T>, deadline: Deadline): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    const milliseconds = deadline.leftMilliseconds
    timer = setTimeout(
      () => reject(new DatabaseControlError('timed-out', `no answer within ${Math.round(milliseconds)} ms`)),
      milliseconds,
    )
  })
  // Whichever comes second must not be an unhandled rejection.
  work.catch(() => {})
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
