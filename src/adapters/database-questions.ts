import type { Connection } from 'mysql2/promise'
import { type History, parseHistory } from '../domain/history.ts'
import type { Dialect } from '../domain/position.ts'
import type { DatabaseAddress, DatabaseProbe } from './database-access.ts'
import { ownedGtids, readPosition, unreadablePosition } from './server-position.ts'

type Ask = <T = Record<string, unknown>>(sql: string) => Promise<T[]>

/** What it says of itself; each question is bounded in time. */
export async function askDatabase(
  connection: Connection,
  address: DatabaseAddress,
  timeoutMilliseconds: number,
): Promise<DatabaseProbe> {
  const ask = questions(connection, timeoutMilliseconds)
  const [row] = await ask<{ version: string; serverId: number; readOnly: number }>(
    'SELECT VERSION() AS version, @@server_id AS serverId, @@global.read_only AS readOnly',
  )
  if (row === undefined) throw new Error('the database gave no answer')
  const dialect: Dialect = /mariadb/i.test(row.version) ? 'mariadb' : 'mysql'
  const replicas = await ask(dialect === 'mariadb' ? 'SHOW ALL SLAVES STATUS' : 'SHOW REPLICA STATUS')
  const semiSync = await ask<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync\\_%\\_enabled'",
  )
  const history = await askHistory(ask, dialect)
  const asked = performance.now()
  const [state] = await ask<{ clock: string; position: string }>(
    `SELECT UNIX_TIMESTAMP(NOW(6)) AS clock, ${dialect === 'mariadb' ? '@@global.gtid_binlog_pos' : '@@global.gtid_executed'} AS position`,
  )
  if (state === undefined) throw new Error('the database gave no answer')
  return {
    address,
    dialect,
    version: row.version,
    serverId: row.serverId,
    writable: row.readOnly === 0,
    replica: replicas.length > 0,
    semiSyncPrimary: semiSync.some((one) => /_(master|source)_/.test(one.Variable_name) && one.Value === 'ON'),
    position: readPosition(dialect, state.position),
    history,
    clockSeconds: Number(state.clock),
    clockSampledAtMilliseconds: (asked + performance.now()) / 2,
  }
}

/** Owned first: a transaction is in the log before it is executed, and leaves one for the other in an instant. */
async function askHistory(ask: Ask, dialect: Dialect): Promise<History> {
  const texts: string[] = []
  const variables = dialect === 'mariadb' ? ['gtid_binlog_state', 'gtid_slave_pos'] : ['gtid_owned', 'gtid_executed']
  for (const variable of variables) {
    const [row] = await ask<{ text: string | null }>(`SELECT @@global.${variable} AS text`)
    const text = row?.text ?? ''
    texts.push(...(variable === 'gtid_owned' ? ownedGtids(text) : [text]))
  }
  try {
    return parseHistory(dialect, texts.join(','))
  } catch (error) {
    throw unreadablePosition(error)
  }
}

/** Of a managed pair's primary; 0 where it was never opened. */
export async function askEpoch(connection: Connection, timeoutMilliseconds: number): Promise<number> {
  const ask = questions(connection, timeoutMilliseconds)
  const [row] = await ask<{ value: string }>("SELECT value FROM mc_meta WHERE name = 'epoch'")
  return Number(row?.value ?? 0)
}

function questions(connection: Connection, timeoutMilliseconds: number): Ask {
  return async <T>(sql: string): Promise<T[]> => {
    const [rows] = await connection.query({ sql, timeout: timeoutMilliseconds })
    return rows as T[]
  }
}
