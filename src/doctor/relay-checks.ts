import type { Finding } from './finding.ts'
import type { ServerFacts } from './server-facts.ts'

/** What the configuration says of a relay: a replica in another data centre (docs/DATACENTERS.md). */
export interface RelayPlace {
  readonly name: string
  readonly filtered: boolean
}

const lagSecondsMax = 10

/** Beside what every database needs. @param all every database that answered, relays among them */
export function checkRelay(place: RelayPlace, all: readonly ServerFacts[]): Finding[] {
  const facts = all.find(({ name }) => name === place.name)
  if (facts === undefined) return []
  // Whoever is writable was made the primary by a person, and is a relay no more for that time.
  if (facts.variables.get('read_only') === 'OFF') return checkPromoted(facts, all)
  return [...checkVote(facts), ...checkFilter(facts, place), ...checkSource(facts, all)]
}

function checkPromoted({ name }: ServerFacts, all: readonly ServerFacts[]): Finding[] {
  const others = all.filter((one) => one.name !== name && one.variables.get('read_only') === 'OFF')
  if (others.length > 0) return []
  return [
    {
      severity: 'advice',
      where: name,
      check: 'relay',
      found: 'it is the primary: every commit of home crosses the link, and it has no standby beside it',
      remedy: 'once home works again: whitehole switchover --to a database of the pair',
    },
  ]
}

/** A relay that acknowledges counts as a standby: then a write is told to be safe that the standby may not have. */
function checkVote({ name, dialect, variables, status }: ServerFacts): Finding[] {
  const word = dialect === 'mariadb' ? 'slave' : 'replica'
  const enabled = `rpl_semi_sync_${word}_enabled`
  const isOn = variables.get(enabled) === 'ON' || status.get(`rpl_semi_sync_${word}_status`) === 'ON'
  if (!isOn) return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'relay_semi_sync',
      found: `${enabled} is ON: it acknowledges writes like a standby, which the standby then need not have`,
      remedy: 'turn it off and let replication start anew; take it out of its options file',
      sql: [`SET GLOBAL ${enabled} = OFF`, ...restartReceiver(dialect)],
      option: `${enabled} = OFF`,
    },
  ]
}

function restartReceiver(dialect: ServerFacts['dialect']): string[] {
  return dialect === 'mariadb'
    ? ['STOP SLAVE IO_THREAD', 'START SLAVE IO_THREAD']
    : ['STOP REPLICA IO_THREAD', 'START REPLICA IO_THREAD']
}

/** What filters beyond `memcached` are worth is told of every database (`filters`). */
function checkFilter({ name, replication }: ServerFacts, { filtered }: RelayPlace): Finding[] {
  // Before it follows anybody a server does not tell its filters.
  if (replication.length === 0) return []
  const isFiltered = replication.some((source) => (source.get('Replicate_Do_DB') ?? '') !== '')
  if (isFiltered === filtered) return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'relay_filter',
      found: isFiltered
        ? 'it replicates a part alone, and its nodes are not told: they take the gaps for lost log, and follow the standby over the link'
        : 'it replicates everything, and its nodes are told of a filter: they would not notice lost log',
      remedy: isFiltered
        ? 'filtered: true for it in cluster.yaml, node.yaml and monitor.yaml of every machine, and restart those daemons; or take replicate-do-db out of its options file and fill it anew'
        : 'filtered: false for it in cluster.yaml, node.yaml and monitor.yaml of every machine, and restart those daemons',
    },
  ]
}

function checkSource(facts: ServerFacts, all: readonly ServerFacts[]): Finding[] {
  const { name, replication } = facts
  const problem = (found: string, remedy: string): Finding[] => [
    { severity: 'problem', where: name, check: 'relay_source', found, remedy },
  ]
  const [source] = replication
  if (source === undefined) {
    return problem(
      'it follows nobody',
      'see that every monitor names it among databases.relays: the acting one attaches it, and says in its log why it does not',
    )
  }
  if (replication.length > 1) {
    return problem(
      `it follows ${replication.length} sources at once`,
      'RESET SLAVE ALL for all but the one of whitehole: its log must have what the standby has and nothing else',
    )
  }
  const receiver = source.get('Slave_IO_Running') ?? source.get('Replica_IO_Running')
  const applier = source.get('Slave_SQL_Running') ?? source.get('Replica_SQL_Running')
  if (receiver !== 'Yes' || applier !== 'Yes') {
    const why = [source.get('Last_IO_Error'), source.get('Last_SQL_Error')].filter(Boolean).join('; ')
    return problem(
      `it does not follow (receiver ${receiver ?? '?'}, applier ${applier ?? '?'})${why === '' ? '' : `: ${why}`}`,
      receiver === 'Yes'
        ? 'its rows differ from the log: let the monitor fill it anew (rebuildCommand), or fill it by hand'
        : 'see whether the link is up, and whether whitehole_relay may log in at its source (whitehole init --relay-password-file)',
    )
  }
  return [...checkNotThePrimary(name, source, all), ...checkLag(name, source)]
}

/** As far as addresses tell: over a tunnel they are others. */
function checkNotThePrimary(name: string, source: ReadonlyMap<string, string>, all: readonly ServerFacts[]): Finding[] {
  const primary = all.find(({ variables }) => variables.get('read_only') === 'OFF')
  const id = source.get('Master_Server_Id') ?? source.get('Source_Server_Id')
  if (primary === undefined || id === undefined || id !== primary.variables.get('server_id')) return []
  const word = primary.dialect === 'mariadb' ? 'master' : 'source'
  // In `solo` there is nobody else to follow.
  if (primary.status.get(`rpl_semi_sync_${word}_status`) !== 'ON') return []
  return [
    {
      severity: 'problem',
      where: name,
      check: 'relay_source',
      found: `it follows ${primary.name}, which is the primary: its nodes see writes that the standby may never get`,
      remedy:
        'let the monitors attach it (databases.relays): to the standby, with an account that has REPLICATION SLAVE alone',
    },
  ]
}

function checkLag(name: string, source: ReadonlyMap<string, string>): Finding[] {
  const text = source.get('Seconds_Behind_Master') ?? source.get('Seconds_Behind_Source') ?? ''
  const seconds = Number(text)
  if (text === '' || seconds <= lagSecondsMax) return []
  return [
    {
      severity: 'advice',
      where: name,
      check: 'relay_lag',
      found: `it is ${seconds} s behind its source, and so are the nodes that follow it`,
      remedy: 'see whether it catches up; else whether the link is wide enough, and its disk fast enough',
    },
  ]
}
