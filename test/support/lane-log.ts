import ZongJi from '@vlasky/zongji'
import type { FollowedLog, LaneObserver, Unwatch } from '../../src/domain/followed-log.ts'
import { generationOf, type Version } from '../../src/domain/version.ts'
import type { Position } from '../../src/domain/position.ts'
import { covers, parsePosition } from '../../src/domain/position.ts'
import type { Database } from './databases.ts'
import { until } from './processes.ts'

interface BinlogEvent {
  getTypeName(): string
  tableId?: number
  tableMap?: Record<number, { tableName: string; parentSchema: string }>
  rows?: { before?: Row; after?: Row }[] & Row[]
  query?: string
}
type Row = Record<string, unknown>

interface Stream {
  on(event: 'binlog' | 'error' | 'ready', listener: (event: BinlogEvent) => void): void
  start(options: object): void
  stop(): void
  readonly gtidSet: string | undefined
}

/** One row of `mc_storage` as the log has it. */
export interface LoggedEntry {
  readonly kind: 'set' | 'delete' | 'touch' | 'stale'
  readonly namespaceId: number
  readonly key: string
  readonly version: bigint
  readonly generation: number
  readonly expiry: number
  readonly flags: string
  readonly value: string | undefined
}

export interface LoggedTransaction {
  readonly entries: readonly LoggedEntry[]
  readonly lanes: readonly { lane: string; incarnation: number; sequence: number }[]
  readonly flushes: readonly { namespaceId: number; generation: number; flushDue: number }[]
}

/**
 * The followed log out of a database's real binlog, by an independent decoder: what a node would follow, without its memcached.
 * It keeps every transaction, so a test can compare what clients were told with what happened.
 */
export class LaneLog implements FollowedLog {
  readonly transactions: LoggedTransaction[] = []
  readonly #database: Database
  readonly #stream: Stream
  readonly #observers = new Map<string, Set<LaneObserver>>()
  #entries: LoggedEntry[] = []
  #lanes: { lane: string; incarnation: number; sequence: number }[] = []
  #flushes: { namespaceId: number; generation: number; flushDue: number }[] = []
  #held: LoggedTransaction[] | undefined

  private constructor(database: Database, stream: Stream) {
    this.#database = database
    this.#stream = stream
  }

  static async follow(database: Database): Promise<LaneLog> {
    const stream = new ZongJi({
      socketPath: database.socket,
      user: 'root',
      supportBigNumbers: true,
      bigNumberStrings: true,
    }) as unknown as Stream
    const log = new LaneLog(database, stream)
    let ready = false
    stream.on('ready', () => {
      ready = true
    })
    stream.on('error', () => {})
    stream.on('binlog', (event) => log.#onEvent(event))
    stream.start({ serverId: 50_000 + Math.floor(Math.random() * 100_000), startAtEnd: true })
    await until('the log to be followed', () => ready)
    return log
  }

  stop(): void {
    this.#stream.stop()
  }

  get position(): Position | undefined {
    const text = this.#stream.gtidSet
    return text === undefined ? undefined : parsePosition(this.#database.engine, text)
  }

  async whenReached(target: Position, timeoutMilliseconds: number): Promise<void> {
    await until(
      'the log to reach a position',
      () => this.position !== undefined && covers(this.position, target),
      timeoutMilliseconds,
    )
  }

  watchLane(lane: string, observer: LaneObserver): Unwatch {
    const observers = this.#observers.get(lane) ?? new Set()
    this.#observers.set(lane, observers.add(observer))
    return () => observers.delete(observer)
  }

  /** What comes from now on is told only after `release`. */
  hold(): void {
    this.#held ??= []
  }

  /** @param told which of the held transactions are told: all, unless a test loses some as a takeover does */
  release(told: (transaction: LoggedTransaction) => boolean = () => true): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const transaction of held) if (told(transaction)) this.#tell(transaction)
  }

  /** All entries of a key, in the order of the log. */
  entriesOf(key: string): LoggedEntry[] {
    return this.transactions.flatMap(({ entries }) => entries).filter((entry) => entry.key === key)
  }

  #onEvent(event: BinlogEvent): void {
    switch (event.getTypeName()) {
      case 'WriteRows':
      case 'UpdateRows':
        this.#onRows(event)
        break
      case 'Xid':
        this.#commit()
        break
      case 'Query':
        if (event.query === 'COMMIT') this.#commit()
        break
      default:
    }
  }

  #onRows(event: BinlogEvent): void {
    const table = event.tableMap?.[event.tableId ?? -1]?.tableName
    for (const given of event.rows ?? []) {
      const row: Row = given.after ?? given
      if (table === 'mc_storage') this.#entries.push(readEntry(row))
      if (table === 'mc_lanes') {
        this.#lanes.push({
          lane: asText(row['lane']),
          incarnation: Number(row['incarnation']),
          sequence: Number(row['seq']),
        })
      }
      if (table === 'mc_namespaces') {
        this.#flushes.push({
          namespaceId: Number(row['ns_id']),
          generation: Number(row['generation']),
          flushDue: Number(row['flush_due']),
        })
      }
    }
  }

  #commit(): void {
    const transaction = { entries: this.#entries, lanes: this.#lanes, flushes: this.#flushes }
    this.#entries = []
    this.#lanes = []
    this.#flushes = []
    this.transactions.push(transaction)
    if (this.#held === undefined) this.#tell(transaction)
    else this.#held.push(transaction)
  }

  #tell({ lanes }: LoggedTransaction): void {
    for (const { lane, ...change } of lanes) for (const observer of this.#observers.get(lane) ?? []) observer(change)
  }
}

function readEntry(row: Row): LoggedEntry {
  const version = BigInt(String(row['version'])) as Version
  const value = row['mc_value']
  return {
    kind: ([undefined, 'set', 'delete', 'touch', 'stale'] as const)[Number(row['op'])] ?? 'set',
    namespaceId: Number(row['ns_id']),
    key: asText(row['mc_key']),
    version,
    generation: generationOf(version),
    expiry: Number(row['expire']),
    flags: String(row['flags']),
    value: value === null || value === undefined ? undefined : asText(value),
  }
}

function asText(value: unknown): string {
  return Buffer.isBuffer(value) ? value.toString('latin1') : String(value)
}
