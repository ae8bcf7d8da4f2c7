import { readdirSync, readFileSync } from 'node:fs'
import type { Dialect } from '../domain/position.ts'
import { splitStatements } from './statements.ts'

/** One numbered step of the schema. Its statements may run again: a migration that was interrupted is repeated from its beginning. */
export interface Migration {
  /** 1, 2, 3, …: `schema_version` once it is applied. */
  readonly number: number
  /** As in the file's name: `0001-tables`. */
  readonly name: string
  readonly text: string
  readonly statements: readonly string[]
}

/** Beside src/ in a checkout, beside dist/ when built. */
const folder = new URL('../../sql/', import.meta.url)

/** `0001-tables.sql` serves both dialects, `0004-lanes.mariadb.sql` one. */
const fileName = /^((\d{4})-[a-z0-9-]+)(?:\.(mariadb|mysql))?\.sql$/

export function loadMigrations(dialect: Dialect): Migration[] {
  const migrations: Migration[] = []
  for (const file of readdirSync(folder).toSorted()) {
    const match = fileName.exec(file)
    if (match === null) throw new Error(`sql/${file} is not named as a migration`)
    if (match[3] !== undefined && match[3] !== dialect) continue
    const text = readFileSync(new URL(file, folder), 'utf8')
    migrations.push({ number: Number(match[2]), name: match[1] ?? file, text, statements: splitStatements(text) })
  }
  migrations.forEach(({ number, name }, index) => {
    if (number !== index + 1) throw new Error(`sql/${name}.sql: expected the number ${index + 1}`)
  })
  return migrations
}

/** The schema version that this build makes and knows. */
export function knownSchemaVersion(dialect: Dialect): number {
  return loadMigrations(dialect).length
}
