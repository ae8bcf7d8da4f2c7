import type { ClusterEvent, ClusterRecord } from '../domain/cluster-record.ts'
import type { DatabaseSight, DatabaseTarget } from '../domain/database-control.ts'
import type { AcceptedRecord } from './acceptor.ts'
import type { Ballot } from './ballot.ts'
import type { Operation, OperationResult, Track } from './operations.ts'
import type { Sighting } from './sightings.ts'
import type { VoterReply, VoterReport, VoterRequest } from './voter-protocol.ts'

/** All times are milliseconds of this process's monotonic clock, given with each event. */
export interface Timings {
  readonly refusedMilliseconds: number
  readonly silentMilliseconds: number
  /** A standby that heard its primary so recently says that the primary lives. */
  readonly hearMilliseconds: number
  /** Commits that wait so long while nothing moves: the standby does not work. */
  readonly stallMilliseconds: number
  /** A standby that does not work for so long: `solo`. */
  readonly soloMilliseconds: number
  /** The same where a majority of voters has lost it, or it hears nothing from the primary. */
  readonly soloLostMilliseconds: number
  /** A plan that needs the standby waits so long for it before it goes on without. */
  readonly openPairedMilliseconds: number
  readonly switchoverMilliseconds: number
  /** Older probes and reports count for nothing. */
  readonly freshMilliseconds: number
  readonly reportEveryMilliseconds: number
  /** A monitor that acts is not heard for so long (plus as much again for each monitor named before this one): stand in. */
  readonly actingSilentMilliseconds: number
  readonly resendMilliseconds: number
  /** After a failed operation. */
  readonly retryMilliseconds: number
  /** Between two takeovers … */
  readonly settleMilliseconds: number
  /** … and after one whose former primary turned out to have lived on: its link comes and goes. */
  readonly antiFlapMilliseconds: number
}

export const timingsDefault: Timings = {
  refusedMilliseconds: 400,
  silentMilliseconds: 1200,
  hearMilliseconds: 1200,
  stallMilliseconds: 1000,
  soloMilliseconds: 2500,
  soloLostMilliseconds: 700,
  openPairedMilliseconds: 2500,
  switchoverMilliseconds: 2000,
  freshMilliseconds: 1500,
  reportEveryMilliseconds: 250,
  actingSilentMilliseconds: 1200,
  resendMilliseconds: 250,
  retryMilliseconds: 500,
  settleMilliseconds: 1500,
  antiFlapMilliseconds: 10_000,
}

export interface RelayConfig {
  readonly name: string
  /** It replicates our database alone. */
  readonly filtered: boolean
  /** Where it reaches each database of the pair. */
  readonly sources: Readonly<Record<string, DatabaseTarget>>
}

export interface MachineConfig {
  readonly self: string
  /** In the order of the configuration: the first ones stand in first. */
  readonly monitors: readonly string[]
  /** Monitors and nodes; this monitor among them. */
  readonly voters: readonly string[]
  /** The pair: primary and standby, save after a relay was made the primary by force. */
  readonly databases: readonly [string, string]
  /** Replicas in other data centres; none of them becomes the primary without a person. */
  readonly relays?: readonly RelayConfig[]
  /** Where each database is, as a standby names its source. */
  readonly targets: Readonly<Record<string, DatabaseTarget>>
  /** What can be done to a database's process without a person. */
  readonly hosts: Readonly<Record<string, { readonly restart: boolean; readonly rebuild: boolean }>>
  readonly timings: Timings
}

export interface Seen {
  readonly startedAt: number
  readonly at: number
  readonly sight: DatabaseSight
}

/**
 *               own voter hears nobody act            a majority would promise             a majority promised
 *   watching ─────────────────────────────▶ canvassing ─────────────────▶ preparing ─────────────────▶ acting
 *      ▲  ▲                                    │  refused, or no majority     │  refused, or no majority     │
 *      │  └────────────────────────────────────┴──────────────────────────────┘                              │
 *      └─────────────────────────────────────────────────────────────── a voter promised somebody else ──────┘
 */
export type Leadership =
  | { readonly kind: 'watching'; readonly patienceUntil: number }
  | {
      readonly kind: 'canvassing'
      readonly ballot: Ballot
      readonly since: number
      readonly granted: readonly string[]
    }
  | {
      readonly kind: 'preparing'
      readonly ballot: Ballot
      readonly since: number
      readonly promises: Readonly<Record<string, AcceptedRecord | null>>
    }
  | Acting

export interface Acting {
  readonly kind: 'acting'
  readonly ballot: Ballot
  readonly since: number
  readonly serial: number
  /** What a majority has on disk; null where there never was a record. Not known yet while the first proposal repeats what was found. */
  readonly chosen: ClusterRecord | null
  /** At most one: the next is not offered before this one is chosen, so that whoever stands in finds the end of one history. */
  readonly proposal: Proposal | null
  readonly askedAt: number
}

export interface Proposal {
  readonly offer: AcceptedRecord
  readonly acceptedBy: readonly string[]
  readonly sentAt: number
}

export interface Running {
  readonly id: number
  readonly operation: Operation
  readonly startedAt: number
}

/** What the acting monitor remembers of this stage; a successor starts without it. */
export interface Memory {
  readonly stageSince: number
  /** When each database last heard from its source, told by its counters. */
  readonly heard: Readonly<Record<string, { readonly mark: string; readonly at: number }>>
  readonly standbyBrokenSince: number | null
  /** Commits wait on the primary and its log stands still: acknowledgements don't arrive. */
  readonly stalled: { readonly position: string; readonly since: number } | null
  /** The last attempt to pair failed, and the standby was not attached anew since. */
  readonly pairFailed: boolean
  readonly drained: {
    readonly database: string
    readonly epoch: number
    readonly position: string
    readonly at: number
  } | null
  readonly handedOver: { readonly epoch: number; readonly position: string } | null
  readonly quarantined: Readonly<
    Record<string, { readonly instance: string; readonly gtids: string; readonly cure: 'truncate' | 'rebuild' }>
  >
  readonly fenced: Readonly<Record<string, string>>
  readonly marked: readonly string[]
  readonly retryAt: Readonly<Record<string, number>>
  readonly takeover: { readonly at: number; readonly lived: boolean } | null
  readonly told: Readonly<Record<string, string>>
}

export interface OperatorRequest {
  readonly id: number
  readonly kind: 'switchover' | 'forced-takeover'
  readonly to: string
  readonly at: number
}

export interface MachineState {
  readonly config: MachineConfig
  readonly now: number
  /** The highest round seen anywhere. */
  readonly round: number
  readonly leadership: Leadership
  readonly seen: Readonly<Record<string, Seen>>
  readonly sightings: Readonly<Record<string, Sighting>>
  /** What began before was overtaken by a change of our own. */
  readonly validFrom: Readonly<Record<string, number>>
  readonly reports: Readonly<
    Record<string, { readonly askedAt: number; readonly at: number; readonly report: VoterReport }>
  >
  readonly running: Readonly<Partial<Record<Track, Running>>>
  readonly nextId: number
  readonly memory: Memory
  readonly request: OperatorRequest | null
}

export type MachineEvent = { readonly now: number } & (
  | { readonly kind: 'tick' }
  /** Of this monitor's own probes. */
  | { readonly kind: 'sight'; readonly database: string; readonly startedAt: number; readonly sight: DatabaseSight }
  /** `askedAt`: when the question left. */
  | {
      readonly kind: 'reply'
      readonly voter: string
      readonly request: VoterRequest
      readonly askedAt: number
      readonly reply: VoterReply
    }
  /** This monitor's own voter was asked by one that acts. */
  | { readonly kind: 'heard'; readonly ballot: Ballot }
  | { readonly kind: 'done'; readonly id: number; readonly result: OperationResult }
  | { readonly kind: 'requested'; readonly request: Omit<OperatorRequest, 'at'> }
)

export type Command =
  | { readonly kind: 'ask'; readonly voter: string; readonly request: VoterRequest }
  | { readonly kind: 'probe'; readonly database: string }
  | { readonly kind: 'run'; readonly id: number; readonly operation: Operation; readonly ballot: Ballot }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'tell'; readonly event: ClusterEvent }
  | { readonly kind: 'answer'; readonly id: number; readonly ok: boolean; readonly text: string }

export const emptyMemory: Memory = {
  stageSince: 0,
  heard: {},
  standbyBrokenSince: null,
  stalled: null,
  pairFailed: false,
  drained: null,
  handedOver: null,
  quarantined: {},
  fenced: {},
  marked: [],
  retryAt: {},
  takeover: null,
  told: {},
}

export function everyDatabase({ databases, relays = [] }: MachineConfig): readonly string[] {
  return [...databases, ...relays.map(({ name }) => name)]
}
