import type { Connection, RowDataPacket } from 'mysql2/promise'
import type { Dialect } from '../domain/position.ts'

/** What a database says of itself. */
export interface ServerFacts {
  readonly name: string
  readonly dialect: Dialect
  readonly version: string
  readonly variables: ReadonlyMap<string, string>
  readonly status: ReadonlyMap<string, string>
  /** One for each source that it replicates from. */
  readonly replication: readonly ReadonlyMap<string, string>[]
  readonly blackhole: boolean
  /** Its clock less this machine's, in seconds, and how far off that may be. */
  readonly clockSeconds: number
  readonly clockErrorSeconds: number
  /** Of its account for nodes: `SHOW GRANTS`, a line each; null where this login may not see them. */
  readonly nodeGrants: readonly string[] | null
}

/**
 * Asks only what hangs behind no waiting commit: SHOW MASTER STATUS does.
 * @param grantsOf how to ask for the grants of the nodes' account; `SHOW GRANTS` for the login's own
 */
export async function readServerFacts(
  connection: Connection,
  { name, grantsOf }: { name: string; grantsOf: string },
): Promise<ServerFacts> {
  const variables = await pairs(connection, 'SHOW GLOBAL VARIABLES')
  const version = variables.get('version') ?? ''
  const dialect: Dialect = /mariadb/i.test(version) ? 'mariadb' : 'mysql'
  const [engines] = await connection.query<RowDataPacket[]>(
    "SELECT 1 FROM information_schema.ENGINES WHERE ENGINE = 'BLACKHOLE' AND SUPPORT IN ('YES', 'DEFAULT')",
  )
  const [replication] = await connection.query<RowDataPacket[]>(
    dialect === 'mariadb' ? 'SHOW ALL SLAVES STATUS' : 'SHOW REPLICA STATUS',
  )
  const asked = Date.now()
  const [[clock]] = await connection.query<RowDataPacket[]>('SELECT UNIX_TIMESTAMP(NOW(6)) AS now')
  const answered = Date.now()
  return {
    name,
    dialect,
    version,
    variables,
    status: await pairs(connection, "SHOW GLOBAL STATUS LIKE 'rpl_semi_sync%'"),
    replication: replication.map((row) => new Map(Object.entries(row).map(([key, value]) => [key, text(value)]))),
    blackhole: engines.length > 0,
    clockSeconds: Number(clock?.['now']) - (asked + answered) / 2000,
    clockErrorSeconds: (answered - asked) / 2000,
    nodeGrants: await grants(connection, grantsOf),
  }
}

async function pairs(connection: Connection, sql: string): Promise<Map<string, string>> {
  const [rows] = await connection.query<RowDataPacket[]>(sql)
  return new Map(rows.map((row) => [text(row['Variable_name']).toLowerCase(), text(row['Value'])]))
}

async function grants(connection: Connection, sql: string): Promise<string[] | null> {
  try {
    const [rows] = await connection.query<RowDataPacket[]>(sql)
    return rows.map((row) => text(Object.values(row)[0]))
  } catch {
    return null
  }
}

function text(value: unknown): string {
  if (Buffer.isBuffer(value)) return value.toString('utf8')
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
}
