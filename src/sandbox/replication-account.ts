import { escape } from 'mysql2'
import type { Dialect } from '../domain/position.ts'
import { replicationUser } from './database-sql.ts'

/**
 * The account that the standby replicates with, on each database, whichever is the primary, and therefore not in the log. Its right to
 * administer connections lets it in where all connections are taken (races.md R33).
 */
export function replicationAccount(dialect: Dialect, password: string): string[] {
  const name = `${replicationUser}@'127.0.0.1'`
  const [identified, more] =
    dialect === 'mariadb'
      ? [`IDENTIFIED BY ${escape(password)}`, 'CONNECTION ADMIN']
      : [
          `IDENTIFIED WITH caching_sha2_password BY ${escape(password)}`,
          // The second one opens the admin port.
          'CONNECTION_ADMIN, SERVICE_CONNECTION_ADMIN',
        ]
  return [
    'SET sql_log_bin = 0',
    `CREATE USER IF NOT EXISTS ${name} ${identified}`,
    `ALTER USER ${name} ${identified}`,
    `GRANT REPLICATION SLAVE, ${more} ON *.* TO ${name}`,
  ]
}
