import { closeDatabaseConnection, type DatabaseProbe, type Databases } from '../adapters/databases.ts'
import { parsePosition, type Position } from '../domain/position.ts'

/** From where on this database can still tell everything. */
export async function oldestPosition(databases: Databases, probe: DatabaseProbe): Promise<Position> {
  const connection = await databases.connect(probe.address, { database: '' })
  const ask = async (sql: string, values: unknown[] = []): Promise<Record<string, unknown>> => {
    const timeout = databases.access.connectTimeoutMilliseconds ?? 2000
    const [rows] = await connection.query({ sql, values, timeout })
    return (rows as Record<string, unknown>[])[0] ?? {}
  }
  try {
    if (probe.dialect === 'mysql') {
      const { position } = await ask('SELECT @@global.gtid_purged AS position')
      return parsePosition('mysql', String(position))
    }
    // An empty position would mean the same, but only until the first file is purged.
    const first = await ask('SHOW BINARY LOGS')
    const { position } = await ask('SELECT BINLOG_GTID_POS(?, 4) AS position', [first['Log_name']])
    if (typeof position !== 'string') throw new Error('the oldest file of the log was purged just now')
    return parsePosition('mariadb', position)
  } finally {
    closeDatabaseConnection(connection)
  }
}
