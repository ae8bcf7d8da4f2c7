import type { Dialect, Position } from './position.ts'

/**
 * How the monitor sees and changes one database of a managed pair: between the executor of plans (src/monitor) and the adapter that
 * speaks SQL to MariaDB and MySQL. Decisions are the executor's alone; each method here does one idempotent thing: asked
 * again, also by another monitor after the first one died in the middle of it, it ends in the same state.
 *
 * Connections are the adapter's own, over the extra or admin port where there is one, so that waiting writers lock nobody out (R33).
 */
export interface DatabaseControl {
  readonly name: string
  readonly address: DatabaseTarget
  readonly dialect: Dialect

  /**
   * Safe to ask at any time, also of a primary with writers that wait for a standby: nothing that hangs behind them (no SHOW MASTER
   * STATUS; `semisync.md`). On a connection of its own, kept between probes, made anew after a failure.
   * Never rejects; answers within `timeoutMilliseconds`.
   */
  probe(timeoutMilliseconds: number): Promise<DatabaseSight>

  /**
   * Kills whoever holds this database's monitor lock (`KILL CONNECTION`: a marker that waits there may become visible, which harms
   * nothing) and takes it: GET_LOCK returns only once the former holder's session has ended, so none of its changes comes after.
   * @throws DatabaseControlError
   */
  takeLock(timeoutMilliseconds: number): Promise<LockedDatabase>

  /**
   * A small commit that proves that the standby acknowledges, and releases writers whose acknowledgement was lost (R32). No
   * lock, therefore by an account that a read-only database refuses: a marker on a standby would be an errant transaction.
   * Several may be under way, one of them blocked (each takes another row).
   * @returns the position that covers the marker, once COMMIT was answered
   * @throws DatabaseControlError `read-only` (nothing was written), `timed-out` (it may still commit)
   */
  commitMarker(timeoutMilliseconds: number): Promise<Position>

  close(): void
}

export interface DatabaseTarget {
  readonly host: string
  readonly port: number
  /** MariaDB's extra port, MySQL's admin port: where a standby replicates from and the monitor connects to. */
  readonly adminPort: number | undefined
}

export type DatabaseSight =
  | { readonly answers: true; readonly facts: DatabaseFacts }
  /**
   * `refused`: nobody listens there, so the server is down or its machine has just started. `silent`: nothing came in time.
   * `denied`: it lives, but won't have us (1040, 1045, still starting, accounts locked).
   */
  | { readonly answers: false; readonly kind: 'refused' | 'silent' | 'denied'; readonly detail: string }

export interface DatabaseFacts {
  /** Other after each start of the server, the same between two; not made from a clock that may step. Safety never rests on it alone. */
  readonly instance: string
  readonly version: string
  readonly serverId: number
  /** For everybody but administrators. A pending change that waits behind writers counts as not yet made. */
  readonly readOnly: boolean
  /** `epoch` of `mc_meta`; undefined where there is no schema yet. */
  readonly epoch: number | undefined
  /** All that its own log holds: MariaDB `gtid_binlog_pos`, MySQL `gtid_executed`. On an isolated MariaDB primary that includes what nobody acknowledged. */
  readonly position: Position
  /**
   * For `compareHistory`: MariaDB `gtid_binlog_state` (the last number of each server, where a position has the last one only),
   * MySQL `gtid_executed`. Opaque.
   */
  readonly history: string
  /** Undefined where it is no replica of anybody. */
  readonly replication: ReplicationFacts | undefined
  readonly semiSync: SemiSyncFacts
  /** It waits for space, or said so (MariaDB 1021, MySQL 28; threads in "waiting for … disk space"). */
  readonly diskFull: boolean
  /** Unix seconds, by its own clock. */
  readonly clockSeconds: number
}

export interface ReplicationFacts {
  readonly source: { readonly host: string; readonly port: number }
  /** `connected`: the stream is up. `connecting`: it tries. `stopped`: it does not. */
  readonly receiver: 'connected' | 'connecting' | 'stopped'
  readonly applier: 'running' | 'stopped'
  /** All that it received, applied or not: MariaDB `Gtid_IO_Pos`, MySQL retrieved ∪ executed. */
  readonly received: Position
  /** Counts up whenever the source says that it lives (heartbeats received since the start): two probes tell whether it is heard. */
  readonly heartbeats: number
  /** The receiver's or the applier's last error, empty if there is none. */
  readonly error: string
}

export interface SemiSyncFacts {
  /** As a primary: commits wait for a standby. */
  readonly primaryEnabled: boolean
  /** The engine's own word (`…_status`): OFF although it is enabled means that it fell back and acknowledges alone. */
  readonly primaryActive: boolean
  /** Semi-synchronous standbys attached to it. */
  readonly clients: number
  /** Identities of what is attached as a standby (connection ids): a new one is a reconnect, and due a marker. */
  readonly attached: readonly string[]
  /** Commits that wait for the standby at this moment; some engines count several as one. */
  readonly waiting: number
  /** Commits that went through without a standby since the start: growth in `paired` is an alarm. */
  readonly unacknowledged: number
  /** As a standby: it asks for semi-sync and acknowledges. */
  readonly standbyEnabled: boolean
}

/**
 * Changes, all over the one connection that holds the lock: they can't come after a successor has it. Once that connection is gone,
 * or a method timed out (then the connection is severed, for what was asked may still be under way), every method rejects with `lock-lost`.
 */
export interface LockedDatabase {
  readonly held: boolean

  /** The receiver alone: from here on this database acknowledges nothing for its former primary. Answers once it has stopped. */
  stopReceiving(timeoutMilliseconds: number): Promise<void>

  /**
   * Applies everything that was received; needs `stopReceiving` before. Never restarts replication before that is done: the relay
   * log would be thrown away.
   * @returns where its own log ends then
   */
  drain(timeoutMilliseconds: number): Promise<Position>

  /**
   * Semi-sync with all that makes it a fence: infinite timeout, AFTER_SYNC, waits also without a standby, then enabled (off and on
   * again where its status fell back). The standby must be attached and caught up.
   */
  enableSemiSync(timeoutMilliseconds: number): Promise<void>

  /** Writers that wait get their OK. Only once a majority has recorded `solo`. */
  disableSemiSync(timeoutMilliseconds: number): Promise<void>

  /**
   * Ends every reader of this database's log but its standby (nodes, relays that are to follow the standby): what follows a
   * primary in `paired` would see what the standby may never get. Nodes that come later see semi-sync enabled and leave by themselves; relays are
   * refused for as long as it is.
   */
  evictReaders(timeoutMilliseconds: number): Promise<void>

  /**
   * The first part of `prepare`, on a read-only database: replication stopped and forgotten (drained before), no semi-sync standby any more.
   * It takes a moment on the disk, and may be done while its former primary is told to follow it.
   */
  standAlone(timeoutMilliseconds: number): Promise<void>

  /**
   * Makes it a primary that is still read-only: stops and forgets replication (drained before), semi-sync as told, then commits the
   * epoch into `mc_meta` (this connection may write while the database is read-only), which is the epoch's first transaction.
   * @returns the position that covers it
   */
  prepare(given: { epoch: number; semiSync: boolean }, timeoutMilliseconds: number): Promise<Position>

  /** `read_only = 0`, and nothing else. */
  makeWritable(timeoutMilliseconds: number): Promise<void>

  /**
   * `read_only = 1` on a healthy primary, for a switchover: statements under way end, later ones get 1290. Rejects with `timed-out`
   * where something holds it up; then the database is as it was before (the pending change is withdrawn).
   * @returns where its log ends, for nothing comes after it
   */
  makeReadOnly(timeoutMilliseconds: number): Promise<Position>

  /**
   * A former primary that still lives: nobody may write any more, whoever waits is let go without an OK. New sessions refused without a
   * trace in the log or the accounts (MariaDB `init_connect`, MySQL `offline_mode`; administrators still get in), sessions ended
   * (MariaDB: KILL SOFT CONNECTION, never plain KILL), `read_only = 1`.
   * `pending`: the change of read_only stays behind its waiters; that is a fence too, and only a kill of the server ends it. It is kept
   * up as long as this process lives: a server gives up the wait of a client that has gone.
   * This object's connection is then lost.
   */
  fence(timeoutMilliseconds: number): Promise<'complete' | 'pending'>

  /**
   * Replicates from there by GTID and asks for semi-sync: read-only, not a semi-sync primary, semi-sync standby enabled before the
   * receiver starts, then both threads started. Does nothing where it already does so. Drains first if it has a relay log. Heartbeats
   * twice a second, endless retries. Undoes `fence`
   * (sessions let in again), as `makeWritable` does. The source must have the replication account (`ensureReplicationAccount`).
   */
  follow(source: DatabaseTarget, timeoutMilliseconds: number): Promise<void>

  /**
   * The same as a relay: asynchronous, with the relays' account, from its own place on (a filtered one has executed more than its log
   * holds). What it has received and not applied is thrown away: nobody was told that it has it, and the source has it too.
   */
  followAsRelay(source: DatabaseTarget, timeoutMilliseconds: number): Promise<void>

  /** On whoever is followed: without a trace in the log, with CONNECTION ADMIN so that it gets in where connections are used up. */
  ensureReplicationAccount(timeoutMilliseconds: number): Promise<void>

  /** Waits until its own log covers the position. Rejects with `timed-out` and keeps the lock. */
  waitForPosition(position: Position, timeoutMilliseconds: number): Promise<void>

  /**
   * What it has and the primary does not, by both `history`s.
   * @param relay it is to follow as a relay. `filtered`: its log holds less than it has executed, by right. Errant is also one that lacks what
   * it wrote itself: a relay ignores what bears its own server id, and would pass over it without a word
   */
  compareHistory(primary: DatabaseFacts, relay?: { readonly filtered: boolean }): Promise<HistoryVerdict>

  /**
   * The other way round, for a standby that has come to where the primary's log ended after `primary` was looked at: what its own log lacks of
   * that, as text for people. Empty unless something was passed over in silence.
   */
  passedOver(primary: DatabaseFacts): Promise<string>

  /** Lets the lock go; nothing that was done is undone. */
  release(): void
}

export type HistoryVerdict =
  /** Nothing: it may follow. */
  | { readonly kind: 'contained' }
  /**
   * Transactions that the primary lacks, as text for people. `truncate`: a restart as standby removes them (MariaDB, not yet
   * committed in the engine: `init_rpl_role=SLAVE` after a kill). `rebuild`: only a copy of the primary does.
   */
  | { readonly kind: 'errant'; readonly gtids: string; readonly cure: 'truncate' | 'rebuild' }

/** What SQL can't do to a database: its process and its files. Commands from the configuration, the sandbox's own supervisor, or nobody. */
export interface DatabaseHost {
  /** Kills the server (never a clean stop: that releases its waiters) and starts it in this role. Standby: `init_rpl_role=SLAVE` on MariaDB. */
  restart(role: 'primary' | 'standby', signal: AbortSignal): Promise<void>
  /** Throws its data away and fills it from the primary. Only where the databases are whitehole's own (a dedicated pair). */
  rebuild(from: DatabaseTarget, signal: AbortSignal): Promise<void>
}

export type DatabaseControlErrorCode =
  /** No connection, or it broke. */
  | 'away'
  /** The time is over; whether it was done is open unless the method says otherwise. */
  | 'timed-out'
  /** The lock is somebody else's by now, or was never had. */
  | 'lock-lost'
  | 'read-only'
  /** The server said no; the message has its words. */
  | 'refused'

export class DatabaseControlError extends Error {
  readonly code: DatabaseControlErrorCode

  constructor(code: DatabaseControlErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'DatabaseControlError'
    this.code = code
  }
}

/** The name under GET_LOCK, on each database. */
export const monitorLockName = 'whitehole.monitor'

/** Under the same: whoever fills a database anew holds it, and no monitor changes the database meanwhile. */
export const rebuildLockName = 'whitehole.rebuild'
