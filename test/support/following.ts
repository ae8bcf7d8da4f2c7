import { followLog, type LogChunk, type LogStreamOptions } from '../../src/applier/log-stream.ts'
import type { DatabaseProbe, Databases } from '../../src/adapters/databases.ts'
import type { LogEntry } from '../../src/domain/log-entry.ts'
import { advance, parsePosition, type Position } from '../../src/domain/position.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Database } from './databases.ts'
import { until } from './processes.ts'

let nextServerId = 500_000 + (process.pid % 10_000) * 100

export function someServerId(): number {
  return nextServerId++
}

/** Follows a log and keeps what comes. */
export class Following {
  readonly chunks: LogChunk[] = []
  readonly batches: LogChunk[][] = []
  readonly connected: { probe: DatabaseProbe; from: Position }[] = []
  readonly disconnected: Error[] = []
  heartbeats = 0
  /** What ended the iteration. */
  error: unknown
  ended = false
  readonly #abort = new AbortController()
  readonly #done: Promise<void>
  #holding: Promise<void> | undefined
  #release: () => void = () => {}

  constructor(databases: Databases, options: Partial<LogStreamOptions> = {}) {
    const stream = followLog({
      databases,
      serverId: someServerId(),
      start: 'oldest',
      signal: this.#abort.signal,
      logger: silentLogger,
      heartbeatMilliseconds: 200,
      onConnected: (connected) => this.connected.push(connected),
      onDisconnected: (error) => this.disconnected.push(error),
      onHeartbeat: () => (this.heartbeats += 1),
      ...options,
    })
    this.#done = this.#run(stream)
  }

  async #run(stream: AsyncIterable<LogChunk[]>): Promise<void> {
    try {
      for await (const batch of stream) {
        this.batches.push(batch)
        this.chunks.push(...batch)
        await this.#holding
      }
    } catch (error) {
      this.error = error
    }
    this.ended = true
  }

  /** Fetches nothing after the batch at hand, until release(). */
  hold(): void {
    this.#holding = new Promise((resolve) => (this.#release = resolve))
  }

  release(): void {
    this.#holding = undefined
    this.#release()
  }

  get entries(): LogEntry[] {
    return this.chunks.flatMap((chunk) => chunk.entries)
  }

  /** The keys of changes of mc_storage, in order. */
  get keys(): string[] {
    return this.entries.flatMap((entry) => ('key' in entry ? [entry.key] : []))
  }

  get position(): Position | undefined {
    return this.chunks.findLast((chunk) => chunk.last)?.after
  }

  /** Waits until a set of this key has come. */
  async key(key: string): Promise<void> {
    await until(`key ${key} to come (so far ${this.keys.length} keys, ended: ${String(this.error)})`, () => {
      if (this.ended) throw new Error('the iteration has ended', { cause: this.error })
      return this.keys.includes(key)
    })
  }

  async connectedTimes(times: number): Promise<void> {
    await until(`${times} connections`, () => this.connected.length >= times)
  }

  /** Waits until the iteration has ended by an error. */
  async failure(): Promise<unknown> {
    await until('the iteration to end', () => this.ended)
    return this.error
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    this.release()
    await this.#done
  }
}

/** The end of a database's log. */
export async function endOfLog(database: Database): Promise<Position> {
  const variable = database.engine === 'mariadb' ? 'gtid_binlog_pos' : 'gtid_executed'
  const [row] = await database.query<{ position: string }>(`SELECT @@global.${variable} AS position`)
  return parsePosition(database.engine, row?.position ?? '')
}

/** A later position that no database has reached. */
export function beyond(position: Position, by: number): Position {
  if (position.dialect === 'mariadb') {
    const [gtid] = position.domains.values()
    if (gtid === undefined) throw new Error('an empty position')
    return advance(position, { ...gtid, sequence: gtid.sequence + by })
  }
  const [[source, intervals] = ['', []]] = [...position.intervals]
  return advance(position, { dialect: 'mysql', source, sequence: (intervals.at(-1)?.last ?? 0) + by })
}

/** One set as a statement: version 5 under generation 3, no expiry. */
export function setSql(key: string, value = 'v'): string {
  return `INSERT INTO memcached.mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value) VALUES (1, '${key}', 1, 3 << 33 | 5, 0, 0, '${value}')`
}
