import type { Dialect } from '../domain/position.ts'

/**
 * The settings of a database that whitehole manages, each with its reason: one list for the sandbox, the tests, `render mycnf` and `doctor`.
 */
export interface DatabaseSetting {
  /** As an option: `log-bin`. */
  readonly name: string
  readonly value: string
  /** For whoever reads a rendered file. */
  readonly why?: string
}

/** What differs from database to database. */
export interface DatabaseIdentity {
  readonly serverId: number
  readonly port: number
  /** A second port with its own connection limit, so that waiting writers can't lock out replication and monitoring. */
  readonly extraPort?: number
  readonly bindAddress: string
  /** Whoever manages the databases makes one writable after each start; without such a one it starts writable. */
  readonly startsReadOnly?: boolean
}

/** A database beside others on one machine. */
export interface DatabaseSettings extends DatabaseIdentity {
  readonly socket: string
  readonly dataDirectory: string
  readonly pidFile: string
  readonly errorLog: string
  /** SQL that the server runs at each start before it takes connections. */
  readonly initFile?: string
}

/** The engine's largest: MySQL's is 49.7 days. */
const semiSyncTimeoutMilliseconds = { mariadb: '1000000000', mysql: '4294967295' } as const

/** MariaDB 10.11 or later, MySQL 8.4 or later. */
export function databaseSettings(dialect: Dialect, identity: DatabaseIdentity): DatabaseSetting[] {
  return [...identitySettings(dialect, identity), ...logSettings, ...(dialect === 'mariadb' ? mariadbLog : mysqlLog)]
}

/** What a relay in another data centre has beside them: those of a standby, so that it may become the primary if home is lost. */
export function relaySettings(dialect: Dialect, { filtered }: { readonly filtered: boolean }): DatabaseSetting[] {
  return [
    {
      name: dialect === 'mariadb' ? 'rpl-semi-sync-slave-enabled' : 'rpl-semi-sync-replica-enabled',
      value: 'OFF',
      why: 'no write waits for the other data centre, and none counts as safe because it is here',
    },
    ...(filtered
      ? [{ name: 'replicate-do-db', value: 'memcached', why: "database memcached alone, as the nodes' files say too" }]
      : []),
  ]
}

function identitySettings(dialect: Dialect, identity: DatabaseIdentity): DatabaseSetting[] {
  const { serverId, port, extraPort, bindAddress, startsReadOnly = true } = identity
  return [
    { name: 'server-id', value: String(serverId), why: 'unique among all databases and nodes' },
    { name: 'port', value: String(port) },
    { name: 'bind-address', value: bindAddress },
    ...(extraPort === undefined ? [] : extraPortSettings(dialect, { extraPort, bindAddress })),
    ...(startsReadOnly ? readOnlySettings(dialect) : []),
  ]
}

function extraPortSettings(
  dialect: Dialect,
  { extraPort, bindAddress }: { extraPort: number; bindAddress: string },
): DatabaseSetting[] {
  const why = "writers that wait can't lock out replication and monitoring"
  if (dialect === 'mariadb') {
    return [
      { name: 'extra-port', value: String(extraPort), why },
      { name: 'extra-max-connections', value: '20' },
    ]
  }
  // MySQL takes one address here, and no list: the one that others reach.
  const address = bindAddress.split(',').findLast((one) => one !== '127.0.0.1') ?? bindAddress
  return [
    { name: 'admin-address', value: address, why },
    { name: 'admin-port', value: String(extraPort) },
  ]
}

function readOnlySettings(dialect: Dialect): DatabaseSetting[] {
  const why = 'writable only once whoever decides says so (SET GLOBAL read_only=0)'
  const readOnly = { name: 'read-only', value: '1', why }
  if (dialect === 'mariadb') return [readOnly, { name: 'skip-slave-start', value: '1' }]
  return [
    readOnly,
    { name: 'super-read-only', value: '1', why: 'read_only alone lets whoever has CONNECTION_ADMIN write' },
    { name: 'skip-replica-start', value: '1' },
  ]
}

const logSettings: readonly DatabaseSetting[] = [
  { name: 'log-bin', value: 'binlog' },
  { name: 'log-bin-index', value: 'binlog.index' },
  { name: 'relay-log', value: 'relay' },
  { name: 'relay-log-index', value: 'relay.index' },
  { name: 'log-slave-updates', value: '1', why: 'nodes follow the standby, whose log has what the primary wrote' },
  { name: 'binlog-format', value: 'ROW', why: 'nodes read rows, never statements' },
  { name: 'binlog-row-image', value: 'FULL' },
  { name: 'binlog-checksum', value: 'CRC32', why: 'a node checks each event' },
  { name: 'sync-binlog', value: '1', why: 'after a crash the log has all that InnoDB has' },
  { name: 'innodb-flush-log-at-trx-commit', value: '1' },
  { name: 'max-allowed-packet', value: '64M', why: "twice a node's largest batch, and more" },
  { name: 'binlog-expire-logs-seconds', value: '86400', why: 'a node that was away resumes from its position' },
  { name: 'max-binlog-size', value: '256M' },
  {
    name: 'binlog-row-event-max-size',
    value: '1M',
    why: 'a batch stays one row event, so that the standby syncs once a batch',
  },
  { name: 'skip-name-resolve', value: '1' },
  { name: 'character-set-server', value: 'utf8mb4' },
]

const mariadbLog: readonly DatabaseSetting[] = [
  { name: 'plugin-load-add', value: 'ha_blackhole', why: 'BLACKHOLE is a plugin in MariaDB' },
  { name: 'gtid-strict-mode', value: '1' },
  { name: 'gtid-domain-id', value: '0' },
  { name: 'binlog-annotate-row-events', value: 'OFF', why: 'an annotation makes the log twice as large' },
  { name: 'log-bin-compress', value: 'OFF' },
  { name: 'rpl-semi-sync-master-wait-point', value: 'AFTER_SYNC' },
  {
    name: 'rpl-semi-sync-master-timeout',
    value: semiSyncTimeoutMilliseconds.mariadb,
    why: 'never falls back to asynchronous by itself: without the standby, writes wait',
  },
  { name: 'slave-net-timeout', value: '10' },
  { name: 'master-retry-count', value: '0', why: 'the default gives up after a day' },
]

const mysqlLog: readonly DatabaseSetting[] = [
  { name: 'mysqlx', value: '0' },
  { name: 'gtid-mode', value: 'ON' },
  { name: 'enforce-gtid-consistency', value: 'ON' },
  { name: 'binlog-transaction-compression', value: 'OFF', why: 'nodes read no compressed transactions' },
  { name: 'plugin-load-add', value: 'semisync_source.so' },
  { name: 'plugin-load-add', value: 'semisync_replica.so' },
  { name: 'rpl-semi-sync-source-wait-point', value: 'AFTER_SYNC' },
  {
    name: 'rpl-semi-sync-source-timeout',
    value: semiSyncTimeoutMilliseconds.mysql,
    why: 'never falls back to asynchronous by itself: without the standby, writes wait',
  },
  { name: 'replica-net-timeout', value: '10' },
]

/** As command-line arguments (they win over any option file), for a small server beside others. */
export function mariadbArguments(settings: DatabaseSettings): string[] {
  return serverArguments('mariadb', settings, [
    '--innodb-log-file-size=32M',
    '--aria-log-file-size=8M',
    '--aria-pagecache-buffer-size=8M',
  ])
}

export function mysqlArguments(settings: DatabaseSettings): string[] {
  return serverArguments('mysql', settings, ['--innodb-redo-log-capacity=32M'])
}

function serverArguments(dialect: Dialect, settings: DatabaseSettings, sizes: readonly string[]): string[] {
  return [
    '--no-defaults',
    `--datadir=${settings.dataDirectory}`,
    // Never one that servers share: at its start a server removes every temporary table (#sql…) that it finds there, and
    // queries of the other fail ("Error on delete of '/tmp/#sql-temptable-…'").
    `--tmpdir=${settings.dataDirectory}`,
    `--socket=${settings.socket}`,
    `--pid-file=${settings.pidFile}`,
    `--log-error=${settings.errorLog}`,
    ...(settings.initFile === undefined ? [] : [`--init-file=${settings.initFile}`]),
    ...databaseSettings(dialect, settings).map(({ name, value }) => `--${name}=${value}`),
    '--innodb-buffer-pool-size=128M',
    '--max-connections=200',
    ...sizes,
  ]
}
