import type { Connection, ResultSetHeader } from 'mysql2/promise'
import {
  closeDatabaseConnection,
  type DatabaseAddress,
  type Databases,
  formatDatabaseAddress,
  severDatabaseConnection,
} from '../adapters/databases.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { type Key, keyFromBytes } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Dialect } from '../domain/position.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'
import type { Assumed } from './assumptions.ts'
import type { BatchKey, Decision, DirectoryRow, Facts, NamespaceRow } from './decision.ts'
import {
  bump,
  canRefuseToWait,
  endThread,
  flushAndCommit,
  type FlushChange,
  type KeysByNamespace,
  type LanePlace,
  lockAndRead,
  readDirty,
  lockNamespace,
  sessionSettings,
  type Unlocked,
  type Wanted,
  writeAndCommit,
  writeAtOnce,
} from './statements.ts'

/** Where a lane gets its sessions; a simulation has its own. */
export interface LaneDatabase {
  /**
   * A session on the database that is the primary now.
   * @param formers the lane's earlier ones, which may still hold the lane's row: their end is tried first
   */
  open(formers: readonly Thread[]): Promise<LaneSession>
}

/** What a lane asks of its SQL session. Each question is bounded in time: a session that doesn't answer is severed. */
export interface LaneSession {
  readonly thread: Thread
  /** The largest packet that the server takes. */
  readonly packetBytesMax: number
  /** Whether a statement of it can fail at once where a row is locked, instead of waiting a second at least. Only then `writeAtOnce`. */
  readonly canRefuseToWait: boolean
  /** Called once when the session is lost while nothing is asked on it. */
  onLost: (() => void) | undefined
  setIncarnation(lane: string, incarnation: number): Promise<void>
  /**
   * Opens the transaction.
   * @param wanted all namespaces of the batch, and the keys whose rows are locked and read
   * @throws LaneTakenError
   */
  lockKeys(place: LanePlace, wanted: Wanted): Promise<Locked>
  /** @param unlocked where the upsert changes rows that the transaction has not locked yet; only where the session can refuse to wait */
  write(decision: Decision, unlocked: Unlocked | undefined): Promise<void>
  /**
   * A whole transaction, of nothing but upserts of rows that it has not locked.
   * @returns the primary's clock as the transaction began, in seconds
   * @throws where something of `assumed` is not so, or the lane's row stands elsewhere (`isWrongAssumption`)
   */
  writeAtOnce(place: LanePlace, assumed: Assumed, decision: Decision): Promise<number>
  /** Opens the transaction. @throws LaneTakenError */
  lockNamespace(place: LanePlace, id: NamespaceId): Promise<LockedNamespace>
  flush(id: NamespaceId, change: FlushChange): Promise<void>
  rollback(): Promise<void>
  ping(): Promise<void>
  /** With a farewell. */
  close(): void
  /** At once: what was asked may still be executed. */
  sever(): void
}

/** Names a session on its server, so that a later one can end it. */
export interface Thread {
  readonly id: number
  readonly serverId: number
  /** Unix seconds, within a second or so: thread ids begin anew with each start of the server. */
  readonly serverStartSeconds: number
}

export interface Locked extends Omit<Facts, 'unread'> {
  /** Held by somebody's open transaction. */
  readonly contendedKeys: ReadonlySet<string>
  readonly contendedNamespaces: ReadonlySet<NamespaceId>
}

export interface LockedNamespace {
  readonly nowSeconds: number
  /** Undefined: there is no such namespace. */
  readonly flushDue: number | undefined
}

/** The lane's row stands elsewhere: somebody else has set it, or a statement of a former session came late. */
export class LaneTakenError extends Error {
  constructor(place: LanePlace) {
    super(`the lane ${place.lane} is not at ${place.incarnation}, ${place.sequence}`)
    this.name = 'LaneTakenError'
  }
}

/** Lanes of the real databases. */
export class LaneDatabases implements LaneDatabase {
  readonly #databases: Databases
  readonly #timeoutMilliseconds: number
  #sessions: readonly { readonly address: string; readonly asking: Asking }[] = []

  constructor(databases: Databases, timeoutMilliseconds: number) {
    this.#databases = databases
    this.#timeoutMilliseconds = timeoutMilliseconds
  }

  /**
   * Another database is known to be the primary: sessions elsewhere are given up at once, instead of waiting until what was asked there
   * is overdue (a machine that is cut off or stopped refuses nothing).
   */
  leaveAllBut(address: DatabaseAddress): void {
    const keep = formatDatabaseAddress(address)
    for (const session of this.#sessions) if (session.address !== keep) session.asking.lose()
  }

  async open(formers: readonly Thread[]): Promise<LaneSession> {
    const { address, dialect } = await this.#databases.findPrimary()
    const connection = await this.#databases.connect(address, {
      supportBigNumbers: true,
      bigNumberStrings: true,
      rowsAsArray: true,
      // The text is complete: mysql2 need not look for placeholders in megabytes of it.
      queryFormat: (sql: string) => sql,
      // Nor keep a stack trace for each question.
      trace: false,
    })
    const asking = new Asking(connection, this.#timeoutMilliseconds)
    const open = this.#sessions.filter((session) => !session.asking.lost)
    this.#sessions = [...open, { address: formatDatabaseAddress(address), asking }]
    try {
      const results = await asking.ask(sessionSettings())
      const session = new SqlLaneSession(asking, dialect, results)
      for (const former of formers) {
        if (isSameServer(former, session.thread)) await endFormer(asking, dialect, former)
      }
      return session
    } catch (error) {
      asking.sever()
      throw error
    }
  }
}

/** It may be gone already, or belong to nobody of ours: then there is nothing to end. */
async function endFormer(asking: Asking, dialect: Dialect, former: Thread): Promise<void> {
  try {
    await asking.ask(endThread(dialect, former.id))
  } catch (error) {
    if (asking.lost) throw error
  }
}

function isSameServer(a: Thread, b: Thread): boolean {
  return a.serverId === b.serverId && Math.abs(a.serverStartSeconds - b.serverStartSeconds) <= 2
}

type Row = readonly (string | number | Buffer | null)[]
type Results = readonly (ResultSetHeader | Row[])[]

/** One question at a time on a connection, each with a time limit. */
class Asking {
  readonly connection: Connection
  readonly #timeoutMilliseconds: number
  #fail: ((error: Error) => void) | undefined
  #lost = false
  onLost: (() => void) | undefined

  constructor(connection: Connection, timeoutMilliseconds: number) {
    this.connection = connection
    this.#timeoutMilliseconds = timeoutMilliseconds
    const lose = (): void => {
      this.#lost = true
      this.onLost?.()
    }
    connection.on('error', lose)
    connection.on('end', lose)
  }

  get lost(): boolean {
    return this.#lost
  }

  async ask(sql: string): Promise<Results> {
    return new Promise<Results>((resolve, reject) => {
      const timer = setTimeout(() => this.sever(), this.#timeoutMilliseconds)
      const finish = (): void => {
        clearTimeout(timer)
        this.#fail = undefined
      }
      this.#fail = (error) => {
        finish()
        reject(error)
      }
      this.connection.query({ sql, rowsAsArray: true }).then(
        ([results]) => {
          finish()
          // A single statement's result stands alone.
          const several = Array.isArray(results) && isResult(results[0])
          resolve((several ? results : [results]) as unknown as Results)
        },
        (error: unknown) => {
          finish()
          reject(error)
        },
      )
    })
  }

  /** Severed from outside: its owner is told, also where nothing is asked. */
  lose(): void {
    if (this.#lost) return
    this.sever()
    this.onLost?.()
  }

  /** mysql2 leaves the promise of a destroyed connection's question open: it is failed here. */
  sever(): void {
    this.#lost = true
    severDatabaseConnection(this.connection)
    this.#fail?.(new WhiteholeError('database-away', 'the database did not answer in time'))
  }
}

/** A header or a list of rows, as opposed to a row, whose first column is a scalar or a buffer. */
function isResult(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0 || Array.isArray(value[0])
  return typeof value === 'object' && value !== null && 'affectedRows' in value
}

class SqlLaneSession implements LaneSession {
  readonly thread: Thread
  readonly packetBytesMax: number
  readonly canRefuseToWait: boolean
  readonly #asking: Asking
  readonly #dialect: Dialect

  constructor(asking: Asking, dialect: Dialect, results: Results) {
    this.#asking = asking
    this.#dialect = dialect
    this.canRefuseToWait = canRefuseToWait(dialect)
    const [id, serverId, packet] = rowsOf(results, 2)[0] ?? []
    const [, uptime] = rowsOf(results, 3)[0] ?? []
    this.thread = {
      id: Number(id),
      serverId: Number(serverId),
      serverStartSeconds: Date.now() / 1000 - Number(uptime),
    }
    this.packetBytesMax = Number(packet)
  }

  set onLost(callback: (() => void) | undefined) {
    this.#asking.onLost = callback
    if (this.#asking.lost) callback?.()
  }

  get onLost(): (() => void) | undefined {
    return this.#asking.onLost
  }

  async setIncarnation(lane: string, incarnation: number): Promise<void> {
    await this.#asking.ask(bump(lane, incarnation))
  }

  async lockKeys(place: LanePlace, wanted: Wanted): Promise<Locked> {
    const { keys } = wanted
    const results = await this.#asking.ask(lockAndRead(this.#dialect, place, wanted))
    assertMoved(results, place)
    const namespaces = new Map(rowsOf(results, 2).map(readNamespace))
    const contendedNamespaces = new Set<NamespaceId>()
    for (const [id] of rowsOf(results, 3)) if (!namespaces.has(Number(id))) contendedNamespaces.add(Number(id))
    const rows = new Map<string, DirectoryRow>()
    for (const [index, id] of [...keys.keys()].entries()) {
      for (const row of rowsOf(results, 5 + index)) rows.set(`${id}:${keyOf(row)}`, readDirectory(row))
    }
    const contendedKeys = await this.#seenDirty(missing(keys, rows))
    const [clock] = rowsOf(results, 4)[0] ?? []
    return { nowSeconds: Number(clock), namespaces, rows, contendedKeys, contendedNamespaces }
  }

  /** A round trip of its own, but none where every key was found: most writes are to keys that are there. */
  async #seenDirty(keys: KeysByNamespace): Promise<ReadonlySet<string>> {
    const seen = new Set<string>()
    if (keys.size === 0) return seen
    const results = await this.#asking.ask(readDirty(this.#dialect, keys))
    for (const [index, id] of [...keys.keys()].entries()) {
      for (const row of rowsOf(results, index)) seen.add(`${id}:${keyOf(row)}`)
    }
    return seen
  }

  async write(decision: Decision, unlocked: Unlocked | undefined): Promise<void> {
    await this.#asking.ask(writeAndCommit(this.#dialect, decision, unlocked))
  }

  async writeAtOnce(place: LanePlace, assumed: Assumed, decision: Decision): Promise<number> {
    const results = await this.#asking.ask(writeAtOnce(place, assumed, decision))
    const [clock] = rowsOf(results, 1)[0] ?? []
    return Number(clock)
  }

  async lockNamespace(place: LanePlace, id: NamespaceId): Promise<LockedNamespace> {
    const results = await this.#asking.ask(lockNamespace(place, id))
    assertMoved(results, place)
    const [row] = rowsOf(results, 2)
    const [clock] = rowsOf(results, 3)[0] ?? []
    return { nowSeconds: Number(clock), flushDue: row === undefined ? undefined : Number(row[0]) }
  }

  async flush(id: NamespaceId, change: FlushChange): Promise<void> {
    await this.#asking.ask(flushAndCommit(id, change))
  }

  async rollback(): Promise<void> {
    await this.#asking.ask('ROLLBACK')
  }

  async ping(): Promise<void> {
    await this.#asking.ask('DO 1')
  }

  close(): void {
    this.#asking.onLost = undefined
    closeDatabaseConnection(this.#asking.connection)
  }

  sever(): void {
    this.#asking.onLost = undefined
    this.#asking.sever()
  }
}

/** The node, not the server, sees that the row moved: an UPDATE of no row stops no statement behind it. */
function assertMoved(results: Results, place: LanePlace): void {
  const moved = results[1]
  if (moved === undefined || !('affectedRows' in moved) || moved.affectedRows !== 1) throw new LaneTakenError(place)
}

function rowsOf(results: Results, index: number): readonly Row[] {
  const result = results[index]
  if (!Array.isArray(result)) throw new WhiteholeError('bad-schema', 'the database answered something else than rows')
  return result
}

function missing(keys: KeysByNamespace, rows: ReadonlyMap<string, DirectoryRow>): KeysByNamespace {
  const result = new Map<NamespaceId, readonly BatchKey[]>()
  for (const [id, list] of keys) {
    const absent = list.filter((key) => !rows.has(key.id))
    if (absent.length > 0) result.set(id, absent)
  }
  return result
}

function keyOf([key]: Row): Key {
  return keyFromBytes(key as Buffer)
}

function readDirectory([, version, expire, flags, size, checksum, number]: Row): DirectoryRow {
  return {
    version: readVersion(version),
    expiry: Number(expire),
    flags: BigInt(flags as string),
    sizeBytes: Number(size),
    checksum: Number(checksum),
    number: number === null || number === undefined ? undefined : BigInt(number as string),
  }
}

function readVersion(value: Row[number] | undefined): Version {
  return versionFromNumber(BigInt(value as string))
}

function readNamespace([id, generation, defaultTtl, maxTtl, maxValueBytes]: Row): [NamespaceId, NamespaceRow] {
  return [
    Number(id),
    {
      generation: Number(generation),
      defaultTtlSeconds: Number(defaultTtl),
      maxTtlSeconds: Number(maxTtl),
      maxValueBytes: Number(maxValueBytes),
    },
  ]
}

/** Sorted by namespace and key, each key once. */
export function groupKeys(keys: readonly BatchKey[]): Map<NamespaceId, BatchKey[]> {
  const groups = new Map<NamespaceId, BatchKey[]>()
  for (const key of keys) {
    const group = groups.get(key.namespaceId)
    if (group === undefined) groups.set(key.namespaceId, [key])
    else group.push(key)
  }
  return groups
}
