import type { DirectoryReads } from '../domain/directory-reads.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { Key } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Dialect, Position } from '../domain/position.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'
import type { Databases } from './databases.ts'
import { PrimaryConnection } from './primary-connection.ts'
import { positionStatements, serverPosition } from './server-position.ts'

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
  readonly resolve: (versions: Versions) => void
  readonly reject: (error: Error) => void
  /** Times that a row was found in the midst of a change. */
  unsettled: number
}

interface Answer {
  readonly found: ReadonlyMap<string, Version>
  /** Keys whose rows somebody is changing. */
  readonly changing: ReadonlySet<string>
  readonly position: Position
}

const figuresAgeMilliseconds = 5000
/** Of keys in one packet; more wait for the next. */
const keysMax = 1000
const waitingKeysMax = 100_000
/** 1, 2, 4 … milliseconds between them: a commit takes less, somebody's long transaction is not waited for. */
const unsettledMax = 6

/**
 * The directory on the primary, over one connection for versions and one for figures (which count rows, and may take their time).
 * All questions for versions that wait share a packet: first the versions, then the position (races.md R23).
 *
 * A write is acknowledged by the log, which has it a moment before the primary's other sessions see it. A client that asked then
 * would get the version before its own write, or none. So the rows are read once more, dirty: where that shows another version, a
 * transaction is in the midst of its commit, or has long been open, and the question is asked again for a short while.
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
    return new Promise((resolve, reject) => this.#ask({ namespaceId, keys, resolve, reject, unsettled: 0 }))
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

  #ask(question: Question): void {
    if (this.#closed) {
      question.reject(new WhiteholeError('database-away', 'the node is stopping'))
      return
    }
    this.#waiting.push(question)
    this.#waitingKeys += question.keys.length
    if (this.#asking) return
    this.#asking = true
    // What comes in the same turn of the event loop shares the packet.
    setImmediate(() => void this.#askAll())
  }

  async #askAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const questions = this.#take()
      try {
        const answer = await this.#askVersions(questions)
        // The next packet needs not wait for the log to reach this one's position.
        void this.#answer(this.#settled(questions, answer), answer)
      } catch (error) {
        for (const { reject } of questions) reject(away(error))
      }
    }
    this.#asking = false
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

  /** The others are asked again. */
  #settled(questions: readonly Question[], { changing }: Answer): readonly Question[] {
    if (changing.size === 0) return questions
    return questions.filter((question) => {
      const { namespaceId, keys } = question
      const settled = !keys.some((key) => changing.has(`${namespaceId}:${key}`))
      if (settled || question.unsettled >= unsettledMax) return true
      setTimeout(() => this.#ask(question), 2 ** question.unsettled++)
      return false
    })
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
    const [committed = [], , dirty = [], ...positions] = rows
    const found = new Map<string, Version>()
    const seen = new Map<string, string>()
    for (const [id, key, version, isLive] of committed) {
      const name = nameOf(Number(id), key as Buffer)
      seen.set(name, String(version))
      if (Number(isLive) === 1) found.set(name, versionFromNumber(BigInt(version as string)))
    }
    const changing = new Set<string>()
    for (const [id, key, version] of dirty) {
      const name = nameOf(Number(id), key as Buffer)
      if (seen.get(name) !== String(version)) changing.add(name)
    }
    const texts = positions.map((answer) => String(answer[0]?.[0] ?? ''))
    return { found, changing, position: serverPosition(dialect, texts) }
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

const live =
  'directory.version >> 33 = namespace.generation AND (directory.expire = 0 OR directory.expire > UNIX_TIMESTAMP())'

/** One look-up a key, whatever the statistics say (as the writer's: writer/statements.ts). */
function versionsAndPosition(dialect: Dialect, wanted: readonly string[]): string {
  const rows = wanted.map((pair) => (dialect === 'mariadb' ? `(${pair})` : `ROW(${pair})`)).join(',')
  const list =
    dialect === 'mariadb'
      ? `(WITH given (i, k) AS (VALUES ${rows}) SELECT i, k FROM given) wanted`
      : `(VALUES ${rows}) wanted (i, k)`
  const row = 'directory.ns_id, directory.mc_key, directory.version'
  const from =
    `FROM ${list} STRAIGHT_JOIN mc_stored_keys directory FORCE INDEX (PRIMARY) ` +
    'ON directory.ns_id = wanted.i AND directory.mc_key = wanted.k'
  return [
    `SELECT ${row}, ${live} ${from} STRAIGHT_JOIN mc_namespaces namespace ON namespace.ns_id = directory.ns_id`,
    // Holds for one transaction: the next statement.
    'SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED',
    `SELECT ${row} ${from}`,
    ...positionStatements(dialect),
  ].join(';')
}

function figuresOf(namespaceId: NamespaceId): string {
  return (
    'SELECT COUNT(*), COALESCE(SUM(directory.size), 0) FROM mc_namespaces namespace ' +
    'STRAIGHT_JOIN mc_stored_keys directory ON directory.ns_id = namespace.ns_id ' +
    `WHERE namespace.ns_id = ${namespaceId} AND ${live}`
  )
}

function nameOf(namespaceId: NamespaceId, key: Buffer): string {
  return `${namespaceId}:${key.toString('latin1')}`
}

function hex(key: Key): string {
  return Buffer.from(key, 'latin1').toString('hex')
}

function away(error: unknown): WhiteholeError {
  if (error instanceof WhiteholeError && error.code === 'database-away') return error
  return new WhiteholeError('database-away', `the directory gave no answer: ${describeError(error)}`, { cause: error })
}
