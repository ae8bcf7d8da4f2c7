/**
 * The settings of a database that whitehole manages, each with its reason (research figures in docs/adr/0001). Shared by the
 * sandbox, the tests and, later, `render mycnf` and `doctor`.
 */
export interface DatabaseSettings {
  readonly serverId: number
  readonly port: number
  /** A second port with its own connection limit, so that waiting writers can't lock out replication and monitoring. */
  readonly extraPort?: number
  readonly socket: string
  readonly dataDirectory: string
  readonly pidFile: string
  readonly errorLog: string
  readonly bindAddress: string
  /** SQL that the server runs at each start before it takes connections. */
  readonly initFile?: string
}

/** Options for MariaDB 10.11 or later, as command-line arguments (they win over any option file). */
export function mariadbArguments(settings: DatabaseSettings): string[] {
  return [
    '--no-defaults',
    ...common(settings),
    // BLACKHOLE is a plugin in MariaDB.
    '--plugin-load-add=ha_blackhole',
    '--gtid-strict-mode=1',
    '--gtid-domain-id=0',
    // An annotation repeats each statement's text: twice the size of the log.
    '--binlog-annotate-row-events=OFF',
    '--log-bin-compress=OFF',
    '--rpl-semi-sync-master-wait-point=AFTER_SYNC',
    // Never falls back to asynchronous by itself: without the standby, writes wait.
    '--rpl-semi-sync-master-timeout=1000000000',
    '--slave-net-timeout=10',
    // Its default gives up after a day.
    '--master-retry-count=0',
    '--skip-slave-start=1',
    '--innodb-log-file-size=32M',
    '--aria-log-file-size=8M',
    '--aria-pagecache-buffer-size=8M',
    ...(settings.extraPort === undefined ? [] : [`--extra-port=${settings.extraPort}`, '--extra-max-connections=20']),
  ]
}

/** Options for MySQL 8.4 or later. */
export function mysqlArguments(settings: DatabaseSettings): string[] {
  return [
    '--no-defaults',
    ...common(settings),
    '--mysqlx=0',
    // read_only alone lets whoever has CONNECTION_ADMIN write.
    '--super-read-only=1',
    '--gtid-mode=ON',
    '--enforce-gtid-consistency=ON',
    '--binlog-transaction-compression=OFF',
    '--plugin-load-add=semisync_source.so',
    '--plugin-load-add=semisync_replica.so',
    '--rpl-semi-sync-source-wait-point=AFTER_SYNC',
    // Never falls back to asynchronous by itself; the engine's largest number, 49.7 days.
    '--rpl-semi-sync-source-timeout=4294967295',
    '--replica-net-timeout=10',
    '--innodb-redo-log-capacity=32M',
    '--skip-replica-start=1',
    ...(settings.extraPort === undefined
      ? []
      : [`--admin-address=${settings.bindAddress}`, `--admin-port=${settings.extraPort}`]),
  ]
}

function common(settings: DatabaseSettings): string[] {
  return [
    `--datadir=${settings.dataDirectory}`,
    // Never one that servers share: at its start a server removes every temporary table (#sql…) that it finds there, and
    // queries of the other fail ("Error on delete of '/tmp/#sql-temptable-…'").
    `--tmpdir=${settings.dataDirectory}`,
    `--socket=${settings.socket}`,
    `--port=${settings.port}`,
    `--bind-address=${settings.bindAddress}`,
    `--pid-file=${settings.pidFile}`,
    `--log-error=${settings.errorLog}`,
    `--server-id=${settings.serverId}`,
    ...(settings.initFile === undefined ? [] : [`--init-file=${settings.initFile}`]),
    '--skip-name-resolve',
    // Writable only once whoever decides says so (SET GLOBAL read_only=0).
    '--read-only=1',
    '--log-bin=binlog',
    '--log-bin-index=binlog.index',
    '--relay-log=relay',
    '--relay-log-index=relay.index',
    '--log-slave-updates=1',
    '--binlog-format=ROW',
    '--binlog-row-image=FULL',
    '--binlog-checksum=CRC32',
    '--sync-binlog=1',
    '--innodb-flush-log-at-trx-commit=1',
    '--max-allowed-packet=64M',
    '--binlog-expire-logs-seconds=86400',
    '--max-binlog-size=256M',
    // A batch stays one row event, so that the standby fsyncs once a batch.
    '--binlog-row-event-max-size=1M',
    '--innodb-buffer-pool-size=128M',
    '--character-set-server=utf8mb4',
    '--max-connections=200',
  ]
}
