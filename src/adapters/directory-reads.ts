import type { Connection } from 'mysql2/promise'
import type { DirectoryReads } from '../domain/directory-reads.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { Key } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import { advance, type Dialect, parsePosition, type Position } from '../domain/position.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'
import { closeDatabaseConnection, type Databases, severDatabaseConnection } from './databases.ts'

export interface SqlDirectoryReadsOptions {
  readonly databases: Databases
  readonly log: FollowedLog
  /** For the answer, and once more for the log to reach it. */
  readonly timeoutMilliseconds: number
}

type Versions = readonly (Version | undefined)[]
type Figures = Awaited<ReturnType<DirectoryReads['figures']>>

interface Question {
  readonly namespaceId: NamespaceId
  readonly keys: readonly Key[]
  /** By `performance.now()`: asked again so long while its rows are being changed. */
  readonly changingUntil: number
  readonly resolve: (versions: Versions) => void
  readonly reject: (error: Error) => void
}

const figuresAgeMilliseconds = 5000
/** Of keys in one packet; more wait for the next. */
const keysMax = 1000
const waitingKeysMax = 100_000
/** How long rows that are being changed are asked for again, and how often. */
const changingMilliseconds = 200
const againMilliseconds = 5

/**
 * The directory on the primary, over one connection for versions and one for figures (which count rows, and may take their time).
 * All questions for versions that wait share a packet: first the versions, then the position (races.md R23).
 *
 * A client's write may be acknowledged, out of the followed log, a moment before the primary's InnoDB shows it: the binlog is
 * written (and in a pair sent to the standby) first. The client's next question would find the row as it was. So rows are
 * read twice, as committed and as they are being changed; where the two differ, it is asked again a moment later. A difference that
 * stays is somebody's open transaction: then the committed row is the answer.
 */
export class SqlDirectoryReads implements DirectoryReads {
  readonly #options: SqlDirectoryReadsOptions
  readonly #versions: PrimaryConnection
  readonly #figures: PrimaryConnection
  #waiting: Question[] = []
  #waitingKeys = 0
  #asking = false
  #closed = false
  readonly #figuresCache = new Map<NamespaceId, { figures: Promise<Figures>; until: number }>()

  constructor(options: SqlDirectoryReadsOptions) {
    this.#options = options
    this.#versions = new PrimaryConnection(options)
    this.#figures = new PrimaryConnection(options)
  }

  async versions(namespaceId: NamespaceId, keys: readonly Key[]): Promise<Versions> {
    if (this.#closed) throw new WhiteholeError('database-away', 'the node is stopping')
    if (keys.length === 0) return []
    if (this.#waitingKeys + keys.length > waitingKeysMax) {
      throw new WhiteholeError('database-away', `${this.#waitingKeys} keys wait for the directory already`)
    }
    return new Promise((resolve, reject) => {
      const changingUntil = performance.now() + changingMilliseconds
      this.#enqueue({ namespaceId, keys, changingUntil, resolve, reject })
    })
  }

  async figures(namespaceId: NamespaceId): Promise<Figures> {
    const now = performance.now()
    const cached = this.#figuresCache.get(namespaceId)
    if (cached !== undefined && cached.until > now) return cached.figures
    for (const [id, { until }] of this.#figuresCache) if (until <= now) this.#figuresCache.delete(id)
    const figures = this.#askFigures(namespaceId)
    this.#figuresCache.set(namespaceId, { figures, until: now + figuresAgeMilliseconds })
    // A failure is not worth remembering.
    figures.catch(() => this.#figuresCache.delete(namespaceId))
    return figures
  }

  close(): void {
    this.#closed = true
    this.#versions.close()
    this.#figures.close()
    for (const { reject } of this.#waiting) reject(new WhiteholeError('database-away', 'the node is stopping'))
    this.#waiting = []
  }

  async #askAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const questions = this.#take()
      try {
        const answer = await this.#askVersions(questions)
        const changing = questions.filter((question) => isChanging(question, answer))
        const isSettled = (question: Question): boolean => !changing.includes(question)
        // The next packet needs not wait for the log to reach this one's position.
        void this.#answer(questions.filter(isSettled), answer)
        if (changing.length > 0) setTimeout(() => this.#askAgain(changing), againMilliseconds)
      } catch (error) {
        for (const { reject } of questions) reject(away(error))
      }
    }
    this.#asking = false
  }

  #askAgain(questions: readonly Question[]): void {
    if (this.#closed) {
      for (const { reject } of questions) reject(new WhiteholeError('database-away', 'the node is stopping'))
      return
    }
    for (const question of questions) this.#enqueue(question)
  }

  #enqueue(question: Question): void {
    this.#waiting.push(question)
    this.#waitingKeys += question.keys.length
    if (this.#asking) return
    this.#asking = true
    // What comes in the same turn of the event loop shares the packet.
    setImmediate(() => void this.#askAll())
  }

  #take(): Question[] {
    const taken: Question[] = []
    let keys = 0
    for (const question of this.#waiting) {
      if (taken.length > 0 && keys + question.keys.length > keysMax) break
      taken.push(question)
      keys += question.keys.length
    }
    this.#waiting = this.#waiting.slice(taken.length)
    this.#waitingKeys -= keys
    return taken
  }

  async #answer(questions: readonly Question[], { found, position }: Answer): Promise<void> {
    if (questions.length === 0) return
    try {
      await this.#options.log.whenReached(position, this.#options.timeoutMilliseconds)
      for (const { namespaceId, keys, resolve } of questions) {
        resolve(keys.map((key) => found.get(`${namespaceId}:${key}`)))
      }
    } catch (error) {
      for (const { reject } of questions) reject(away(error))
    }
  }

  async #askVersions(questions: readonly Question[]): Promise<Answer> {
    const wanted = new Map<string, string>()
    for (const { namespaceId, keys } of questions) {
      for (const key of keys) wanted.set(`${namespaceId}:${key}`, `${namespaceId},X'${hex(key)}'`)
    }
    const { rows, dialect } = await this.#versions.ask((dialectNow) =>
      versionsAndPosition(dialectNow, [...wanted.values()]),
    )
    const [committed = [], , dirty = [], , ...positions] = rows
    return {
      found: readVersions(committed),
      dirty: readVersions(dirty),
      position: readPosition(
        dialect,
        positions.map((row) => String(row[0]?.[0] ?? '')),
      ),
    }
  }

  async #askFigures(namespaceId: NamespaceId): Promise<Figures> {
    try {
      const { rows } = await this.#figures.ask(() => figuresOf(namespaceId))
      const [keys, bytes] = rows[0]?.[0] ?? []
      return { keys: Number(keys ?? 0), bytes: Number(bytes ?? 0) }
    } catch (error) {
      throw away(error)
    }
  }
}

interface Answer {
  readonly found: ReadonlyMap<string, Version>
  /** With what open transactions have changed. */
  readonly dirty: ReadonlyMap<string, Version>
  readonly position: Position
}

function isChanging({ namespaceId, keys, changingUntil }: Question, { found, dirty }: Answer): boolean {
  if (performance.now() > changingUntil) return false
  return keys.some((key) => found.get(`${namespaceId}:${key}`) !== dirty.get(`${namespaceId}:${key}`))
}

function readVersions(rows: readonly Row[]): Map<string, Version> {
  const found = new Map<string, Version>()
  for (const [id, key, version] of rows) {
    found.set(`${Number(id)}:${(key as Buffer).toString('latin1')}`, versionFromNumber(BigInt(version as string)))
  }
  return found
}

/**
 * MariaDB's position includes a transaction before InnoDB shows its rows. MySQL's does a moment after that (the whole group has
 * committed first), so what is on its way to being executed is counted in; asked for first, it can't slip through between.
 */
function readPosition(dialect: Dialect, texts: readonly string[]): Position {
  const [owned = '', executed = ''] = dialect === 'mysql' ? texts : ['', ...texts]
  let position = parsePosition(dialect, executed)
  // `uuid:sequence#thread:sequence#thread,uuid:…`
  for (const [, source = '', owners = ''] of owned.matchAll(/([0-9a-fA-F-]{36})((?::\d+(?:#\d+)+)+)/g)) {
    for (const [, sequence] of owners.matchAll(/:(\d+)#/g)) {
      position = advance(position, { dialect: 'mysql', source: source.toLowerCase(), sequence: Number(sequence) })
    }
  }
  return position
}

type Row = readonly (string | number | Buffer | null)[]

const live =
  'directory.version >> 33 = namespace.generation AND (directory.expire = 0 OR directory.expire > UNIX_TIMESTAMP())'

/** One look-up a key, whatever the statistics say (as the writer's: writer/statements.ts). */
function versionsAndPosition(dialect: Dialect, wanted: readonly string[]): string {
  const rows = wanted.map((pair) => (dialect === 'mariadb' ? `(${pair})` : `ROW(${pair})`)).join(',')
  const list =
    dialect === 'mariadb'
      ? `(WITH given (i, k) AS (VALUES ${rows}) SELECT i, k FROM given) wanted`
      : `(VALUES ${rows}) wanted (i, k)`
  const position =
    dialect === 'mariadb'
      ? 'SELECT @@global.gtid_binlog_pos'
      : 'SELECT @@global.gtid_owned;SELECT @@global.gtid_executed'
  const versions =
    `SELECT directory.ns_id, directory.mc_key, directory.version FROM ${list} ` +
    'STRAIGHT_JOIN mc_stored_keys directory FORCE INDEX (PRIMARY) ' +
    'ON directory.ns_id = wanted.i AND directory.mc_key = wanted.k ' +
    `STRAIGHT_JOIN mc_namespaces namespace ON namespace.ns_id = directory.ns_id WHERE ${live}`
  const level = (name: string): string => `SET SESSION TRANSACTION ISOLATION LEVEL READ ${name}`
  return [versions, level('UNCOMMITTED'), versions, level('COMMITTED'), position].join(';')
}

function figuresOf(namespaceId: NamespaceId): string {
  return (
    'SELECT COUNT(*), COALESCE(SUM(directory.size), 0) FROM mc_namespaces namespace ' +
    'STRAIGHT_JOIN mc_stored_keys directory ON directory.ns_id = namespace.ns_id ' +
    `WHERE namespace.ns_id = ${namespaceId} AND ${live}`
  )
}

function hex(key: Key): string {
  return Buffer.from(key, 'latin1').toString('hex')
}

function away(error: unknown): WhiteholeError {
  if (error instanceof WhiteholeError && error.code === 'database-away') return error
  return new WhiteholeError('database-away', `the directory gave no answer: ${describeError(error)}`, { cause: error })
}

/** A connection to whichever database is the primary, made when it is needed and after each failure anew. */
class PrimaryConnection {
  readonly #databases: Databases
  readonly #timeoutMilliseconds: number
  #open: Promise<{ connection: Connection; dialect: Dialect }> | undefined
  #closed = false

  constructor({ databases, timeoutMilliseconds }: SqlDirectoryReadsOptions) {
    this.#databases = databases
    this.#timeoutMilliseconds = timeoutMilliseconds
  }

  /** @returns the rows of each statement */
  async ask(sql: (dialect: Dialect) => string): Promise<{ rows: readonly Row[][]; dialect: Dialect }> {
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

  async #query(connection: Connection, sql: string): Promise<Row[][]> {
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
      return (several ? results : [results]) as unknown as Row[][]
    } finally {
      clearTimeout(timer)
    }
  }
}
