import { Databases, type DatabaseTopology } from '../../src/adapters/databases.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Database, Engine } from './databases.ts'

export const follower = { user: 'follower', password: 'follower-secret' }

/** The tables of the log alone, without triggers and routines, and an account with the rights of a follower and no others. */
export function logTablesSql(engine: Engine): string {
  const rights =
    engine === 'mariadb' ? 'REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR' : 'REPLICATION SLAVE, REPLICATION CLIENT'
  return `
    CREATE DATABASE memcached;
    CREATE TABLE memcached.mc_storage (ns_id INT NOT NULL, mc_key VARBINARY(250) NOT NULL, op TINYINT UNSIGNED NOT NULL,
      version BIGINT UNSIGNED NOT NULL, expire BIGINT UNSIGNED NOT NULL, flags BIGINT UNSIGNED NOT NULL,
      mc_value LONGBLOB NULL) ENGINE=BLACKHOLE;
    CREATE TABLE memcached.mc_namespaces (ns_id INT NOT NULL PRIMARY KEY,
      ns_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE, generation INT UNSIGNED NOT NULL DEFAULT 0,
      flush_due BIGINT UNSIGNED NOT NULL DEFAULT 0, mode VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'store',
      default_ttl INT UNSIGNED NOT NULL DEFAULT 0, max_ttl INT UNSIGNED NOT NULL DEFAULT 0,
      max_value_bytes INT UNSIGNED NOT NULL DEFAULT 0, quota_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
      created TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB;
    CREATE TABLE memcached.mc_lanes (lane VARBINARY(96) NOT NULL PRIMARY KEY, incarnation BIGINT UNSIGNED NOT NULL,
      seq BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB;
    CREATE USER ${follower.user}@'127.0.0.1' IDENTIFIED BY '${follower.password}';
    GRANT ${rights} ON *.* TO ${follower.user}@'127.0.0.1';`
}

/** The databases as a node sees them. */
export function databasesAt(ports: readonly number[], topology: DatabaseTopology = 'single'): Databases {
  return new Databases(
    { addresses: ports.map((port) => ({ host: '127.0.0.1', port })), ...follower, database: 'memcached', topology },
    silentLogger,
  )
}

export async function createLogTables(database: Database): Promise<void> {
  await database.query(logTablesSql(database.engine))
}
