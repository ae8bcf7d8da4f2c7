import type { Finding } from './finding.ts'

/** What a node says of itself, or undefined where it does not answer. */
export interface NodeFacts {
  readonly name: string
  readonly state: string
  readonly failure: string | null
  readonly memcachedVersion: string | null
  /** Its machine's clock less this one's, as far as HTTP's whole seconds tell. */
  readonly clockSeconds: number | undefined
  readonly lagSeconds: number | null
  /** How far back its database keeps the log, and how far back it may need it. */
  readonly logKeptSeconds: number | undefined
  readonly logNeededSeconds: number | undefined
}

const clockSecondsMax = 3
const lagSecondsMax = 10
const oldestMemcached = [1, 6, 18]
/** From here on an item's CAS is its version. */
const versionedMemcached = [1, 6, 27]

export function checkNode(name: string, where: string, facts: NodeFacts | undefined): Finding[] {
  if (facts === undefined) {
    return [
      {
        severity: 'problem',
        where: name,
        check: 'node',
        found: `it does not answer at ${where}`,
        remedy: 'start it (systemctl start whitehole-node), or let its HTTP side listen where this machine reaches it',
      },
    ]
  }
  return [...checkState(facts), ...checkMemcached(facts), ...checkClock(facts), ...checkLog(facts)]
}

function checkState({ name, state, failure, lagSeconds }: NodeFacts): Finding[] {
  const findings: Finding[] = []
  if (state !== 'serving') {
    findings.push({
      severity: state === 'draining' ? 'note' : 'problem',
      where: name,
      check: 'state',
      found: `it is ${state}${failure === null ? '' : `: ${failure}`}`,
      remedy: state === 'draining' ? 'nothing, if that is meant' : 'its log says what it waits for',
    })
  }
  if (lagSeconds !== null && lagSeconds > lagSecondsMax) {
    findings.push({
      severity: 'advice',
      where: name,
      check: 'lag',
      found: `it is ${lagSeconds.toFixed(1)} s behind the primary`,
      remedy: 'see whether the standby lags itself, and whether this machine is overloaded',
    })
  }
  return findings
}

function checkMemcached({ name, memcachedVersion }: NodeFacts): Finding[] {
  if (memcachedVersion === null) return []
  if (isOlder(memcachedVersion, oldestMemcached)) {
    return [
      {
        severity: 'problem',
        where: name,
        check: 'memcached',
        found: `memcached ${memcachedVersion} is older than ${oldestMemcached.join('.')}, which was tried`,
        remedy: 'upgrade it, and restart the node',
      },
    ]
  }
  if (!isOlder(memcachedVersion, versionedMemcached)) return []
  return [
    {
      severity: 'note',
      where: name,
      check: 'memcached',
      found: `memcached ${memcachedVersion}: each gets asks the database for the token`,
      remedy: `nothing, unless gets is to cost what get costs: then ${versionedMemcached.join('.')} or later`,
    },
  ]
}

function checkClock({ name, clockSeconds }: NodeFacts): Finding[] {
  if (clockSeconds === undefined || Math.abs(clockSeconds) <= clockSecondsMax) return []
  return [
    {
      severity: 'advice',
      where: name,
      check: 'clock',
      found: `its machine's clock is about ${Math.abs(Math.round(clockSeconds))} s ${clockSeconds < 0 ? 'behind' : 'ahead of'} this one's`,
      remedy: 'let both machines take their time from NTP (chrony, systemd-timesyncd)',
    },
  ]
}

function checkLog({ name, logKeptSeconds, logNeededSeconds }: NodeFacts): Finding[] {
  if (logKeptSeconds === undefined || logNeededSeconds === undefined || logKeptSeconds >= logNeededSeconds) return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'retention',
      found: `its database keeps the log for ${Math.round(logKeptSeconds)} s, and a rebuild may need ${Math.round(logNeededSeconds)} s of it`,
      remedy: 'raise binlog_expire_logs_seconds (and max_binlog_total_size, if it is set) on every database',
    },
  ]
}

function isOlder(version: string, least: readonly number[]): boolean {
  const parts = version.split('.').map((part) => Number.parseInt(part, 10))
  for (const [index, wanted] of least.entries()) {
    const part = parts[index] ?? 0
    if (part !== wanted) return part < wanted
  }
  return false
}
