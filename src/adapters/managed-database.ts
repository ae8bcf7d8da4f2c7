import {
  type DatabaseControl,
  DatabaseControlError,
  type DatabaseFacts,
  type DatabaseSight,
  type DatabaseTarget,
  type LockedDatabase,
  monitorLockName,
  rebuildLockName,
} from '../domain/database-control.ts'
import { type Dialect, parsePosition, type Position } from '../domain/position.ts'
import { ControlSession, Deadline, sqlErrorNumber, toldError } from './control-session.ts'
import { mariadbControl } from './control-sql-mariadb.ts'
import { mysqlControl } from './control-sql-mysql.ts'
import {
  askFacts,
  type ControlAccount,
  type ControlSql,
  listedSessions,
  number,
  portOf,
  type Row,
  text,
} from './control-sql.ts'
import { LockedSession } from './locked-session.ts'

export interface ManagedDatabaseOptions {
  readonly name: string
  readonly dialect: Dialect
  readonly address: DatabaseTarget
  /** The monitor's (src/schema/accounts.ts says which rights). */
  readonly account: ControlAccount
  /** With which a standby reads the log of the primary. */
  readonly replication: ControlAccount
  /** With which relays read the log of the standby; undefined where there are none. */
  readonly relay?: ControlAccount | undefined
}

/** No table, no database; or its account was made before them and has no right to them yet. */
const noSchema = new Set([1146, 1049, 1142])
const noSuchRoutine = 1305
const lockWaitTimeout = 1205
const noSuchThread = 1094
const markerRows = 8
const lockTrySeconds = 0.2

/** One database of a managed pair, over SQL. What an engine calls things is in `control-sql-*.ts`; changes are in `locked-session.ts`. */
export class ManagedDatabase implements DatabaseControl {
  readonly name: string
  readonly address: DatabaseTarget
  readonly dialect: Dialect
  readonly #options: ManagedDatabaseOptions
  readonly #sql: ControlSql
  #probing: ControlSession | undefined
  /** Rows of markers under way. */
  readonly #marking = new Set<number>()
  #closed = false

  constructor(options: ManagedDatabaseOptions) {
    this.#options = options
    this.name = options.name
    this.address = options.address
    this.dialect = options.dialect
    this.#sql = options.dialect === 'mariadb' ? mariadbControl : mysqlControl
  }

  async probe(timeoutMilliseconds: number): Promise<DatabaseSight> {
    const deadline = new Deadline(timeoutMilliseconds)
    const kept = this.#probing
    try {
      return { answers: true, facts: await this.#look(deadline) }
    } catch (error) {
      // A kept session that broke tells nothing but that: the server may have restarted, so look once more.
      const once = kept !== undefined && !kept.open && toldError(error).code === 'away' && !deadline.over
      if (!once) return unseen(error)
    }
    try {
      return { answers: true, facts: await this.#look(deadline) }
    } catch (error) {
      return unseen(error)
    }
  }

  async takeLock(timeoutMilliseconds: number): Promise<LockedDatabase> {
    const deadline = new Deadline(timeoutMilliseconds)
    const session = await this.#connect(deadline)
    try {
      while (!(await this.#tryLock(session, deadline))) {
        if (deadline.over) throw new DatabaseControlError('timed-out', `the lock of ${this.name} is not let go`)
      }
    } catch (error) {
      session.sever()
      throw toldError(error)
    }
    return new LockedSession({
      name: this.name,
      session,
      sql: this.#sql,
      account: this.#options.account,
      replication: this.#options.replication,
      relay: this.#options.relay,
      address: this.address,
      connect: async (within) => this.#connect(within),
    })
  }

  async commitMarker(timeoutMilliseconds: number): Promise<Position> {
    const deadline = new Deadline(timeoutMilliseconds)
    const session = await this.#connect(deadline)
    try {
      // Another monitor's marker may hold the row.
      await session.ask('SET SESSION innodb_lock_wait_timeout = 1', deadline)
      for (const row of this.#freeMarkerRows()) {
        if (await this.#mark(session, row, deadline)) {
          const [answer] = await session.ask<Row>(this.#sql.committed, deadline)
          return parsePosition(this.dialect, text(answer, 'position'))
        }
      }
      throw new DatabaseControlError('timed-out', `all markers of ${this.name} are still waiting`)
    } catch (error) {
      if (sqlErrorNumber(error) === noSuchRoutine || noSchema.has(sqlErrorNumber(error) ?? 0)) {
        throw new DatabaseControlError('refused', `${this.name} has no schema of this version: run "whitehole init"`)
      }
      throw toldError(error)
    } finally {
      session.close()
    }
  }

  close(): void {
    this.#closed = true
    this.#probing?.close()
  }

  async #look(deadline: Deadline): Promise<DatabaseFacts> {
    this.#probing = this.#probing?.open === true ? this.#probing : await this.#connect(deadline)
    const session = this.#probing
    const context = { replicationUser: this.#options.replication.user }
    const facts = await askFacts(this.#sql, (sql) => session.ask<Row[]>(sql, deadline), context)
    return { ...facts, epoch: await readEpoch(session, deadline) }
  }

  async #connect(deadline: Deadline): Promise<ControlSession> {
    if (this.#closed) throw new DatabaseControlError('away', 'the monitor is stopping')
    const { user, password } = this.#options.account
    const at = { host: this.address.host, port: portOf(this.address) }
    try {
      return await ControlSession.open({ ...at, user, password }, deadline)
    } catch (error) {
      throw new ConnectError(error)
    }
  }

  /** Kills whoever holds it first: none of its changes comes after ours. */
  async #tryLock(session: ControlSession, deadline: Deadline): Promise<boolean> {
    const [row] = await session.ask<Row>('SELECT IS_USED_LOCK(?) AS holder, IS_USED_LOCK(?) AS rebuilding', deadline, [
      monitorLockName,
      rebuildLockName,
    ])
    if (number(row, 'rebuilding') !== 0) {
      throw new DatabaseControlError('refused', `${this.name} is being filled anew from the other one`)
    }
    const holder = number(row, 'holder')
    if (holder === session.id) return true
    if (holder !== 0) await this.#end(session, holder, deadline)
    const [got] = await session.ask<Row>('SELECT GET_LOCK(?, ?) AS got', deadline, [monitorLockName, lockTrySeconds])
    return number(got, 'got') === 1
  }

  async #end(session: ControlSession, holder: number, deadline: Deadline): Promise<void> {
    try {
      await session.ask(`KILL CONNECTION ${holder}`, deadline)
    } catch (error) {
      if (sqlErrorNumber(error) !== noSuchThread) throw error
    }
    if (this.dialect === 'mysql') await this.#releaseStuck(session, holder, deadline)
  }

  /**
   * MySQL's KILL does not end a wait for the standby: a holder whose commit waits while it prepares a primary would keep the lock for ever.
   * As long as the database is read-only it is the only one who waits, and nobody was told of its commit.
   */
  async #releaseStuck(session: ControlSession, holder: number, deadline: Deadline): Promise<void> {
    const [row] = await session.ask<Row>('SELECT @@global.read_only AS readOnly', deadline)
    if (number(row, 'readOnly') === 0) return
    const waiting = listedSessions(await session.ask<Row>('SHOW PROCESSLIST', deadline)).filter(({ state }) =>
      /semi-sync ACK/i.test(state),
    )
    if (waiting.length === 1 && waiting[0]?.id === holder) {
      await session.ask(this.#sql.semiSync.disablePrimary, deadline)
    }
  }

  #freeMarkerRows(): number[] {
    return Array.from({ length: markerRows }, (_, row) => row).filter((row) => !this.#marking.has(row))
  }

  /** False where somebody else's marker holds the row. */
  async #mark(session: ControlSession, row: number, deadline: Deadline): Promise<boolean> {
    this.#marking.add(row)
    let isOver = true
    try {
      await session.ask('CALL memcached.mc_mark(?)', deadline, [row])
      return true
    } catch (error) {
      if (sqlErrorNumber(error) === lockWaitTimeout) return false
      isOver = toldError(error).code !== 'timed-out'
      throw error
    } finally {
      if (isOver) this.#marking.delete(row)
      // It still waits there; by and by its row may be tried again.
      else setTimeout(() => this.#marking.delete(row), markerForgottenMilliseconds).unref()
    }
  }
}

const markerForgottenMilliseconds = 10_000

/** No connection came up: `cause` tells whether the server is down, silent, or won't have us. */
class ConnectError extends DatabaseControlError {
  constructor(cause: unknown) {
    const told = toldError(cause)
    super(told.code === 'timed-out' ? 'timed-out' : 'away', told.message, { cause })
  }
}

function unseen(error: unknown): DatabaseSight {
  const told = toldError(error)
  const origin = told.cause ?? told
  const code = (origin as { code?: unknown }).code
  const seen = (kind: 'refused' | 'silent' | 'denied'): DatabaseSight => ({
    answers: false,
    kind,
    detail: told.message,
  })
  if (code === 'ECONNREFUSED' || code === 'ENOENT') return seen('refused')
  const errno = (origin as { errno?: unknown }).errno
  // Errors of the server have positive numbers, those of the network negative ones.
  if (typeof errno === 'number' && errno >= 1000) return seen('denied')
  return seen('silent')
}

/** Undefined where there is no schema yet. */
async function readEpoch(session: ControlSession, deadline: Deadline): Promise<number | undefined> {
  try {
    const [row] = await session.ask<Row>("SELECT value FROM memcached.mc_meta WHERE name = 'epoch'", deadline)
    return row === undefined ? undefined : number(row, 'value')
  } catch (error) {
    if (noSchema.has(sqlErrorNumber(error) ?? 0)) return undefined
    throw error
  }
}
