import { type ClusterRecord, parsePlace } from '../domain/cluster-record.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import { covers, type Position } from '../domain/position.ts'
import { majorityOf } from './ballot.ts'
import type { MachineState } from './machine-state.ts'

/** What the machine's state says about databases at this moment; asks nobody, changes nothing. */
export class View {
  readonly state: MachineState
  readonly record: ClusterRecord

  constructor(state: MachineState, record: ClusterRecord) {
    this.state = state
    this.record = record
  }

  get now(): number {
    return this.state.now
  }

  get majority(): number {
    return majorityOf(this.state.config.voters.length)
  }

  /** As this monitor's own probe has just found it. */
  facts(database: string): DatabaseFacts | undefined {
    const seen = this.state.seen[database]
    if (seen === undefined || this.now - seen.at > this.state.config.timings.freshMilliseconds) return undefined
    return seen.sight.answers ? seen.sight.facts : undefined
  }

  lost(database: string, since = 0): boolean {
    return this.#votersThatSay(database, 'lost', since).length >= this.majority
  }

  votersThatLost(database: string): readonly string[] {
    return this.#votersThatSay(database, 'lost', 0)
  }

  seenByMajority(database: string): boolean {
    return this.#votersThatSay(database, 'seen', 0).length >= this.majority
  }

  /** Voters that have reported since then, and not too long ago. */
  reported(since: number): readonly string[] {
    return this.#freshReports(since).map(([voter]) => voter)
  }

  /** What a position lacks of what voters may have acknowledged; undefined while fewer than a majority have told. */
  uncovered(position: Position, since = 0): readonly string[] | undefined {
    const reports = this.#freshReports(since)
    if (reports.length < this.majority) return undefined
    return reports.flatMap(([voter, { acknowledged }]) => {
      if (acknowledged === null || covers(position, parsePlace(acknowledged))) return []
      return [`${voter} knows of ${acknowledged}`]
    })
  }

  /**
   * The standby's receiver gets something from the primary: whoever else has lost it, it lives (F7). A stream that is up and silent
   * tells nothing: then the counters stand still.
   */
  hears(database: string): boolean {
    const facts = this.facts(database)
    if (facts?.replication?.receiver !== 'connected') return false
    const heard = this.state.memory.heard[database]
    return heard === undefined || this.now - heard.at <= this.state.config.timings.hearMilliseconds
  }

  /** It replicates from the recorded primary, and hears it. */
  follows(standby: DatabaseFacts): boolean {
    const { replication } = standby
    return (
      replication !== undefined &&
      this.#isPrimary(replication.source) &&
      replication.receiver === 'connected' &&
      replication.applier === 'running' &&
      standby.semiSync.standbyEnabled &&
      this.hears(this.record.standby)
    )
  }

  mayRun(key: string): boolean {
    return this.now >= (this.state.memory.retryAt[key] ?? 0)
  }

  /** How long this stage lasts, as far as this monitor knows. */
  get stageMilliseconds(): number {
    return this.now - this.state.memory.stageSince
  }

  #isPrimary(source: { readonly host: string; readonly port: number }): boolean {
    const target = this.state.config.targets[this.record.primary]
    return target !== undefined && target.host === source.host && (target.adminPort ?? target.port) === source.port
  }

  #votersThatSay(database: string, what: 'lost' | 'seen', since: number): readonly string[] {
    return this.#freshReports(since)
      .filter(([, report]) => report.databases[database] === what)
      .map(([voter]) => voter)
  }

  #freshReports(since: number): readonly (readonly [string, MachineState['reports'][string]['report']])[] {
    const { freshMilliseconds } = this.state.config.timings
    return this.state.config.voters.flatMap((voter) => {
      const entry = this.state.reports[voter]
      if (entry === undefined || entry.askedAt < since || this.now - entry.at > freshMilliseconds) return []
      return [[voter, entry.report] as const]
    })
  }
}
