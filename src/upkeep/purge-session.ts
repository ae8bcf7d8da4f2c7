import type { Connection } from 'mysql2/promise'
import { type Databases, severDatabaseConnection, closeDatabaseConnection } from '../adapters/databases.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Dialect } from '../domain/position.ts'
import { versionLowBits } from '../domain/version.ts'
import { failpoint } from '../runtime/failpoints.ts'

/** Why a row is dead. */
export type DeathCause = 'deleted' | 'expired' | 'flushed' | 'dropped'

export interface PurgedChunk {
  /** Rows looked at. */
  readonly seen: number
  /** The last of them, in hexadecimal; undefined at the namespace's end. */
  readonly last: string | undefined
  readonly purged: Readonly<Record<DeathCause, number>>
}

export const purgeLockName = 'whitehole_purge'

/** A holder that stands still is thrown out by the server after so long, and another is elected. */
const waitTimeoutSeconds = 30

/**
 * A connection to the primary that holds the purge's lock: one node at a time. Should two ever purge (a primary that was cut off and the
 * new one), nothing goes wrong: each row is judged under its own lock.
 */
export class PurgeSession {
  readonly #connection: Connection
  readonly #dialect: Dialect
  readonly #graceSeconds: number
  readonly #pings: NodeJS.Timeout

  private constructor(connection: Connection, dialect: Dialect, graceSeconds: number) {
    this.#connection = connection
    this.#dialect = dialect
    this.#graceSeconds = graceSeconds
    this.#pings = setInterval(() => void this.#query('SELECT 1').catch(() => {}), pingMilliseconds).unref()
  }

  /** Undefined where another node holds the lock. @throws WhiteholeError `database-away` */
  static async open(databases: Databases, graceSeconds: number): Promise<PurgeSession | undefined> {
    const { address, dialect } = await databases.findPrimary()
    const connection = await databases.connect(address, { bigNumberStrings: true })
    const session = new PurgeSession(connection, dialect, graceSeconds)
    try {
      // READ COMMITTED: no gap is locked. A short lock wait: whoever has a row is not waited for.
      await session.#query(
        `SET SESSION wait_timeout=${waitTimeoutSeconds}, innodb_lock_wait_timeout=1, lock_wait_timeout=2;` +
          'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
      )
      const [[row] = []] = await session.#query(`SELECT GET_LOCK('${purgeLockName}', 0)`)
      if (Number(row?.[0]) === 1) return session
      session.close()
      return undefined
    } catch (error) {
      session.sever()
      throw error
    }
  }

  /** @throws Error where this database is no primary any more: the lock must go to one that is */
  async namespacesWithRows(): Promise<NamespaceId[]> {
    const [[writable] = []] = await this.#query('SELECT @@global.read_only = 0')
    if (Number(writable?.[0]) !== 1) throw new Error('the database became read-only')
    const ids: NamespaceId[] = []
    for (;;) {
      // From one namespace to the next by the index, however many rows each has.
      const after = ids.at(-1) ?? -(2 ** 31)
      const [[row] = []] = await this.#query(`SELECT MIN(ns_id) FROM mc_stored_keys WHERE ns_id > ${after}`)
      if (row?.[0] === null || row?.[0] === undefined) return ids
      ids.push(Number(row[0]))
    }
  }

  /** Looks at the next `limit` rows behind `after` (without locks), and deletes the dead among them in one transaction. */
  async chunk(id: NamespaceId, after: string, limit: number): Promise<PurgedChunk> {
    const cause = await this.#cause(id)
    const [rows = []] = await this.#query(
      `SELECT HEX(mc_key), ${cause} FROM mc_stored_keys ` +
        `WHERE ns_id = ${id} AND mc_key > X'${after}' ORDER BY mc_key LIMIT ${limit}`,
    )
    const dead = rows.flatMap(([key, why]) => (why === null ? [] : [String(key)]))
    const purged = dead.length === 0 ? none : await this.#delete(id, dead, cause)
    return { seen: rows.length, last: rows.length < limit ? undefined : String(rows.at(-1)?.[0]), purged }
  }

  close(): void {
    clearInterval(this.#pings)
    closeDatabaseConnection(this.#connection)
  }

  sever(): void {
    clearInterval(this.#pings)
    severDatabaseConnection(this.#connection)
  }

  /**
   * Two round trips: what is dead is judged again under the rows' locks, and rows that somebody holds are skipped; then they
   * are deleted, each by its primary key, and the transaction ends.
   */
  async #delete(id: NamespaceId, keys: readonly string[], cause: string): Promise<PurgedChunk['purged']> {
    const list = keys.map((key) => (this.#dialect === 'mariadb' ? `(X'${key}')` : `ROW(X'${key}')`)).join(',')
    const wanted =
      this.#dialect === 'mariadb'
        ? `(WITH given (k) AS (VALUES ${list}) SELECT k FROM given) wanted`
        : `(VALUES ${list}) wanted (k)`
    const lock = this.#dialect === 'mariadb' ? 'FOR UPDATE SKIP LOCKED' : 'FOR UPDATE OF directory SKIP LOCKED'
    const [, locked = []] = await this.#query(
      'START TRANSACTION;' +
        `SELECT HEX(mc_key), ${cause} FROM ${wanted} STRAIGHT_JOIN mc_stored_keys directory FORCE INDEX (PRIMARY) ` +
        `ON directory.ns_id = ${id} AND directory.mc_key = wanted.k ${lock}`,
    )
    const purged = { ...none }
    const deletions: string[] = []
    for (const [key, why] of locked) {
      if (why === null) continue
      purged[String(why) as DeathCause]++
      deletions.push(`DELETE FROM mc_stored_keys WHERE ns_id = ${id} AND mc_key = X'${String(key)}'`)
    }
    if (deletions.length === 0) {
      await this.#query('ROLLBACK')
      return purged
    }
    await this.#query(deletions.join(';'))
    failpoint('mid-purge')
    await this.#query('COMMIT')
    return purged
  }

  /**
   * SQL that gives NULL of a live row. `created` of a deleted row is the time of its death. What is read here may be older than the row's
   * lock, and it is right all the same: a generation only grows, and where the namespace was not there, one that takes its id
   * later draws a generation above the counter. So such a row needs no time of grace either.
   */
  async #cause(id: NamespaceId): Promise<string> {
    const [[row] = []] = await this.#query(
      `SELECT (SELECT generation FROM mc_namespaces WHERE ns_id = ${id}), ` +
        "(SELECT value FROM mc_meta WHERE name = 'generation')",
    )
    const generation = row?.[0] ?? null
    const ended =
      generation === null
        ? `version >> ${versionLowBits} <= ${Number(row?.[1])} THEN 'dropped'`
        : `version >> ${versionLowBits} < ${Number(generation)} THEN 'flushed'`
    const past = `UNIX_TIMESTAMP() - ${this.#graceSeconds}`
    return (
      `CASE WHEN ${ended} WHEN UNIX_TIMESTAMP(created) >= ${past} THEN NULL ` +
      `WHEN expire = 1 THEN 'deleted' WHEN expire > 1 AND expire < ${past} THEN 'expired' END`
    )
  }

  async #query(sql: string): Promise<Row[][]> {
    const [results] = await this.#connection.query({ sql, rowsAsArray: true, timeout: queryMilliseconds })
    return (sql.includes(';') ? results : [results]) as unknown as Row[][]
  }
}

type Row = readonly (string | number | null)[]

const none: Record<DeathCause, number> = { deleted: 0, expired: 0, flushed: 0, dropped: 0 }
const queryMilliseconds = 10_000
const pingMilliseconds = 10_000
