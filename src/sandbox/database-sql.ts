import type { Position } from '../domain/position.ts'

/** Asks one database, as root; rejects where it does not answer in time. */
export type Ask = <T>(sql: string, values?: unknown[], milliseconds?: number) => Promise<T[]>

/** What a database says of itself. */
export interface DatabaseView {
  /** MySQL: also for root. */
  readonly readOnly: boolean
  /** The end of its own log: with log_slave_updates all that it has, its relay log aside. */
  readonly position: Position
  readonly semiSyncPrimary: boolean
  /** Semi-synchronous standbys attached. */
  readonly semiSyncClients: number
  /** Connection ids of attached standbys: a new one is a reconnect. */
  readonly attached: readonly number[]
  readonly replica: ReplicaView | undefined
}

export interface ReplicaView {
  readonly primaryPort: number
  readonly ioRunning: boolean
  readonly connected: boolean
  readonly applying: boolean
  /** What it received. */
  readonly received: Position
  readonly error: string
}

export interface Source {
  readonly port: number
  readonly user: string
  readonly password: string
}

/** How an engine words what a pair in a sandbox needs. */
export interface DatabaseSql {
  readonly view: (ask: Ask) => Promise<DatabaseView>
  /** Read-only for everybody, root's sessions included where the engine knows that. */
  readonly makeReadOnly: string
  readonly makeWritable: string
  /** Root may write, nobody else: what is left to do before a new primary is writable. */
  readonly admitRoot: string
  readonly enableSemiSync: string
  /** Ends and forgets replication; semi-sync off in both roles. */
  readonly leavePair: string
  /** Applies what was received, and receives no more. */
  readonly drain: (ask: Ask, seconds: number) => Promise<void>
  /** Replicates from there by GTID, from where its own log ends, semi-synchronously. */
  readonly follow: (ask: Ask, source: Source) => Promise<void>
}

export const replicationUser = 'whitehole_replication'
