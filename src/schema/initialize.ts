import type { Connection, RowDataPacket } from 'mysql2/promise'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { Dialect } from '../domain/position.ts'
import {
  type Accounts,
  accountStatements,
  definerStatements,
  printableAccountStatements,
  serverAccountStatements,
} from './accounts.ts'
import { loadMigrations, type Migration } from './migrations.ts'
import { foreignTables, shapeProblems } from './shape.ts'

/** Two at once wait for each other at this lock of the server. */
const lockName = 'whitehole_schema'
const lockWaitSeconds = 60

/** Routines keep the sql_mode that they were made under. */
const sqlMode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'

/**
 * Makes or migrates database `memcached`, its routines and the accounts: idempotent, and safe to run twice at once. All of it
 * reaches the replicas through the binlog.
 *
 * @param connection to the primary, privileged (root), and used for nothing else: its session's settings are changed
 * @returns the names of the migrations that it applied
 * @throws WhiteholeError `bad-configuration` where the server is not fit (read_only, no BLACKHOLE, no row-based binlog),
 *   `bad-schema` for a schema that this build does not know; no error carries a password
 */
export async function initializeSchema(
  connection: Connection,
  options: { readonly accounts: Accounts },
): Promise<{ applied: string[] }> {
  const dialect = await readDialect(connection)
  const accounts = accountStatements(dialect, options.accounts)
  await requireFitServer(connection)
  await prepareSession(connection, dialect)
  await takeLock(connection)
  try {
    const applied = await migrate(connection, dialect)
    const problems = await shapeProblems(connection)
    if (problems.length > 0) {
      throw new WhiteholeError('bad-schema', `database memcached is not as whitehole made it: ${problems.join('; ')}`)
    }
    for (const { role, statements, secret } of accounts) {
      for (const statement of statements) await runSecret(connection, { statement, secret, role })
    }
    return { applied }
  } finally {
    // Where the connection is broken, the server has freed it.
    await connection.query('SELECT RELEASE_LOCK(?)', [lockName]).catch(() => {})
  }
}

/**
 * The accounts alone, on a server that has no schema yet and is about to replicate: nothing is logged, and its being read-only is no hindrance.
 * @throws WhiteholeError `bad-configuration`; no error carries a password
 */
export async function makeServerAccounts(
  connection: Connection,
  accounts: Pick<Accounts, 'monitor' | 'replication' | 'relay'>,
): Promise<void> {
  const dialect = await readDialect(connection)
  for (const [role, account] of Object.entries(accounts)) {
    if (account === undefined) continue
    for (const statement of serverAccountStatements(dialect, { [role]: account })) {
      await runSecret(connection, { statement, secret: account.password, role })
    }
  }
}

/** The same as SQL for a person, to be fed to the `mariadb` or `mysql` client as root; passwords are left to be filled in. */
export function schemaSql(dialect: Dialect, accounts: Accounts): string {
  const lines = (statements: readonly string[]): string => statements.map((statement) => `${statement};`).join('\n')
  const migrations = loadMigrations(dialect).map((migration) =>
    [`-- ${migration.name}.sql`, migration.text.trim(), lines([versionStatement(migration)])].join('\n\n'),
  )
  return [
    lines([`SET SESSION sql_mode = '${sqlMode}'`, createDatabase, ...definerStatements(dialect), 'USE memcached']),
    ...migrations,
    lines(printableAccountStatements(dialect, accounts)),
    '',
  ].join('\n\n')
}

/** Undefined where there is no schema (yet). */
export async function readSchemaVersion(connection: Connection): Promise<number | undefined> {
  const [tables] = await connection.query<RowDataPacket[]>(
    "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached' AND TABLE_NAME = 'mc_meta'",
  )
  if (tables.length === 0) return undefined
  const [rows] = await connection.query<RowDataPacket[]>(
    "SELECT value FROM memcached.mc_meta WHERE name = 'schema_version'",
  )
  const version = Number(rows[0]?.['value'])
  return version > 0 ? version : undefined
}

export async function readDialect(connection: Connection): Promise<Dialect> {
  const row = await one(connection, 'SELECT VERSION() AS version')
  return /mariadb/i.test(String(row['version'])) ? 'mariadb' : 'mysql'
}

const createDatabase = 'CREATE DATABASE IF NOT EXISTS memcached CHARACTER SET utf8mb4'

function versionStatement(migration: Migration): string {
  return `UPDATE memcached.mc_meta SET value = '${migration.number}' WHERE name = 'schema_version'`
}

async function requireFitServer(connection: Connection): Promise<void> {
  const row = await one(
    connection,
    `SELECT @@global.read_only AS readOnly, @@global.log_bin AS logBin, @@global.binlog_format AS format,
       (SELECT COUNT(*) FROM information_schema.ENGINES WHERE ENGINE = 'BLACKHOLE' AND SUPPORT IN ('YES', 'DEFAULT')) AS blackhole`,
  )
  const refuse = (text: string): never => {
    throw new WhiteholeError('bad-configuration', text)
  }
  if (Number(row['readOnly']) !== 0) refuse('this database is read_only: init runs on the primary')
  if (Number(row['logBin']) !== 1) refuse('this database writes no binlog: start it with log_bin')
  if (row['format'] !== 'ROW') refuse(`binlog_format is ${String(row['format'])} on this database: set it to ROW`)
  if (Number(row['blackhole']) === 0) {
    refuse('this database has no BLACKHOLE engine: on MariaDB, plugin_load_add=ha_blackhole loads it')
  }
}

async function prepareSession(connection: Connection, dialect: Dialect): Promise<void> {
  await connection.query('SET SESSION sql_mode = ?', [sqlMode])
  if (dialect === 'mariadb') return
  // The log has no primary key. Replicas take the setting from the binlog.
  const row = await one(connection, 'SELECT @@session.sql_require_primary_key AS required')
  if (Number(row['required']) === 1) await connection.query('SET SESSION sql_require_primary_key = 0')
}

async function takeLock(connection: Connection): Promise<void> {
  const row = await one(connection, `SELECT GET_LOCK('${lockName}', ${lockWaitSeconds}) AS taken`)
  if (Number(row['taken']) === 1) return
  throw new WhiteholeError('bad-schema', `another init has been running on this database for ${lockWaitSeconds} s`)
}

async function migrate(connection: Connection, dialect: Dialect): Promise<string[]> {
  const migrations = loadMigrations(dialect)
  const present = (await readSchemaVersion(connection)) ?? 0
  if (present > migrations.length) {
    throw new WhiteholeError(
      'bad-schema',
      `the schema has version ${present}, this whitehole knows ${migrations.length}: use a newer whitehole`,
    )
  }
  const foreign = await foreignTables(connection)
  if (foreign.length > 0) {
    const text = `database memcached has ${foreign.join(', ')} that whitehole did not make: rename or drop them first`
    throw new WhiteholeError('bad-schema', text)
  }
  const pending = migrations.slice(present)
  if (present === 0) await connection.query(createDatabase)
  // Before the accounts: a relay that replicates this database alone takes statements by the default database of their session.
  await connection.query('USE memcached')
  for (const statement of definerStatements(dialect)) await connection.query(statement)
  for (const migration of pending) {
    try {
      for (const statement of migration.statements) await connection.query(statement)
      await connection.query(versionStatement(migration))
    } catch (error) {
      throw new WhiteholeError('bad-schema', `${migration.name} failed: ${describeError(error)}`)
    }
  }
  return pending.map(({ name }) => name)
}

/** mysql2's errors carry the statement, so neither they nor anything that holds them may leave here. */
async function runSecret(
  connection: Connection,
  given: { statement: string; secret: string; role: string },
): Promise<void> {
  let failure: string
  try {
    await connection.query(given.statement)
    return
  } catch (error) {
    failure = describeError(error).replaceAll(given.secret, '<password>')
  }
  throw new WhiteholeError('bad-configuration', `the ${given.role} account could not be made: ${failure}`)
}

async function one(connection: Connection, sql: string): Promise<RowDataPacket> {
  const [rows] = await connection.query<RowDataPacket[]>(sql)
  const [row] = rows
  if (row === undefined) throw new Error(`the database gave no row for: ${sql}`)
  return row
}
