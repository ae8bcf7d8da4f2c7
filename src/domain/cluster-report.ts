import type { Mode, Stage } from './cluster-record.ts'

/** `GET /v1/cluster` of a monitor. */
export interface ClusterReport {
  readonly monitor: string
  readonly pid: number
  /** This monitor acts. */
  readonly acting: boolean
  /** Whoever acts, as far as this one knows. */
  readonly actingMonitor: string | null
  /** All is well: a primary is writable and, where there should be one, its standby works. */
  readonly ready: boolean
  readonly takeover: 'managed' | 'external'
  /** Of a managed pair, as a majority has recorded it; null before the first record. */
  readonly mode: Mode | null
  readonly stage: Stage | null
  readonly epoch: number
  readonly primary: string | null
  readonly standby: string | null
  readonly databases: readonly DatabaseReport[]
  readonly voters: readonly VoterEntry[]
  /** What no rule decides, and what a person can do about it. */
  readonly stuck: { readonly why: string; readonly cure: string } | null
}

export interface DatabaseReport {
  readonly name: string
  readonly address: string
  readonly role: 'primary' | 'standby' | 'relay' | 'member' | 'unknown'
  readonly answers: boolean
  /** Why it does not answer; what its replication complains of. */
  readonly detail: string
  readonly readOnly: boolean | null
  readonly position: string | null
  readonly epoch: number | null
  /** Semi-synchronous standbys attached. */
  readonly standbys: number | null
  readonly quarantined: string | null
  /** Whom it replicates from, `host:port`; null where from nobody, or it is not known. */
  readonly source: string | null
}

export interface VoterEntry {
  readonly name: string
  /** It has answered this monitor just now; null where this one does not act and so does not ask. */
  readonly answers: boolean | null
}
