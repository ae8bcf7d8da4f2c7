import type { Connection } from 'mysql2/promise'
import { monitorLockName, rebuildLockName } from '../domain/database-control.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { type Dialect, formatGtid, formatPosition, parsePosition, type Position } from '../domain/position.ts'
import { copyAccounts, copyGrants, copyRoutines, copyTables, rowsOf } from './copy-objects.ts'
import { readDialect } from './initialize.ts'

const systemDatabases = new Set(['information_schema', 'performance_schema', 'mysql', 'sys', 'memcached'])
const lockWaitSeconds = 20
const batchRows = 500
const batchBytes = 1024 * 1024

/**
 * Throws away what a database has and fills it from another one, its log's history included: for an old primary that has what its successor
 * lacks (only InnoDB tables hold data, so this is small). Of `memcached` and the accounts alone, therefore only where there is nothing else.
 * Afterwards it may follow `source`. Writes on the source pause for the moment in which its position is read. Repeat it from its
 * beginning if it was interrupted: until its end the target has no history, and so nobody takes it for one that has something.
 *
 * @param source root's connections to the primary (or to whoever has everything): one that locks, one that reads
 * @param target root's connection to the other one, which must be read-only
 * @throws WhiteholeError `bad-configuration` where a database holds something else, or the target is writable
 */
export async function copyDatabase(
  source: { locking: Connection; reading: Connection },
  target: Connection,
): Promise<Position> {
  const dialect = await readDialect(target)
  if ((await readDialect(source.locking)) !== dialect) refuse('the two databases are of different engines')
  for (const connection of [source.locking, target]) await requireDedicated(connection)
  const [{ readOnly } = { readOnly: 0 }] = await rowsOf<{ readOnly: number }>(
    target,
    'SELECT @@global.read_only AS readOnly',
  )
  if (readOnly === 0) refuse('the database that is to be thrown away is writable: it may be the primary')
  await keepMonitorsOut(target)
  await prepareTarget(target, dialect)
  try {
    const snapshot = await takeSnapshot(source, dialect)
    await copyAccounts(source.reading, target, dialect)
    const tables = await copyTables(source.reading, target)
    for (const table of tables) await copyRows(source.reading, target, table)
    await copyRoutines(source.reading, target)
    await copyGrants(source.reading, target)
    await adoptHistory(target, snapshot)
    return snapshot.position
  } finally {
    await source.reading.query('ROLLBACK').catch(() => {})
    if (dialect === 'mysql') await target.query('SET GLOBAL super_read_only = 1').catch(() => {})
    await target.query('SELECT RELEASE_ALL_LOCKS()').catch(() => {})
  }
}

interface Snapshot {
  readonly position: Position
  /** MariaDB: the last number of each server. */
  readonly state: string
}

/** The reader's view of all tables, and the position that it is at. Tables are locked meanwhile, so no transaction is in between. */
async function takeSnapshot(source: { locking: Connection; reading: Connection }, dialect: Dialect): Promise<Snapshot> {
  const { locking, reading } = source
  const tables = await rowsOf<{ name: string }>(
    locking,
    "SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached' AND TABLE_TYPE = 'BASE TABLE'",
  )
  await reading.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION time_zone = '+00:00'")
  await locking.query(`SET SESSION lock_wait_timeout = ${lockWaitSeconds}`)
  if (tables.length > 0) {
    await locking.query(`LOCK TABLES ${tables.map(({ name }) => `memcached.\`${name}\` READ`).join(', ')}`)
  }
  try {
    const wanted =
      dialect === 'mariadb'
        ? 'SELECT @@global.gtid_binlog_pos AS position, @@global.gtid_binlog_state AS state'
        : "SELECT @@global.gtid_executed AS position, '' AS state"
    const [row] = await rowsOf<{ position: string; state: string }>(locking, wanted)
    await reading.query('START TRANSACTION WITH CONSISTENT SNAPSHOT')
    return { position: parsePosition(dialect, row?.position ?? ''), state: row?.state ?? '' }
  } finally {
    await locking.query('UNLOCK TABLES')
  }
}

/** None that has begun something goes on with it, none begins anything: half filled, a database must not follow anybody. */
async function keepMonitorsOut(target: Connection): Promise<void> {
  const [got] = await rowsOf<{ got: number }>(target, `SELECT GET_LOCK('${rebuildLockName}', 0) AS got`)
  if (got?.got !== 1) refuse('it is being filled by somebody else')
  const [used] = await rowsOf<{ holder: number | null }>(target, `SELECT IS_USED_LOCK('${monitorLockName}') AS holder`)
  if (used !== undefined && used.holder !== null) await target.query(`KILL ${used.holder}`).catch(() => {})
  // It has ended once its lock is free.
  await target.query(`SELECT GET_LOCK('${monitorLockName}', ${lockWaitSeconds})`)
}

async function requireDedicated(connection: Connection): Promise<void> {
  const databases = await rowsOf<{ Database: string }>(connection, 'SHOW DATABASES')
  const others = databases.map((row) => row.Database).filter((name) => !systemDatabases.has(name.toLowerCase()))
  if (others.length > 0) {
    refuse(
      `it is not whitehole's alone (${others.join(', ')}): copy the primary with your own tools, and let it follow`,
    )
  }
}

/** Nothing of what follows is for anybody's log. */
async function prepareTarget(target: Connection, dialect: Dialect): Promise<void> {
  if (dialect === 'mysql') await target.query('SET GLOBAL read_only = 1; SET GLOBAL super_read_only = 0')
  await target.query(
    dialect === 'mariadb'
      ? 'STOP SLAVE; RESET SLAVE ALL; SET GLOBAL rpl_semi_sync_master_enabled = 0'
      : 'STOP REPLICA; RESET REPLICA ALL; SET GLOBAL rpl_semi_sync_source_enabled = 0',
  )
  await endReaders(target)
  await target.query(
    dialect === 'mariadb' ? "RESET MASTER; SET GLOBAL gtid_slave_pos = ''" : 'RESET BINARY LOGS AND GTIDS',
  )
  await target.query(
    "SET SESSION sql_log_bin = 0, foreign_key_checks = 0, unique_checks = 0, time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
  )
  await target.query(
    'DROP DATABASE IF EXISTS memcached; CREATE DATABASE memcached CHARACTER SET utf8mb4; USE memcached',
  )
}

/** Their log is about to go. */
async function endReaders(target: Connection): Promise<void> {
  const sessions = await rowsOf<{ Id: number; Command: string }>(target, 'SHOW PROCESSLIST')
  for (const { Id } of sessions.filter(({ Command }) => Command.startsWith('Binlog Dump'))) {
    await target.query(`KILL ${Id}`).catch(() => {})
  }
}

/** Streams, so that memory does not grow with the number of keys. */
async function copyRows(source: Connection, target: Connection, table: string): Promise<void> {
  // Only the connection below the promises has streams.
  const { connection } = source as unknown as { connection: StreamingConnection }
  const stream = connection
    .query({
      sql: `SELECT * FROM memcached.\`${table}\``,
      rowsAsArray: true,
      dateStrings: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
    })
    .stream({ highWaterMark: batchRows })
  let batch: unknown[][] = []
  let bytes = 0
  const flush = async (): Promise<void> => {
    if (batch.length > 0) await target.query(`INSERT INTO memcached.\`${table}\` VALUES ?`, [batch])
    batch = []
    bytes = 0
  }
  for await (const row of stream) {
    batch.push(row)
    bytes += row.reduce<number>(
      (sum, value) => sum + (Buffer.isBuffer(value) || typeof value === 'string' ? value.length : 8),
      0,
    )
    if (batch.length >= batchRows || bytes >= batchBytes) await flush()
  }
  await flush()
}

interface StreamingConnection {
  query(options: {
    sql: string
    rowsAsArray: boolean
    dateStrings: boolean
    supportBigNumbers: boolean
    bigNumberStrings: boolean
  }): { stream(options: { highWaterMark: number }): AsyncIterable<unknown[]> }
}

async function adoptHistory(target: Connection, { position, state }: Snapshot): Promise<void> {
  if (position.dialect === 'mysql') {
    await target.query('RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged = ?', [formatPosition(position)])
    return
  }
  const gtids = [...position.domains.values()].map(formatGtid)
  // Of each domain the last one stands last: it is where the log goes on.
  const former = state.split(',').filter((gtid) => gtid !== '' && !gtids.includes(gtid))
  await target.query('RESET MASTER')
  await target.query('SET GLOBAL gtid_binlog_state = ?', [[...former, ...gtids].join(',')])
  await target.query('SET GLOBAL gtid_slave_pos = ?', [gtids.join(',')])
}

function refuse(text: string): never {
  throw new WhiteholeError('bad-configuration', text)
}
