import { escape, escapeId } from 'mysql2'
import type { Connection, RowDataPacket } from 'mysql2/promise'
import type { Dialect } from '../domain/position.ts'

/** The server's own, and whoever administers it: each server keeps its own. */
const keptUsers = new Set(['root', 'mysql', 'mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema', ''])

export async function rowsOf<T = Record<string, unknown>>(connection: Connection, sql: string): Promise<T[]> {
  const [rows] = await connection.query<RowDataPacket[]>(sql)
  return rows as unknown as T[]
}

/** Accounts with their passwords' hashes, without rights yet. Run where nothing is logged. */
export async function copyAccounts(source: Connection, target: Connection, dialect: Dialect): Promise<void> {
  if (dialect === 'mysql') await source.query('SET SESSION print_identified_with_as_hex = 1')
  for (const account of await accountsOf(source)) {
    const [created] = await rowsOf<Record<string, string>>(source, `SHOW CREATE USER ${account}`)
    await target.query(`DROP USER IF EXISTS ${account}`)
    await target.query(String(Object.values(created ?? {})[0]))
  }
}

/** Their rights, once the tables and routines are there that some are for. */
export async function copyGrants(source: Connection, target: Connection): Promise<void> {
  for (const account of await accountsOf(source)) {
    for (const grant of await rowsOf<Record<string, string>>(source, `SHOW GRANTS FOR ${account}`)) {
      await target.query(String(Object.values(grant)[0]))
    }
  }
}

async function accountsOf(connection: Connection): Promise<string[]> {
  const users = await rowsOf<{ user: string; host: string }>(
    connection,
    'SELECT User AS user, Host AS host FROM mysql.user ORDER BY User, Host',
  )
  return users.filter(({ user }) => !keptUsers.has(user)).map(({ user, host }) => `${escape(user)}@${escape(host)}`)
}

/** @returns the names of those that hold rows */
export async function copyTables(source: Connection, target: Connection): Promise<string[]> {
  const tables = await rowsOf<{ name: string; engine: string }>(
    source,
    "SELECT TABLE_NAME AS name, ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached' AND TABLE_TYPE = 'BASE TABLE'",
  )
  for (const { name } of tables) {
    const [created] = await rowsOf<{ 'Create Table': string }>(source, `SHOW CREATE TABLE memcached.${escapeId(name)}`)
    await target.query(created?.['Create Table'] ?? '')
  }
  return tables.filter(({ engine }) => engine !== 'BLACKHOLE').map(({ name }) => name)
}

/** Routines and triggers: after the rows, which must not set off a trigger. */
export async function copyRoutines(source: Connection, target: Connection): Promise<void> {
  const routines = await rowsOf<{ name: string; type: 'PROCEDURE' | 'FUNCTION' }>(
    source,
    "SELECT ROUTINE_NAME AS name, ROUTINE_TYPE AS type FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'memcached'",
  )
  for (const { name, type } of routines) {
    const column = type === 'PROCEDURE' ? 'Create Procedure' : 'Create Function'
    await copyProgram({ source, target, show: `SHOW CREATE ${type} memcached.${escapeId(name)}`, column })
  }
  for (const { Trigger } of await rowsOf<{ Trigger: string }>(source, 'SHOW TRIGGERS FROM memcached')) {
    const show = `SHOW CREATE TRIGGER memcached.${escapeId(Trigger)}`
    await copyProgram({ source, target, show, column: 'SQL Original Statement' })
  }
}

/** A program keeps the sql_mode and the character set that it was made under. */
async function copyProgram(given: {
  source: Connection
  target: Connection
  show: string
  column: string
}): Promise<void> {
  const { source, target, show, column } = given
  const [program] = await rowsOf<Record<string, string>>(source, show)
  if (program === undefined) return
  await target.query(
    `SET SESSION sql_mode = ${escape(program['sql_mode'])}, character_set_client = ${program['character_set_client']}, collation_connection = ${program['collation_connection']}`,
  )
  await target.query(program[column] ?? '')
}
