import type { DatabaseFacts } from '../domain/database-control.ts'
import type { ClusterReport, DatabaseReport } from '../domain/cluster-report.ts'
import { formatPosition } from '../domain/position.ts'
import { everyDatabase, type MachineState } from '../monitor/machine-state.ts'
import type { Monitor } from '../monitor/monitor.ts'
import { View } from '../monitor/view.ts'

export interface ReportContext {
  readonly addresses: Readonly<Record<string, string>>
  readonly actingMonitor: string | null
  readonly stuck: { readonly why: string; readonly cure: string } | null
}

/** What a monitor of a managed pair knows, for people and programs. */
export function reportOf(monitor: Monitor, { addresses, actingMonitor, stuck }: ReportContext): ClusterReport {
  const { state, record, acting } = monitor
  const databases = everyDatabase(state.config).map((name) => databaseReport(state, name, addresses[name] ?? ''))
  const roleOf = (name: string): DatabaseReport['role'] => {
    if (record === null) return 'unknown'
    return record.primary === name ? 'primary' : record.standby === name ? 'standby' : 'relay'
  }
  const primary = databases.find(({ name }) => name === record?.primary)
  const isReady =
    record?.stage === 'steady' &&
    record.mode === 'paired' &&
    primary?.readOnly === false &&
    // A relay that is away keeps nobody here from anything.
    databases.every(({ name, answers }) => answers || roleOf(name) === 'relay') &&
    state.memory.standbyBrokenSince === null
  return {
    monitor: state.config.self,
    pid: process.pid,
    acting,
    actingMonitor,
    ready: isReady,
    takeover: 'managed',
    mode: record?.mode ?? null,
    stage: record?.stage ?? null,
    epoch: record?.epoch ?? 0,
    primary: record?.primary ?? null,
    standby: record?.standby ?? null,
    databases: databases.map((one) => ({ ...one, role: roleOf(one.name) })),
    voters: state.config.voters.map((name) => ({ name, answers: acting ? hasReported(state, name) : null })),
    stuck,
  }
}

function databaseReport(state: MachineState, name: string, address: string): DatabaseReport {
  const seen = state.seen[name]
  const isFresh = seen !== undefined && state.now - seen.at <= 2 * state.config.timings.freshMilliseconds
  const sight = isFresh ? seen.sight : undefined
  const facts: DatabaseFacts | undefined = sight?.answers === true ? sight.facts : undefined
  const bad = state.memory.quarantined[name]
  return {
    name,
    address,
    role: 'unknown',
    answers: facts !== undefined,
    detail: sight?.answers === false ? sight.detail : (facts?.replication?.error ?? ''),
    readOnly: facts?.readOnly ?? null,
    position: facts === undefined ? null : formatPosition(facts.position),
    epoch: facts?.epoch ?? null,
    standbys: facts?.semiSync.clients ?? null,
    source: facts?.replication === undefined ? null : formatSource(facts.replication.source),
    quarantined: bad !== undefined && bad.instance === facts?.instance ? bad.gtids : null,
  }
}

function hasReported(state: MachineState, voter: string): boolean {
  const { leadership } = state
  if (leadership.kind !== 'acting' || leadership.chosen === null) return state.reports[voter] !== undefined
  return new View(state, leadership.chosen).reported(0).includes(voter)
}

function formatSource({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
