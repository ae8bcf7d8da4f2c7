import { readFile } from 'node:fs/promises'
import type { Database } from './databases.ts'

/** The tables alone, and a namespace `1` of generation 5: for tests that need no routines. */
export async function createTables(database: Database): Promise<void> {
  const tables = await readFile(new URL('../../sql/0001-tables.sql', import.meta.url), 'utf8')
  await database.query('CREATE DATABASE IF NOT EXISTS memcached')
  await database.query(`USE memcached; ${tables}`)
  await database.query(
    "INSERT INTO memcached.mc_namespaces (ns_id, ns_name, generation) VALUES (1, 'one', 5), (2, 'two', 7)",
  )
}
