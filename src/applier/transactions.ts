import { WhiteholeError } from '../domain/errors.ts'
import type { LogEntry } from '../domain/log-entry.ts'
import { advance, formatGtid, type Gtid, type Position } from '../domain/position.ts'
import type { BinlogEvent, GtidEvent } from '../wire/binlog/events.ts'

/**
 * One committed transaction, or, where it is larger than the bound, a part of one. Parts of one transaction follow each other
 * with nothing between them; until the last, it is not yet known that it committed, only that the database had it in its log.
 */
export interface LogChunk {
  readonly gtid: Gtid
  /** The position once this transaction is included: reached with the part that is `last`. */
  readonly after: Position
  readonly entries: readonly LogEntry[]
  /** What the entries took in the log. */
  readonly bytes: number
  /** After a lost connection a transaction that was cut begins again: then its first parts come a second time. */
  readonly first: boolean
  readonly last: boolean
  /** When it was committed, by the primary's clock, in whole Unix seconds. */
  readonly timestampSeconds: number
}

export interface TransactionsOptions {
  /** Where the stream begins. */
  readonly position: Position
  /** A transaction that was delivered in part and has to come again, whole, before anything else of its origin. */
  readonly cut: Gtid | undefined
  /** A transaction whose rows take more memory than this is handed on in parts. */
  readonly transactionBytesMax: number
  /** MariaDB: each domain's sequence must grow by one. Off for a filtered replica, which has gaps by right. */
  readonly checkGaps: boolean
  readonly onChunk: (chunk: LogChunk) => void
}

/** What an entry takes in memory beside its bytes in the log. */
export const entryOverheadBytes = 200

interface OpenTransaction {
  readonly event: GtidEvent
  /** `group` runs up to a commit; `undecided` is one statement, unless BEGIN follows. */
  mode: 'group' | 'undecided'
  isXa: boolean
  entries: LogEntry[]
  /** In the log. */
  bytes: number
  /** How many entries have been handed on in parts. */
  streamed: number
  isStreamed: boolean
  /** Savepoints, with the number of entries before each. */
  savepoints: { name: string; entries: number }[]
}

/**
 * Makes whole transactions out of events: nothing of one is handed on before its commit was read, save one that is larger than
 * the bound.
 *
 *   idle ──gtid──▶ undecided ──begin──▶ group ──commit──▶ idle (handed on)
 *                     │ statement          └───rollback──▶ idle (nothing of it)
 *                     └──▶ idle
 *
 * The position moves at a transaction's end alone, also where it held nothing of ours.
 */
export class Transactions {
  readonly #options: TransactionsOptions
  #position: Position
  #cut: Gtid | undefined
  #open: OpenTransaction | undefined

  constructor(options: TransactionsOptions) {
    this.#options = options
    this.#position = options.position
    this.#cut = options.cut
  }

  /** @throws WhiteholeError `log-gap` (read elsewhere) or `log-unreadable` (a person must act) */
  feed(event: BinlogEvent): void {
    switch (event.kind) {
      case 'gtid':
        this.#begin(event)
        break
      case 'rows':
        this.#add(event.entries, event.bytes)
        break
      case 'begin':
        this.#current().mode = 'group'
        break
      case 'xa-start':
        this.#current().mode = 'group'
        this.#current().isXa = true
        break
      case 'commit':
      case 'xa-end':
        this.#end()
        break
      case 'rollback':
        this.#discard(0)
        this.#end()
        break
      case 'savepoint':
        this.#savepoint(event.name)
        break
      case 'rollback-to':
        this.#rollbackTo(event.name)
        break
      case 'statement':
        if (this.#open?.mode === 'undecided') this.#end()
        break
      case 'xa-prepare':
        this.#prepared(event.onePhase)
        break
      case 'format':
        // The server died in the middle of writing it: it never committed.
        if (event.restarted) this.#abandon()
        break
      case 'heartbeat':
      case 'skipped':
        break
    }
  }

  #begin(event: GtidEvent): void {
    this.#abandon()
    if (this.#options.checkGaps) checkSequence(this.#position, event.gtid)
    this.#checkCut(event.gtid)
    this.#open = {
      event,
      mode: event.opens === 'group' ? 'group' : 'undecided',
      isXa: false,
      entries: [],
      bytes: 0,
      streamed: 0,
      isStreamed: false,
      savepoints: [],
    }
  }

  #add(entries: LogEntry[], bytes: number): void {
    const open = this.#current()
    if (open.entries.length === 0) open.entries = entries
    else for (const entry of entries) open.entries.push(entry)
    open.bytes += bytes
    if (open.bytes + open.entries.length * entryOverheadBytes > this.#options.transactionBytesMax && !open.isXa) {
      this.#hand(open, false)
    }
  }

  #savepoint(name: string): void {
    const open = this.#current()
    open.savepoints = open.savepoints.filter((savepoint) => savepoint.name !== name)
    open.savepoints.push({ name, entries: open.streamed + open.entries.length })
  }

  /** In the log only where a table without transactions took part; else the server has left out what was rolled back. */
  #rollbackTo(name: string): void {
    const open = this.#current()
    const index = open.savepoints.findIndex((savepoint) => savepoint.name === name)
    const savepoint = open.savepoints[index]
    if (savepoint === undefined) return
    open.savepoints.length = index + 1
    this.#discard(savepoint.entries)
  }

  #discard(from: number): void {
    const open = this.#current()
    if (from < open.streamed) throw undone(open.event.gtid, 'was rolled back')
    open.entries.length = from - open.streamed
  }

  #prepared(onePhase: boolean): void {
    const open = this.#current()
    if (open.entries.length > 0 && !onePhase) {
      throw new WhiteholeError(
        'log-unreadable',
        `transaction ${formatGtid(open.event.gtid)} writes to the cache inside an XA transaction: that is not supported, ` +
          'use a plain transaction there; then rebuild the nodes from a log that begins later',
      )
    }
    this.#end()
  }

  #end(): void {
    const open = this.#current()
    this.#open = undefined
    this.#position = advance(this.#position, open.event.gtid)
    this.#cut = undefined
    this.#hand(open, true)
  }

  #hand(open: OpenTransaction, last: boolean): void {
    const { gtid, timestampSeconds } = open.event
    const { entries, bytes } = open
    const first = !open.isStreamed
    open.entries = []
    open.bytes = 0
    open.streamed += entries.length
    open.isStreamed = true
    const after = last ? this.#position : advance(this.#position, gtid)
    this.#options.onChunk({ gtid, after, entries, bytes, first, last, timestampSeconds })
  }

  #abandon(): void {
    const open = this.#open
    this.#open = undefined
    if (open?.isStreamed === true) throw undone(open.event.gtid, 'was never finished')
  }

  #checkCut(gtid: Gtid): void {
    const cut = this.#cut
    if (cut === undefined || originOf(cut) !== originOf(gtid) || formatGtid(cut) === formatGtid(gtid)) return
    throw undone(cut, `is not in this log, which has ${formatGtid(gtid)} instead`)
  }

  #current(): OpenTransaction {
    if (this.#open !== undefined) return this.#open
    throw new WhiteholeError('log-unreadable', 'the log holds changes outside of a transaction with a GTID')
  }
}

function undone(gtid: Gtid, what: string): WhiteholeError {
  return new WhiteholeError(
    'log-unreadable',
    `transaction ${formatGtid(gtid)} was larger than the bound, so it was applied in part, and it ${what}: rebuild this node`,
  )
}

/** Sequence numbers are given within it. */
function originOf(gtid: Gtid): string {
  return gtid.dialect === 'mariadb' ? String(gtid.domain) : gtid.source
}

/** races.md R10: a standby that lost a part of its own log goes on behind the hole, without a word. */
function checkSequence(position: Position, gtid: Gtid): void {
  if (position.dialect !== 'mariadb' || gtid.dialect !== 'mariadb') return
  const previous = position.domains.get(gtid.domain)
  if (previous === undefined || gtid.sequence === previous.sequence + 1) return
  throw new WhiteholeError('log-gap', `the log goes from ${formatGtid(previous)} to ${formatGtid(gtid)}`)
}
