import type { LogEntry } from '../../domain/log-entry.ts'
import type { Gtid } from '../../domain/position.ts'

/** What an event of the binlog means to us. */
export type BinlogEvent =
  /** A file begins; `restarted` where the server began it after a (re)start, so that whatever was unfinished never will be. */
  | { readonly kind: 'format'; readonly serverVersion: string; readonly restarted: boolean }
  | GtidEvent
  | { readonly kind: 'begin' }
  | { readonly kind: 'commit' }
  | { readonly kind: 'rollback' }
  | { readonly kind: 'savepoint'; readonly name: string }
  | { readonly kind: 'rollback-to'; readonly name: string }
  /** DDL or another statement that does not change our tables: by itself a whole transaction, inside of one without effect. */
  | { readonly kind: 'statement' }
  | { readonly kind: 'xa-start' }
  /** The prepared half of an XA transaction ends; with `onePhase` it is a commit. */
  | { readonly kind: 'xa-prepare'; readonly onePhase: boolean }
  | { readonly kind: 'xa-end' }
  | RowsEvent
  /** The source has nothing to send. */
  | { readonly kind: 'heartbeat' }
  /** Nothing of ours. */
  | { readonly kind: 'skipped' }

export interface GtidEvent {
  readonly kind: 'gtid'
  readonly gtid: Gtid
  /**
   * What follows: `group` up to a commit, `statement` one statement that commits by itself, `unknown` either (MySQL doesn't say:
   * a group begins with BEGIN).
   */
  readonly opens: 'group' | 'statement' | 'unknown'
  /** When it was committed, in Unix seconds by the primary's clock. */
  readonly timestampSeconds: number
}

/** Changes of our tables, in order. */
export interface RowsEvent {
  readonly kind: 'rows'
  readonly entries: LogEntry[]
  /** What the rows took in the log. */
  readonly bytes: number
}

/** Type codes: numbers below 160 are MySQL's (MariaDB shares those up to 27), from 160 on MariaDB's own. */
export const eventType = {
  query: 2,
  stop: 3,
  rotate: 4,
  intvar: 5,
  load: 6,
  createFile: 8,
  appendBlock: 9,
  executeLoad: 10,
  deleteFile: 11,
  newLoad: 12,
  random: 13,
  userVariable: 14,
  formatDescription: 15,
  xid: 16,
  beginLoadQuery: 17,
  executeLoadQuery: 18,
  tableMap: 19,
  writeRowsV1: 23,
  updateRowsV1: 24,
  deleteRowsV1: 25,
  incident: 26,
  heartbeat: 27,
  ignorable: 28,
  rowsQuery: 29,
  writeRowsV2: 30,
  updateRowsV2: 31,
  deleteRowsV2: 32,
  gtid: 33,
  anonymousGtid: 34,
  previousGtids: 35,
  transactionContext: 36,
  viewChange: 37,
  xaPrepare: 38,
  partialUpdateRows: 39,
  transactionPayload: 40,
  heartbeatV2: 41,
  gtidTagged: 42,
  annotateRows: 160,
  binlogCheckpoint: 161,
  mariadbGtid: 162,
  gtidList: 163,
  startEncryption: 164,
  queryCompressed: 165,
  writeRowsCompressedV1: 166,
  updateRowsCompressedV1: 167,
  deleteRowsCompressedV1: 168,
  writeRowsCompressedV2: 169,
  updateRowsCompressedV2: 170,
  deleteRowsCompressedV2: 171,
} as const

export const headerBytes = 19
/** In an event's header flags: a reader that doesn't know the type may pass over it. */
export const ignorableFlag = 0x80
