import { BinlogConnection } from '../adapters/binlog-connection.ts'
import { type DatabaseProbe, type Databases, formatDatabaseAddress } from '../adapters/databases.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { covers, formatPosition, type Gtid, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import { DamagedEvent } from '../wire/binlog/cursor.ts'
import { BinlogDecoder } from '../wire/binlog/decoder.ts'
import { ChunkQueue } from './chunk-queue.ts'
import { oldestPosition } from './oldest-position.ts'
import { type LogChunk, Transactions } from './transactions.ts'

export type { LogChunk } from './transactions.ts'

export interface LogStreamOptions {
  readonly databases: Databases
  /** Unique among the databases and all their replicas and nodes. */
  readonly serverId: number
  /** The last transaction before it is not delivered, the first after it is. `oldest`: all that the source still has. */
  readonly start: Position | 'oldest'
  /** Ends the iteration, without an error. */
  readonly signal: AbortSignal
  readonly logger: Logger
  readonly heartbeatMilliseconds?: number
  /** Above it a transaction is delivered in parts, in bytes of memory. */
  readonly transactionBytesMax?: number
  /** What may wait to be fetched, in bytes of memory; the source is not read on above it. One transaction may go beyond. */
  readonly bufferBytesMax?: number
  /** What else the caller has seen of this log: where the primary lacks any of it, the iteration ends with `log-diverged`. */
  readonly claims?: () => readonly Position[]
  /** See wire/binlog/decoder.ts. */
  readonly foreignStatements?: 'stop' | 'skip'
  /** A source was found and is being read, from `from` on; `probe.position` is the end of its log at that time. */
  readonly onConnected?: (connected: { probe: DatabaseProbe; from: Position }) => void
  /** The source was lost, or none was found, and is sought again. Not called for an error that ends the iteration. */
  readonly onDisconnected?: (error: Error) => void
  /** The source has nothing more to send: all that it had committed by then was received, if not yet fetched. */
  readonly onHeartbeat?: () => void
}

const heartbeatMillisecondsDefault = 1000
const transactionBytesMaxDefault = 16 * 1024 * 1024
const bufferBytesMaxDefault = 4 * 1024 * 1024
const retryMillisecondsFirst = 50
/** Of sources that are lost as soon as they are followed. */
const retryMillisecondsMax = 2000
/** While there is none: writers wait for whichever comes first, and a look costs little. */
const searchMillisecondsMax = 300
/** A connection that lasted so long was a good one: the next attempt comes at once. */
const steadyMilliseconds = 1000
/** Below none: a few milliseconds. Roles may just have changed, and writers wait for what is followed. */
const steadyLosses = -3
/** Each look is a connection to every database. */
const reviewMilliseconds = 1000

/**
 * What has been committed, in order, from a position on and without an end: each step gives all that has arrived meanwhile.
 * Reconnects by itself, from the last transaction that was fetched whole, to whichever database then serves. Throws only where a
 * person or a rebuild is needed: `log-unreadable`, `log-purged`, `log-diverged` (what was read is not in the new primary's log).
 */
export async function* followLog(options: LogStreamOptions): AsyncGenerator<LogChunk[], void, undefined> {
  const follower = new LogFollower(options)
  try {
    for (;;) {
      const batch = await follower.next()
      if (batch === undefined) return
      yield batch
    }
  } finally {
    follower.close()
  }
}

/** One connection, with what belongs to its place in the log. */
interface Link {
  readonly probe: DatabaseProbe
  readonly transactions: Transactions
  readonly sinceMilliseconds: number
  /** The source has begun to send what we lack, or there is nothing: from here on a heartbeat means that no more has been committed. */
  begun: boolean
  /** What was seen before this link, until a primary was found that has it. */
  claims: readonly Position[]
  binlog: BinlogConnection | undefined
  failure: Error | undefined
}

class LogFollower {
  readonly #options: LogStreamOptions
  readonly #queue: ChunkQueue
  /** After the last transaction that was fetched whole; `oldest` until there is one. */
  #position: Position | 'oldest'
  /** The transaction of which only a part was fetched. */
  #cut: Gtid | undefined
  #link: Link | undefined
  /** Sources lost since one was last followed for a while. */
  #losses = 0
  /** Attempts in vain since a source was last followed. */
  #searches = 0
  /** Why the last of them failed. */
  #complaint = ''
  /** Sources that failed since the log last moved: others first. */
  readonly #avoid = new Set<string>()
  /** Of those, the ones that no longer have the log from this position on. */
  readonly #purged = new Map<string, Error>()
  #wake: () => void = () => {}

  constructor(options: LogStreamOptions) {
    this.#options = options
    this.#queue = new ChunkQueue(options.bufferBytesMax ?? bufferBytesMaxDefault)
    this.#position = options.start
    options.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  readonly #onAbort = (): void => this.#wake()

  /** Undefined once aborted. Rejects with what ends the iteration; what arrived before the error is given first. */
  async next(): Promise<LogChunk[] | undefined> {
    while (!this.#options.signal.aborted) {
      const batch = this.#fetch()
      if (batch.length > 0) return batch
      if (this.#link === undefined) await this.#connect()
      else if (this.#link.failure !== undefined) await this.#lost(this.#link, this.#link.failure)
      else await this.#sleep(undefined)
    }
    return undefined
  }

  close(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#link?.binlog?.close()
    this.#link = undefined
  }

  #fetch(): LogChunk[] {
    const batch = this.#queue.takeAll()
    const whole = batch.findLast((chunk) => chunk.last)
    if (whole !== undefined) {
      this.#position = whole.after
      // The log moved: what stopped us before may be behind us.
      this.#avoid.clear()
      this.#purged.clear()
    }
    const final = batch.at(-1)
    if (final !== undefined) this.#cut = final.last ? undefined : final.gtid
    // May fill the queue again before it returns, and pause again.
    if (this.#link?.failure === undefined) this.#link?.binlog?.resume()
    return batch
  }

  async #connect(): Promise<void> {
    const { databases, logger, serverId } = this.#options
    const wanted = this.#position === 'oldest' ? undefined : this.#position
    let address: string | undefined
    try {
      const claims = this.#options.claims?.() ?? []
      const probe = await databases.findSource(wanted, this.#avoid, claims)
      address = formatDatabaseAddress(probe.address)
      const purged = this.#purged.get(address)
      // The best that is left has already said no.
      if (purged !== undefined) throw purged
      const from = wanted ?? (await oldestPosition(databases, probe))
      if (this.#options.signal.aborted) return
      const link = this.#newLink(probe, from, wanted === undefined ? claims : [wanted, ...claims])
      const handlers = this.#handlers(link)
      const request = {
        address: probe.address,
        serverId,
        position: from,
        heartbeatMilliseconds: this.#options.heartbeatMilliseconds ?? heartbeatMillisecondsDefault,
        // A relay that replicates a part of the databases alone: gaps in its numbers are no loss.
        gapsAllowed: databases.isFiltered(probe.address),
      }
      const binlog = await BinlogConnection.open(databases, request, handlers)
      if (this.#options.signal.aborted) {
        binlog.close()
        return
      }
      link.binlog = binlog
      this.#link = link
      this.#searches = 0
      this.#complaint = ''
      this.#review(link)
      logger.info(
        { source: address, from: formatPosition(from), end: formatPosition(probe.position) },
        'following the log',
      )
      this.#options.onConnected?.({ probe, from })
    } catch (error) {
      this.#searches += 1
      const most = Math.max(searchMillisecondsMax, backOff(this.#losses))
      const milliseconds = Math.min(most, backOff(this.#losses + this.#searches))
      await this.#failed(error instanceof Error ? error : new Error(String(error)), { address, milliseconds })
    }
  }

  /**
   * Roles change while a source is followed. Asked again at once, too: whoever makes a primary wait for its standby first does so and then
   * ends the readers that it finds; one that comes too late to be found sees it here. And a source that lives on while another database
   * becomes primary without its last transactions.
   */
  #review(link: Link): void {
    const look = async (): Promise<void> => {
      const why = await this.#whyLeave(link).catch(() => undefined)
      if (this.#link !== link || this.#options.signal.aborted) return
      if (why === undefined) {
        setTimeout(() => void look(), reviewMilliseconds).unref()
        return
      }
      link.failure ??= why
      this.#wake()
    }
    if (this.#options.databases.access.topology !== 'single') void look()
  }

  async #whyLeave(link: Link): Promise<WhiteholeError | undefined> {
    const seen = this.#position === 'oldest' ? link.claims : [...link.claims, this.#position]
    const { leave, verified } = await this.#options.databases.review(link.probe.address, seen)
    if (verified) link.claims = []
    return leave
  }

  #newLink(probe: DatabaseProbe, from: Position, claims: readonly Position[]): Link {
    const transactions = new Transactions({
      position: from,
      cut: this.#cut,
      transactionBytesMax: this.#options.transactionBytesMax ?? transactionBytesMaxDefault,
      checkGaps: !this.#options.databases.isFiltered(probe.address),
      onChunk: (chunk) => this.#queue.push(chunk),
    })
    return {
      probe,
      transactions,
      sinceMilliseconds: performance.now(),
      begun: covers(from, probe.position),
      claims,
      binlog: undefined,
      failure: undefined,
    }
  }

  #handlers(link: Link): { event: (event: Buffer) => void; failed: (error: Error) => void } {
    const decoder = new BinlogDecoder({
      schema: this.#options.databases.access.database,
      foreignStatements: this.#options.foreignStatements ?? 'stop',
    })
    return {
      event: (bytes) => {
        const event = decoder.decode(bytes)
        // MySQL also sends one while it passes over what we have.
        if (event.kind === 'heartbeat' && link.begun) this.#options.onHeartbeat?.()
        if (event.kind === 'gtid') link.begun = true
        link.transactions.feed(event)
        if (this.#queue.isFull) link.binlog?.pause()
        if (event.kind !== 'skipped') this.#wake()
      },
      failed: (error) => {
        link.failure = error
        this.#wake()
      },
    }
  }

  async #lost(link: Link, error: Error): Promise<void> {
    // Not at the first event: two nodes with one server id would throw each other out without a pause.
    if (performance.now() - link.sinceMilliseconds > steadyMilliseconds) this.#losses = steadyLosses
    this.#losses += 1
    link.binlog?.close()
    this.#link = undefined
    const address = formatDatabaseAddress(link.probe.address)
    await this.#failed(error, { address, milliseconds: backOff(this.#losses) })
  }

  /** Throws where another attempt can't help, else waits a little. */
  async #failed(error: Error, given: { address: string | undefined; milliseconds: number }): Promise<void> {
    const { logger, signal } = this.#options
    const { address } = given
    if (signal.aborted) return
    if (error instanceof WhiteholeError && error.code === 'log-diverged') throw error
    if (address !== undefined && !this.#tolerates(error, address)) throw error
    const delayMilliseconds = given.milliseconds * (0.5 + Math.random() / 2)
    const text = describeError(error)
    // Of searches that fail alike the first is told.
    if (text !== this.#complaint)
      logger.warn({ source: address, error: text, delayMilliseconds }, 'not following the log')
    this.#complaint = text
    this.#options.onDisconnected?.(error)
    await this.#sleep(delayMilliseconds)
  }

  /** A purged log may be whole on another database: final only once the best one left has said so too. */
  #tolerates(error: Error, address: string): boolean {
    const code = error instanceof WhiteholeError ? error.code : undefined
    if (code === 'log-unreadable') return false
    if (code === 'log-purged' && this.#position !== 'oldest') {
      if (this.#purged.has(address)) return false
      this.#purged.set(address, error)
    }
    // What this source sends is of no use from here on. A connection that broke says nothing of the kind.
    const isRefusal = (error as { errno?: number }).errno === refusedPosition
    if (code !== undefined || isRefusal || error instanceof DamagedEvent) this.#avoid.add(address)
    return true
  }

  /** Until something happens, or the time is over, or the iteration is aborted. */
  async #sleep(milliseconds: number | undefined): Promise<void> {
    if (this.#options.signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = milliseconds === undefined ? undefined : setTimeout(resolve, milliseconds)
      this.#wake = (): void => {
        if (timer !== undefined && !this.#options.signal.aborted) return
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = () => {}
  }
}

/** Milliseconds at most before the attempt that comes after so many. */
function backOff(attempts: number): number {
  return Math.min(retryMillisecondsMax, retryMillisecondsFirst * 2 ** Math.min(attempts, 10))
}

/** The database's own number for "there is no log from your position on", for whatever reason. */
const refusedPosition = 1236
