import type { Dialect } from '../domain/position.ts'
import type { Finding, Severity } from './finding.ts'
import type { ServerFacts } from './server-facts.ts'

export interface SettingNeeds {
  readonly topology: 'pair' | 'single' | 'external'
  /** How far back a node may need the log, in seconds. */
  readonly logSeconds: number
  /** The largest transaction of a node, in bytes. */
  readonly batchBytes: number
}

interface SettingCheck {
  /** The server's variable; the first that it has. */
  readonly names: readonly string[]
  readonly want: (needs: SettingNeeds) => string
  readonly right: (value: string, needs: SettingNeeds) => boolean
  /** `restart`: only its options file can change it. */
  readonly changes: 'live' | 'restart'
  readonly severity: Severity
  readonly why: string
  readonly dialect?: Dialect
  readonly topology?: 'pair'
}

const mebibyte = 1024 * 1024
/** Longer than any standby is away; each engine's largest number is beyond it. */
const semiSyncMillisecondsLeast = 1_000_000_000

const on = (names: readonly string[], more: Omit<SettingCheck, 'names' | 'want' | 'right'>): SettingCheck => ({
  names,
  want: () => 'ON',
  right: (value) => isOn(value),
  ...more,
})

const off = (names: readonly string[], more: Omit<SettingCheck, 'names' | 'want' | 'right'>): SettingCheck => ({
  names,
  want: () => 'OFF',
  right: (value) => !isOn(value),
  ...more,
})

const exactly = (name: string, want: string, more: Omit<SettingCheck, 'names' | 'want' | 'right'>): SettingCheck => ({
  names: [name],
  want: () => want,
  right: (value) => value.toUpperCase() === want.toUpperCase(),
  ...more,
})

const atLeast = (
  names: readonly string[],
  least: (needs: SettingNeeds) => number,
  more: Omit<SettingCheck, 'names' | 'want' | 'right'>,
): SettingCheck => ({
  names,
  want: (needs) => String(least(needs)),
  right: (value, needs) => Number(value) >= least(needs),
  ...more,
})

/** Every setting that research and tests have shown to matter. The values are those of `render mycnf`. */
const checks: readonly SettingCheck[] = [
  on(['log_bin'], {
    changes: 'restart',
    severity: 'problem',
    why: 'without a binlog there is nothing for nodes to read',
  }),
  on(['log_slave_updates', 'log_replica_updates'], {
    changes: 'restart',
    severity: 'problem',
    why: 'nodes follow a replica, whose own log must have what the primary wrote',
  }),
  exactly('binlog_format', 'ROW', { changes: 'live', severity: 'problem', why: 'nodes read rows, never statements' }),
  exactly('binlog_row_image', 'FULL', {
    changes: 'live',
    severity: 'problem',
    why: 'a partial row does not say which key it is about',
  }),
  exactly('binlog_checksum', 'CRC32', {
    changes: 'live',
    severity: 'advice',
    why: 'a node can only notice a damaged event by its checksum',
  }),
  exactly('sync_binlog', '1', {
    changes: 'live',
    severity: 'problem',
    why: 'after a crash the log may lack what InnoDB has: a hole that nodes see as lost log',
  }),
  exactly('innodb_flush_log_at_trx_commit', '1', {
    changes: 'live',
    severity: 'advice',
    why: "an acknowledged write may be lost with this machine's power",
  }),
  atLeast(['max_allowed_packet'], ({ batchBytes }) => batchBytes * 2, {
    changes: 'live',
    severity: 'problem',
    why: "a node's largest batch would be refused",
  }),
  {
    names: ['binlog_expire_logs_seconds'],
    want: ({ logSeconds }) => String(Math.max(86_400, Math.ceil(logSeconds))),
    right: (value, { logSeconds }) => Number(value) === 0 || Number(value) >= logSeconds,
    changes: 'live',
    severity: 'problem',
    why: 'a node that was away, or that rebuilds, finds its place in the log purged',
  },
  atLeast(['binlog_row_event_max_size'], () => mebibyte, {
    changes: 'restart',
    severity: 'advice',
    why: 'a batch of writes becomes many events',
  }),
  on(['gtid_strict_mode'], {
    changes: 'live',
    severity: 'problem',
    dialect: 'mariadb',
    why: 'a diverged database would go on in silence',
  }),
  off(['binlog_annotate_row_events'], {
    changes: 'live',
    severity: 'advice',
    dialect: 'mariadb',
    why: "each statement's text makes the log twice as large",
  }),
  off(['log_bin_compress'], {
    changes: 'live',
    severity: 'problem',
    dialect: 'mariadb',
    why: 'nodes read no compressed events',
  }),
  exactly('rpl_semi_sync_master_wait_point', 'AFTER_SYNC', {
    changes: 'live',
    severity: 'problem',
    dialect: 'mariadb',
    topology: 'pair',
    why: 'others see a write before it is on the standby',
  }),
  atLeast(['rpl_semi_sync_master_timeout'], () => semiSyncMillisecondsLeast, {
    changes: 'live',
    severity: 'problem',
    dialect: 'mariadb',
    topology: 'pair',
    why: 'without its standby the primary would acknowledge what is on one machine alone',
  }),
  exactly('gtid_mode', 'ON', { changes: 'restart', severity: 'problem', dialect: 'mysql', why: 'positions are GTIDs' }),
  on(['enforce_gtid_consistency'], { changes: 'live', severity: 'problem', dialect: 'mysql', why: 'GTIDs need it' }),
  off(['binlog_transaction_compression'], {
    changes: 'live',
    severity: 'problem',
    dialect: 'mysql',
    why: 'nodes read no compressed transactions',
  }),
  exactly('binlog_row_value_options', '', {
    changes: 'live',
    severity: 'advice',
    dialect: 'mysql',
    why: 'nodes read whole rows',
  }),
  on(['replica_preserve_commit_order'], {
    changes: 'live',
    severity: 'problem',
    dialect: 'mysql',
    why: "a replica's log would have another order than the primary's",
  }),
  exactly('rpl_semi_sync_source_wait_point', 'AFTER_SYNC', {
    changes: 'live',
    severity: 'problem',
    dialect: 'mysql',
    topology: 'pair',
    why: 'others see a write before it is on the standby',
  }),
  atLeast(['rpl_semi_sync_source_timeout'], () => semiSyncMillisecondsLeast, {
    changes: 'live',
    severity: 'problem',
    dialect: 'mysql',
    topology: 'pair',
    why: 'without its standby the primary would acknowledge what is on one machine alone',
  }),
  {
    names: ['extra_port', 'admin_port'],
    want: () => '3307',
    right: (value) => Number(value) > 0,
    changes: 'restart',
    severity: 'advice',
    topology: 'pair',
    why: "when writers wait for the standby they can fill all connections, and the standby's own is then refused",
  },
]

export function checkSettings(facts: ServerFacts, needs: SettingNeeds): Finding[] {
  return checks
    .filter(({ dialect = facts.dialect }) => dialect === facts.dialect)
    .filter(({ topology = needs.topology }) => topology === needs.topology)
    .flatMap((check) => checkOne(check, facts, needs))
}

function checkOne(check: SettingCheck, facts: ServerFacts, needs: SettingNeeds): Finding[] {
  const name = check.names.find((one) => facts.variables.has(one))
  // A server that does not know the setting does not have the fault: MariaDB 12 has dropped some of them.
  const value = name === undefined ? undefined : facts.variables.get(name)
  if (name === undefined || value === undefined || check.right(value, needs)) return []
  const want = check.want(needs)
  const option = `${name} = ${want}`
  const live = check.changes === 'live'
  return [
    {
      severity: check.severity,
      where: facts.name,
      check: name,
      found: `${name} is ${value === '' ? 'empty' : value}: ${check.why}`,
      remedy: live
        ? `SET GLOBAL ${name} = ${literal(want)}, and ${option} in its options file`
        : `${option} in its options file, then restart it (the standby first, then switch over)`,
      option,
      ...(live ? { sql: [`SET GLOBAL ${name} = ${literal(want)}`] } : {}),
    },
  ]
}

function literal(value: string): string {
  return /^(?:\d+|ON|OFF)$/.test(value) ? value : `'${value}'`
}

function isOn(value: string): boolean {
  return ['ON', '1', 'TRUE', 'YES'].includes(value.toUpperCase())
}
