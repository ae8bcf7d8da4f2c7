import type { Finding } from './finding.ts'
import type { ServerFacts } from './server-facts.ts'
import type { SettingNeeds } from './setting-checks.ts'

const clockSecondsMax = 2
const oldestMariadb = [10, 11]
const oldestMysql = [8, 0]

/** What a server says beside its settings. */
export function checkServer(facts: ServerFacts, shapeProblems: readonly string[]): Finding[] {
  return [...checkVersion(facts), ...checkEngine(facts, shapeProblems), ...checkFilters(facts), ...checkClock(facts)]
}

function checkVersion({ name, dialect, version }: ServerFacts): Finding[] {
  const oldest = dialect === 'mariadb' ? oldestMariadb : oldestMysql
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  const [leastMajor = 0, leastMinor = 0] = oldest
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'version',
      found: `${version} is older than ${dialect === 'mariadb' ? 'MariaDB' : 'MySQL'} ${oldest.join('.')}, which was tried`,
      remedy: 'upgrade it: the standby first, then switch over',
    },
  ]
}

function checkEngine({ name, blackhole, dialect }: ServerFacts, shapeProblems: readonly string[]): Finding[] {
  const findings: Finding[] = []
  if (!blackhole) {
    findings.push({
      severity: 'problem',
      where: name,
      check: 'blackhole',
      found: 'there is no BLACKHOLE engine: the log would fill a table',
      remedy: dialect === 'mariadb' ? 'load the plugin' : 'take a build of the server that has it',
      ...(dialect === 'mariadb' ? { sql: ["INSTALL SONAME 'ha_blackhole'"] } : {}),
      ...(dialect === 'mariadb' ? { option: 'plugin-load-add = ha_blackhole' } : {}),
    })
  }
  for (const problem of shapeProblems) {
    const isEngine = problem.startsWith('the engine of memcached.mc_storage')
    findings.push({
      severity: 'problem',
      where: name,
      check: isEngine ? 'engine' : 'schema',
      found: problem,
      remedy: isEngine
        ? 'make it BLACKHOLE, with the binlog off for the session: it is a change of this server alone'
        : 'run whitehole init (on the primary); a table that it did not make has to be renamed or dropped first',
      ...(isEngine
        ? {
            sql: [
              'SET SESSION sql_log_bin = 0',
              'ALTER TABLE memcached.mc_storage ENGINE=BLACKHOLE',
              'SET SESSION sql_log_bin = 1',
            ],
          }
        : {}),
    })
  }
  return findings
}

/** A filter leaves gaps in the sequence of GTIDs, which nodes take for lost log. */
function checkFilters({ name, replication }: ServerFacts): Finding[] {
  return replication.flatMap((source) => {
    const filters = [...source].filter(
      ([key, value]) => /^Replicate_.*(?:DB|Table|Domain_Ids|Server_Ids)$/i.test(key) && value !== '',
    )
    const harmless = ['Replicate_Do_DB'].map((key) => source.get(key)).every((value) => value === 'memcached')
    if (filters.length === 0) return []
    return [
      {
        severity: harmless && filters.length === 1 ? 'note' : 'problem',
        where: name,
        check: 'filters',
        found: `it replicates a part alone: ${filters.map(([key, value]) => `${key} ${value}`).join(', ')}`,
        remedy:
          harmless && filters.length === 1
            ? 'nothing: database memcached is whole. It is no standby of anything else, and its sequence of GTIDs has gaps'
            : 'take the filter away, or filter by replicate_do_db = memcached and nothing else',
      } as const,
    ]
  })
}

function checkClock({ name, clockSeconds, clockErrorSeconds }: ServerFacts): Finding[] {
  if (Math.abs(clockSeconds) <= clockSecondsMax + clockErrorSeconds) return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'clock',
      found: `its clock is ${Math.abs(clockSeconds).toFixed(1)} s ${clockSeconds < 0 ? 'behind' : 'ahead of'} this machine's: it decides when keys expire`,
      remedy: 'let both machines take their time from NTP (chrony, systemd-timesyncd)',
    },
  ]
}

/** What one server alone can't tell. */
export function checkRoles(all: readonly ServerFacts[], { topology }: Pick<SettingNeeds, 'topology'>): Finding[] {
  return [
    ...checkIds(all),
    ...checkDialects(all),
    ...checkWritable(all),
    ...(topology === 'pair' ? checkSemiSync(all) : []),
    ...(topology === 'external' ? [externalNote] : []),
  ]
}

const externalNote: Finding = {
  severity: 'note',
  where: 'cluster',
  check: 'topology',
  found: 'somebody else manages these databases: an acknowledged write is as safe as their replication makes it',
  remedy: 'nothing: whitehole changes no setting of them and promotes nobody',
}

function checkIds(all: readonly ServerFacts[]): Finding[] {
  const seen = new Map<string, string>()
  return all.flatMap(({ name, variables }) => {
    const id = variables.get('server_id') ?? '0'
    const former = seen.get(id)
    seen.set(id, name)
    if (id !== '0' && former === undefined) return []
    return [
      {
        severity: 'problem',
        where: name,
        check: 'server_id',
        found: id === '0' ? 'server_id is 0: nobody can follow its log' : `server_id ${id} is also that of ${former}`,
        remedy: 'give each database a number of its own',
        option: 'server_id = <a number of its own>',
      } as const,
    ]
  })
}

function checkDialects(all: readonly ServerFacts[]): Finding[] {
  if (new Set(all.map(({ dialect }) => dialect)).size <= 1) return []
  return [
    {
      severity: 'problem',
      where: 'cluster',
      check: 'dialect',
      found: `MariaDB and MySQL side by side: ${all.map(({ name, dialect }) => `${name} ${dialect}`).join(', ')}`,
      remedy: 'take one of them: their GTIDs are not the same',
    },
  ]
}

function checkWritable(all: readonly ServerFacts[]): Finding[] {
  const writable = all.filter(({ variables }) => variables.get('read_only') === 'OFF')
  if (writable.length === 1) return []
  if (writable.length > 1) {
    const found = `more than one database is writable: ${writable.map((one) => one.name).join(', ')}`
    const replicas = writable.filter(({ replication }) => replication.length > 0)
    const common = {
      severity: 'problem',
      check: 'read_only',
      found,
      remedy: 'make all but the primary read-only',
    } as const
    if (replicas.length === 0) return [{ ...common, where: 'cluster' }]
    return replicas.map(({ name, dialect }) => ({
      ...common,
      where: name,
      sql: [`SET GLOBAL ${dialect === 'mysql' ? 'super_read_only' : 'read_only'} = ON`],
    }))
  }
  return [
    {
      severity: 'problem',
      where: 'cluster',
      check: 'read_only',
      found: 'no database is writable: writes fail',
      remedy: 'SET GLOBAL read_only = OFF on the one that is to be the primary, and on no other',
    },
  ]
}

function checkSemiSync(all: readonly ServerFacts[]): Finding[] {
  const primary = all.find(({ variables }) => variables.get('read_only') === 'OFF')
  if (primary === undefined) return []
  const { status, dialect, name } = primary
  const word = dialect === 'mariadb' ? 'master' : 'source'
  const findings: Finding[] = []
  if (status.get(`rpl_semi_sync_${word}_status`) !== 'ON') {
    findings.push({
      severity: 'problem',
      where: name,
      check: 'semi_sync',
      found: 'semi-synchronous replication is not in force: a write of SQL users is on one machine alone',
      remedy: 'see that the standby is attached, then turn it off and on again (a fallback lasts until then)',
      sql: [`SET GLOBAL rpl_semi_sync_${word}_enabled = OFF`, `SET GLOBAL rpl_semi_sync_${word}_enabled = ON`],
    })
  }
  const clients = status.get(`rpl_semi_sync_${word}_clients`) ?? '0'
  if (clients !== '1') {
    findings.push({
      severity: 'problem',
      where: name,
      check: 'semi_sync',
      found: `${clients} replicas acknowledge for it: the standby alone may, or a write can be acknowledged without it`,
      remedy:
        clients === '0'
          ? 'start replication on the standby, with rpl_semi_sync enabled there before'
          : 'turn semi-sync off on every replica but the standby, and restart their replication',
    })
  }
  return findings
}
