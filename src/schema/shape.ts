import type { Connection, RowDataPacket } from 'mysql2/promise'

interface TableShape {
  readonly engine: string
  readonly columns: readonly string[]
  readonly primaryKey: readonly string[]
}

/**
 * What our tables must look like, whatever made them: the seed's first version has tables of the same names, and a server without
 * BLACKHOLE makes InnoDB of it in silence. Types in MySQL's words: MariaDB's display widths are taken off before the comparison.
 */
const shapes: Readonly<Record<string, TableShape>> = {
  mc_meta: { engine: 'InnoDB', columns: ['name varchar(64)', 'value varchar(255)'], primaryKey: ['name'] },
  mc_namespaces: {
    engine: 'InnoDB',
    columns: [
      'ns_id int',
      'ns_name varchar(64)',
      'generation int unsigned',
      'flush_due bigint unsigned',
      'mode varchar(16)',
      'default_ttl int unsigned',
      'max_ttl int unsigned',
      'max_value_bytes int unsigned',
      'quota_bytes bigint unsigned',
      'created timestamp',
    ],
    primaryKey: ['ns_id'],
  },
  mc_stored_keys: {
    engine: 'InnoDB',
    columns: [
      'ns_id int',
      'mc_key varbinary(250)',
      'version bigint unsigned',
      'created timestamp',
      'expire bigint unsigned',
      'flags bigint unsigned',
      'size int unsigned',
      'checksum int unsigned',
      'number bigint unsigned null',
    ],
    primaryKey: ['ns_id', 'mc_key'],
  },
  mc_storage: {
    engine: 'BLACKHOLE',
    columns: [
      'ns_id int',
      'mc_key varbinary(250)',
      'op tinyint unsigned',
      'version bigint unsigned',
      'expire bigint unsigned',
      'flags bigint unsigned',
      'mc_value longblob null',
    ],
    primaryKey: [],
  },
  mc_lanes: {
    engine: 'InnoDB',
    columns: ['lane varbinary(96)', 'incarnation bigint unsigned', 'seq bigint unsigned'],
    primaryKey: ['lane'],
  },
  mc_nodes: {
    engine: 'InnoDB',
    columns: [
      'name varchar(64)',
      'datacenter varchar(64)',
      'listener varchar(255)',
      'http varchar(255)',
      'started timestamp',
    ],
    primaryKey: ['name'],
  },
  mc_events: {
    engine: 'InnoDB',
    columns: [
      'seq bigint unsigned',
      'event_id char(36)',
      'at datetime(3)',
      'monitor varchar(64)',
      'event varchar(64)',
      'severity varchar(16)',
      'about varchar(64)',
      'epoch bigint unsigned',
      'text varchar(1000)',
      'facts varchar(4000)',
    ],
    primaryKey: ['seq'],
  },
}

/** What differs from the tables that this build works with, for people; empty where all is right. */
export async function shapeProblems(connection: Connection): Promise<string[]> {
  const [tables] = await connection.query<RowDataPacket[]>(
    "SELECT TABLE_NAME AS tableName, ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached'",
  )
  const [columns] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_NAME AS tableName, COLUMN_NAME AS name, COLUMN_TYPE AS type, IS_NULLABLE AS nullable
       FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'memcached' ORDER BY TABLE_NAME, ORDINAL_POSITION`,
  )
  const [keys] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_NAME AS tableName, COLUMN_NAME AS name FROM information_schema.STATISTICS
       WHERE TABLE_SCHEMA = 'memcached' AND INDEX_NAME = 'PRIMARY' ORDER BY TABLE_NAME, SEQ_IN_INDEX`,
  )
  return Object.entries(shapes).flatMap(([name, shape]) => {
    const table = tables.find((row) => row['tableName'] === name)
    if (table === undefined) return [`table memcached.${name} is missing`]
    const found = columns.filter((row) => row['tableName'] === name).map(columnText)
    const primaryKey = keys.filter((row) => row['tableName'] === name).map((row) => String(row['name']))
    return [
      ...difference(`the engine of memcached.${name}`, [String(table['engine'])], [shape.engine]),
      ...difference(`the columns of memcached.${name}`, found, shape.columns),
      ...difference(`the primary key of memcached.${name}`, primaryKey, shape.primaryKey),
    ]
  })
}

function columnText(row: RowDataPacket): string {
  const type = String(row['type']).replace(/int\(\d+\)/, 'int')
  return `${String(row['name'])} ${type}${row['nullable'] === 'YES' ? ' null' : ''}`
}

function difference(what: string, found: readonly string[], expected: readonly string[]): string[] {
  const [is, mustBe] = [found.join(', '), expected.join(', ')]
  return is.toLowerCase() === mustBe.toLowerCase()
    ? []
    : [`${what}: found ${is || 'none'}, expected ${mustBe || 'none'}`]
}

/** Our tables' names where the schema was not begun by `init`: it creates mc_meta before any other. */
export async function foreignTables(connection: Connection): Promise<string[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    "SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached' ORDER BY TABLE_NAME",
  )
  const names = rows.map((row) => String(row['name']))
  return names.includes('mc_meta') ? [] : names.filter((name) => name in shapes)
}
