import { createHash } from 'node:crypto'
import { escape } from 'mysql2'
import { WhiteholeError } from '../domain/errors.ts'
import type { Dialect } from '../domain/position.ts'

export interface Account {
  readonly user: string
  /** As the server matches it: `127.0.0.1`, `10.0.%`, `%`. */
  readonly host: string
  readonly password: string
}

/** Which accounts `init` makes; whoever is left out is somebody else's care. */
export interface Accounts {
  /** A node: reads and writes this schema, follows the log. */
  readonly node?: Account
  /** An application that uses SQL: calls the routines, reads the directory, nothing else. */
  readonly application?: Account
  /** The monitor: watches and changes who is primary, writes the marker and the epoch. It reads no values and no passwords. */
  readonly monitor?: Account
  /** The standby, when it reads the log of the primary. */
  readonly replication?: Account
  /** A relay in another data centre, when it reads the log of the standby. */
  readonly relay?: Account
}

export type Role = keyof Accounts

/** All statements that make an account and give it its rights, and the secret that none of them may be shown with. */
export interface AccountStatements {
  readonly role: Role
  readonly statements: readonly string[]
  readonly secret: string
}

/** Whoever's name the routines and triggers run under: locked, so nobody logs in as it (sql/0002-routines.sql says why). */
export function definerStatements(dialect: Dialect): string[] {
  const definer = accountName({ user: 'whitehole_definer', host: 'localhost' })
  // Not an empty password, which a password policy refuses, but one that no password has.
  const identified =
    dialect === 'mariadb'
      ? `IDENTIFIED VIA mysql_native_password USING '*${'0'.repeat(40)}'`
      : `IDENTIFIED WITH caching_sha2_password AS '$A$005$${'whitehole'.padEnd(20, '.')}${'.'.repeat(43)}'`
  return [
    `CREATE USER IF NOT EXISTS ${definer} ${identified} ACCOUNT LOCK`,
    `ALTER USER ${definer} ACCOUNT LOCK`,
    `GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE, TRIGGER ON memcached.* TO ${definer}`,
  ]
}

/** @throws WhiteholeError `bad-configuration` for an account without user, host or password */
export function accountStatements(dialect: Dialect, accounts: Accounts): AccountStatements[] {
  return roles(accounts).map(([role, account]) => {
    if (account.user === '' || account.host === '' || account.password === '') {
      throw new WhiteholeError('bad-configuration', `the ${role} account needs a user, a host and a password`)
    }
    return {
      role,
      statements: statementsOf(dialect, { role, account, identified: identifiedBy(dialect, account.password) }),
      secret: account.password,
    }
  })
}

/** The same for a person to read, and to fill in. */
export function printableAccountStatements(dialect: Dialect, accounts: Accounts): string[] {
  return roles(accounts).flatMap(([role, account]) => {
    const identified =
      dialect === 'mariadb'
        ? `IDENTIFIED VIA mysql_native_password USING '<what SELECT PASSWORD(…) gives for the password of ${account.user}>'`
        : `IDENTIFIED WITH caching_sha2_password BY '<the password of ${account.user}>'`
    return statementsOf(dialect, { role, account, identified })
  })
}

function roles(accounts: Accounts): (readonly [Role, Account])[] {
  const { node, application, monitor, replication, relay } = accounts
  return [
    ...(node === undefined ? [] : [['node', node] as const]),
    ...(application === undefined ? [] : [['application', application] as const]),
    ...(monitor === undefined ? [] : [['monitor', monitor] as const]),
    ...(replication === undefined ? [] : [['replication', replication] as const]),
    ...(relay === undefined ? [] : [['relay', relay] as const]),
  ]
}

function statementsOf(dialect: Dialect, given: { role: Role; account: Account; identified: string }): string[] {
  const name = accountName(given.account)
  return [
    `CREATE USER IF NOT EXISTS ${name} ${given.identified}`,
    // So that a changed password comes into force.
    `ALTER USER ${name} ${given.identified}`,
    ...rights(dialect, given.role).map((right) => `GRANT ${right} TO ${name}`),
  ]
}

/** What an account of the role may do: `SELECT, INSERT ON memcached.mc_nodes`. */
export function rights(dialect: Dialect, role: Role): readonly string[] {
  const watch = dialect === 'mariadb' ? 'BINLOG MONITOR, SLAVE MONITOR' : 'REPLICATION CLIENT'
  const byRole: Readonly<Record<Role, readonly string[]>> = {
    node: [
      `REPLICATION SLAVE, ${watch} ON *.*`,
      'EXECUTE ON memcached.*',
      'SELECT ON memcached.mc_meta',
      // INSERT alone: neither UPDATE nor DELETE of the log would reach it.
      'INSERT ON memcached.mc_storage',
      ...['mc_namespaces', 'mc_stored_keys', 'mc_lanes', 'mc_nodes'].map(
        (table) => `SELECT, INSERT, UPDATE, DELETE ON memcached.${table}`,
      ),
    ],
    application: ['EXECUTE ON memcached.*', 'SELECT ON memcached.mc_stored_keys', 'SELECT ON memcached.mc_namespaces'],
    monitor: [
      ...monitorRights[dialect],
      'SELECT ON memcached.*',
      'UPDATE ON memcached.mc_meta',
      'EXECUTE ON PROCEDURE memcached.mc_mark',
      'EXECUTE ON PROCEDURE memcached.mc_note_event',
    ],
    // The right to administer connections lets it in where all connections are taken (races.md R33).
    replication: [
      dialect === 'mariadb'
        ? 'REPLICATION SLAVE, CONNECTION ADMIN ON *.*'
        : 'REPLICATION SLAVE, CONNECTION_ADMIN, SERVICE_CONNECTION_ADMIN ON *.*',
    ],
    // Never the right to administer connections: a primary that waits for its standby refuses a relay by `init_connect`.
    relay: ['REPLICATION SLAVE ON *.*'],
  }
  return byRole[role]
}

/** Replication, semi-sync, read_only and connections; the second port. Neither accounts nor anybody's tables. */
const monitorRights: Readonly<Record<Dialect, readonly string[]>> = {
  mariadb: [
    'PROCESS, RELOAD, BINLOG MONITOR, BINLOG ADMIN, SLAVE MONITOR, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN ON *.*',
  ],
  mysql: [
    'PROCESS, RELOAD, REPLICATION CLIENT ON *.*',
    'REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN, SERVICE_CONNECTION_ADMIN ON *.*',
    'SELECT ON performance_schema.*',
  ],
}

/**
 * What of the accounts can be made on a database that has no schema yet: for a standby before its first replication.
 * Not for the log: each database has its own.
 */
export function serverAccountStatements(dialect: Dialect, accounts: Accounts): string[] {
  const statements = accountStatements(dialect, accounts).flatMap((one) => one.statements)
  return [
    'SET sql_log_bin = 0',
    ...statements.filter((statement) => !/ ON (PROCEDURE memcached\.|memcached\.\w)/.test(statement)),
  ]
}

/**
 * MariaDB writes CREATE USER to its binlog word for word, so it gets the hash alone; MySQL writes the hash by itself. mysql2
 * speaks both methods without TLS; over a network the connection of `init` should have it, for MySQL's password is sent as it is.
 */
function identifiedBy(dialect: Dialect, password: string): string {
  if (dialect === 'mysql') return `IDENTIFIED WITH caching_sha2_password BY ${escape(password)}`
  return `IDENTIFIED VIA mysql_native_password USING '${nativePasswordHash(password)}'`
}

/** What MariaDB's PASSWORD() gives. */
export function nativePasswordHash(password: string): string {
  const once = createHash('sha1').update(password, 'utf8').digest()
  return `*${createHash('sha1').update(once).digest('hex').toUpperCase()}`
}

function accountName({ user, host }: { user: string; host: string }): string {
  return `${escape(user)}@${escape(host)}`
}
