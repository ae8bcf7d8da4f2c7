import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { Assumptions } from './assumptions.ts'
import type { Result } from './decision.ts'
import type { BatchLimits, LaneQueue } from './lane-queue.ts'
import { isDeadlock, isLockWait, isReadOnly, isRefusal, isRetryable, isWrongAssumption } from './lane-errors.ts'
import type { LaneDatabase, LaneSession, Thread } from './lane-session.ts'
import type { Contended, Pending } from './pending.ts'
import { drawIncarnation, jittered } from './random.ts'
import { prepare, type Prepared } from './transaction.ts'
import type { WriterMetrics } from './writer-metrics.ts'

/** What a lane hands back to the writer. */
export interface LaneHost {
  readonly metrics: WriterMetrics
  readonly random: () => number
  settle(item: Pending, result: Result): void
  /** Sends it to the side lane, or back there; `by` what it waits for, undefined for what only follows in its session. */
  contend(item: Pending, by: Contended | undefined): void
}

export interface LaneSettings {
  readonly writeTimeoutMilliseconds: number
  readonly batch: BatchLimits
  /** Batches that may have been committed and not been seen in the log. */
  readonly unacknowledgedBatchesMax: number
  /** What a success is answered upon: the lane's row in the followed log, or the primary's COMMIT. */
  readonly acknowledge: 'local' | 'committed'
}

export type LaneState = 'recovering' | 'idle' | 'locking' | 'writing' | 'stopped'

/** COMMIT is on its way or answered, but the lane's row has not been seen in the followed log. */
interface OpenBatch {
  readonly incarnation: number
  readonly sequence: number
  readonly items: readonly Pending[]
  readonly results: readonly Result[]
  readonly sentAt: number
}

/** Batches that read before they write, once one that did not met a locked row: where one is, more come. */
const carefulBatches = 32
/** Idle sessions are ended by the server after five seconds (statements.ts). */
const pingMilliseconds = 1500
/** A takeover is over in a second or two: whoever looks less often makes it longer. */
const backOffMilliseconds = { first: 20, most: 50 }
/** Incarnations that were tried and may still come into force; of older ones nobody needs to hear. */
const attemptsMax = 64
const formersMax = 8
const flushRetryMilliseconds = 20

/**
 * One SQL session and one row of `mc_lanes`: batches in order, one transaction at a time.
 *
 *                    session is lost, lane row elsewhere, COMMIT or log silent too long
 *            ┌─────────────────────────────┬──────────────────────────────────┐
 *            ▼                             │                                  │
 *       recovering ──────────────▶ idle ───┴──▶ locking ────────────────▶ writing
 *            │   new incarnation    ▲  work        │  lane row moved,         │
 *            │   set; former batches│              │  rows locked and read    │
 *            │   settled            ├──────────────┤                          │
 *            │                      │  deadlock,   │ all contended            │
 *            │                      └──────────────┴──────────────────────────┘
 *            ▼                                        COMMIT answered, or refused for certain
 *         stopped
 *
 * - recovering: no usable session. Batches in `#open` are those of the last incarnation. Their fate is the log's (ADR 0001): seen
 *   before one of `#attempts`: they happened; not seen when one of these is: they never did, and are tried again from the queue's
 *   front. Nothing new starts before, so order is kept.
 * - idle: waits for work, or for an acknowledgement where too many batches lack theirs. Pings.
 * - locking: the first round trip, if one is needed. No COMMIT was sent: whatever happens, nothing of it is written.
 * - writing: the second. Only an error that the server gives for certain (deadlock, lock wait, duplicate, read-only…) says that nothing
 *   was written; anything else leaves it open until the log tells.
 *
 * An answer of COMMIT starts the next batch but acknowledges nothing; with `acknowledge: committed` it acknowledges what succeeded
 * (ADR 0019).
 */
export class Lane {
  readonly name: string
  readonly queue: LaneQueue
  readonly #database: LaneDatabase
  readonly #host: LaneHost
  readonly #settings: LaneSettings
  readonly #logger: Logger

  #state: LaneState = 'recovering'
  #stopping = false
  #session: LaneSession | undefined
  #lost = false
  #assumptions = new Assumptions()
  #incarnation = 0
  #sequence = 0
  /** All of one incarnation, sequences ascending without a gap. */
  #open: OpenBatch[] = []
  /** In the transaction before its COMMIT. */
  #underWay: readonly Pending[] = []
  #attempts: number[] = []
  /** Sessions that may still hold the lane's row. */
  #formers: Thread[] = []
  /** So many of the next batches read all their keys. */
  #careful: number
  /** Transactions in a row that failed. */
  #failures = 0
  #wake: (() => void) | undefined

  constructor(given: {
    name: string
    queue: LaneQueue
    database: LaneDatabase
    host: LaneHost
    settings: LaneSettings
    /** A plain set's key is not read before it is overwritten. The side lane has to know who holds what. */
    mayBeBlind: boolean
    logger: Logger
  }) {
    this.name = given.name
    this.queue = given.queue
    this.#database = given.database
    this.#host = given.host
    this.#settings = given.settings
    this.#logger = given.logger
    this.#careful = given.mayBeBlind ? 0 : Infinity
  }

  get state(): LaneState {
    return this.#state
  }

  /** Until it is stopped. Never rejects. */
  async run(): Promise<void> {
    while (!this.#stopping) {
      const session = await this.#recover()
      if (session === undefined) break
      try {
        await this.#serve(session)
        session.close()
      } catch (error) {
        session.sever()
        if (this.#stopping) break
        this.#host.metrics.recoveries += 1
        this.#logger.warn({ lane: this.name, error: describeError(error) }, 'a writer lane lost its session')
      }
      this.#session = undefined
    }
    this.#state = 'stopped'
  }

  /** There is something new to do. What comes in the same turn of the event loop goes into the same batch. */
  wake(): void {
    const wake = this.#wake
    if (wake === undefined) return
    this.#wake = undefined
    setImmediate(wake)
  }

  /** A change of this lane's row, in the order of the log; some may come again. */
  observe(change: { incarnation: number; sequence: number }): void {
    const [oldest] = this.#open
    if (oldest === undefined) return
    if (change.incarnation === oldest.incarnation) this.#acknowledge(change.sequence)
    else if (this.#attempts.includes(change.incarnation)) this.#repeatOpen()
    else return
    this.wake()
  }

  /** Answers what is overdue: definitely where no COMMIT was sent for it. */
  expire(nowMilliseconds: number): void {
    for (const item of this.queue.expire(nowMilliseconds)) this.#host.settle(item, notWritten())
    expireList(this.#underWay, nowMilliseconds, (item) => this.#host.settle(item, notWritten()))
    for (const { items } of this.#open) {
      expireList(items, nowMilliseconds, (item) => this.#host.settle(item, outcomeUnknown()))
    }
    if (this.#state === 'recovering' && this.#open.length > 0) this.wake()
  }

  /** At once: `run` ends, and everything that is still here is answered. */
  stop(): void {
    this.#stopping = true
    // An idle one says farewell (`run`); what is under way on another may still be executed.
    if (this.#state !== 'idle') this.#session?.sever()
    this.wake()
    for (const item of [...this.queue.clear(), ...this.#underWay])
      if (!item.answered) this.#host.settle(item, notWritten())
    for (const { items } of this.#open) {
      for (const item of items) if (!item.answered) this.#host.settle(item, outcomeUnknown())
    }
    this.#open = []
  }

  async #serve(session: LaneSession): Promise<void> {
    this.#logger.info({ lane: this.name, incarnation: this.#incarnation }, 'a writer lane is ready')
    this.#failures = 0
    for (;;) {
      this.#state = 'idle'
      const items = await this.#nextBatch(session)
      if (items === undefined) return
      this.#underWay = items
      this.#state = 'locking'
      await this.#transact(session, items)
      if (this.#failures > 0) await this.#sleepUndisturbed(jittered(Math.min(2 ** this.#failures, 50)))
    }
  }

  async #nextBatch(session: LaneSession): Promise<readonly Pending[] | undefined> {
    let lastAskedAt = performance.now()
    for (;;) {
      if (this.#stopping) return undefined
      const now = performance.now()
      this.#assertUsable(now)
      const mayStart = this.#open.length < this.#settings.unacknowledgedBatchesMax
      const limits = this.#limits(session)
      const items = mayStart ? this.queue.take(limits, now) : []
      if (items.length > 0 && !this.#refuseTooLarge(items, limits)) return items
      if (items.length > 0) continue
      if (now - lastAskedAt >= pingMilliseconds) {
        await session.ping()
        lastAskedAt = performance.now()
        continue
      }
      const nextTryAt = (mayStart ? this.queue.nextTryAt(now) : undefined) ?? Infinity
      await this.#sleep(Math.min(nextTryAt, lastAskedAt + pingMilliseconds) - now)
    }
  }

  /** A mutation beyond the limit comes alone; the server would close the connection over its packet. */
  #refuseTooLarge([item]: readonly Pending[], limits: BatchLimits): boolean {
    if (item === undefined || item.bytes <= limits.bytes) return false
    const text = `the write has ${item.bytes} bytes, one transaction takes ${limits.bytes}`
    this.#host.settle(item, new WhiteholeError('value-too-large', text))
    return true
  }

  #limits(session: LaneSession): BatchLimits {
    const { items, bytes } = this.#settings.batch
    // Hexadecimal text takes two bytes for one (`Pending.bytes` counts the rest in).
    return { items, bytes: Math.min(bytes, session.packetBytesMax / 2 - 65_536) }
  }

  #assertUsable(nowMilliseconds: number): void {
    if (this.#lost) throw new WhiteholeError('database-away', 'the connection was closed')
    const [oldest] = this.#open
    if (oldest !== undefined && nowMilliseconds - oldest.sentAt > this.#settings.writeTimeoutMilliseconds) {
      // The database may be one that nobody follows any more: look for the primary anew, and learn from the log what became of it.
      throw new WhiteholeError('database-away', 'what was committed did not appear in the followed log in time')
    }
  }

  async #transact(session: LaneSession, items: readonly Pending[]): Promise<void> {
    const place = { lane: this.name, incarnation: this.#incarnation, sequence: this.#sequence }
    const startedAt = performance.now()
    let prepared: Prepared
    try {
      const mayBeBlind = session.canRefuseToWait && this.#careful === 0
      const assumptions = this.#assumptions
      prepared = await prepare(session, place, { items, random: this.#host.random, mayBeBlind, assumptions })
    } catch (error) {
      this.#underWay = []
      this.#putBack(items)
      if (!isRetryable(error)) throw error
      await this.#rollBack(session, error)
      return
    }
    // Those that leave go first: what is left of the batch must not be seen as under way without them.
    for (const { item, by } of prepared.contended) this.#host.contend(item, by)
    this.#underWay = []
    if (prepared.items.length === 0) {
      await session.rollback()
      return
    }
    this.#state = 'writing'
    await this.#commit(session, prepared, startedAt)
  }

  async #commit(session: LaneSession, prepared: Prepared, startedAt: number): Promise<void> {
    const { items, results } = prepared
    const { metrics } = this.#host
    const sequence = this.#sequence + 1
    // Before it is sent: the followed log may show it before COMMIT is answered.
    const batch = { incarnation: this.#incarnation, sequence, items, results, sentAt: performance.now() }
    this.#open.push(batch)
    try {
      await prepared.commit()
    } catch (error) {
      const isWrong = prepared.blind && isWrongAssumption(error)
      const isCertain = isRetryable(error) || isRefusal(error) || isReadOnly(error) || isWrong
      if (!isCertain) throw error
      this.#open = this.#open.filter((other) => other !== batch)
      if (isReadOnly(error)) {
        this.#putBack(items)
        throw error
      }
      this.#takeBack(prepared, error)
      await this.#rollBack(session, error)
      return
    }
    this.#sequence = sequence
    this.#failures = 0
    if (this.#careful > 0) this.#careful -= 1
    metrics.batches += 1
    metrics.batchItems += items.length
    metrics.commitSecondsSum += (performance.now() - startedAt) / 1000
    if (this.#settings.acknowledge === 'committed') this.#acknowledgeCommitted(batch)
  }

  /**
   * A refusal still waits for the log: whoever finds its item missing here must know that it was evicted, and not merely that it has not
   * arrived (ADR 0008).
   */
  #acknowledgeCommitted(batch: OpenBatch): void {
    for (const [index, item] of batch.items.entries()) {
      const result = batch.results[index]
      if (result !== undefined && !isRefused(result)) this.#answer(item, result)
    }
    if (batch.items.every(({ answered }) => answered)) this.#open = this.#open.filter((other) => other !== batch)
  }

  /** Nothing of it was written, for certain. */
  #takeBack({ items, absent, blind, assumes }: Prepared, error: unknown): void {
    // Refused to what may have been taken for granted wrongly: the next try reads.
    if (assumes || (blind && isWrongAssumption(error))) {
      this.#assumptions.forget()
      if (isLockWait(error)) this.#careful = carefulBatches
      this.#putBack(items)
      return
    }
    if (isRefusal(error)) {
      const refused = new WhiteholeError('not-written', 'the database refused the write', { cause: error })
      for (const item of items) if (!item.answered) this.#host.settle(item, refused)
      return
    }
    if (blind && isLockWait(error)) {
      // Somebody holds one of its rows: the next try finds out which.
      this.#careful = carefulBatches
      this.#putBack(items)
      return
    }
    // The INSERT waited for a row that neither read saw: somebody's open transaction removes it, or came in between. One at a time,
    // on the side lane, they hold up nobody else.
    const suspects = new Set(isLockWait(error) ? absent : [])
    for (const item of suspects) {
      if (item.answered) continue
      item.alone = true
      this.#host.contend(item, item.key?.id)
    }
    this.#putBack(items.filter((item) => !suspects.has(item)))
  }

  #putBack(items: readonly Pending[]): void {
    const unanswered = items.filter(({ answered }) => !answered)
    for (const item of unanswered) {
      // A flush that waited in vain lets others of its lane go first: each try may take a second.
      if (item.key === undefined) item.retryAt = performance.now() + jittered(flushRetryMilliseconds)
    }
    this.queue.insert(unanswered)
  }

  async #rollBack(session: LaneSession, error: unknown): Promise<void> {
    this.#failures += 1
    this.#host.metrics.retries += 1
    if (isDeadlock(error)) this.#host.metrics.deadlocks += 1
    await session.rollback()
  }

  /** Resolves with a session under a new incarnation once the former one's batches are settled; undefined when stopped. */
  async #recover(): Promise<LaneSession | undefined> {
    this.#state = 'recovering'
    let delay = 0
    let complaint = ''
    for (;;) {
      if (delay > 0) await this.#sleepUndisturbed(jittered(delay))
      delay = delay === 0 ? backOffMilliseconds.first : Math.min(delay * 2, backOffMilliseconds.most)
      if (this.#stopping) return undefined
      try {
        return await this.#begin()
      } catch (error) {
        this.#session?.sever()
        this.#session = undefined
        const text = describeError(error)
        // A transition is logged, not each of a row of attempts that fail alike.
        if (text !== complaint && !this.#stopping)
          this.#logger.warn({ lane: this.name, error: text }, 'a writer lane waits')
        complaint = text
      }
    }
  }

  async #begin(): Promise<LaneSession> {
    this.#lost = false
    this.#assumptions = new Assumptions()
    const session = await this.#database.open(this.#formers)
    this.#session = session
    session.onLost = () => {
      this.#lost = true
      this.wake()
    }
    this.#formers = [...this.#formers, session.thread].slice(-formersMax)
    // A number of its own for each attempt: one that comes into force late must not look like a later one.
    const incarnation = drawIncarnation()
    this.#attempts = [...this.#attempts, incarnation].slice(-attemptsMax)
    await this.#setIncarnation(session, incarnation)
    this.#formers = [session.thread]
    await this.#untilSettled(session)
    this.#incarnation = incarnation
    this.#sequence = 0
    this.#attempts = []
    return session
  }

  /** Waits for the end of a former session's transaction, a second at a time: the server ends a silent one after five. */
  async #setIncarnation(session: LaneSession, incarnation: number): Promise<void> {
    const until = performance.now() + this.#settings.writeTimeoutMilliseconds
    for (;;) {
      try {
        await session.setIncarnation(this.name, incarnation)
        return
      } catch (error) {
        if (!isRetryable(error) || performance.now() > until || this.#stopping) throw error
      }
    }
  }

  /** Bounded by the deadlines of what is open: once everybody is answered, nobody needs to know any more. */
  async #untilSettled(session: LaneSession): Promise<void> {
    let lastAskedAt = performance.now()
    for (;;) {
      if (this.#stopping) throw new WhiteholeError('not-written', 'the writer is stopping')
      if (this.#lost) throw new WhiteholeError('database-away', 'the connection was closed')
      this.#open = this.#open.filter(({ items }) => items.some(({ answered }) => !answered))
      if (this.#open.length === 0) return
      const now = performance.now()
      if (now - lastAskedAt >= pingMilliseconds) {
        await session.ping()
        lastAskedAt = performance.now()
      } else {
        await this.#sleep(lastAskedAt + pingMilliseconds - now)
      }
    }
  }

  #acknowledge(sequence: number): void {
    for (let batch = this.#open[0]; batch !== undefined && batch.sequence <= sequence; batch = this.#open[0]) {
      this.#open.shift()
      for (const [index, item] of batch.items.entries()) {
        const result = batch.results[index]
        if (result !== undefined) this.#answer(item, result)
      }
    }
  }

  #answer(item: Pending, result: Result): void {
    if (item.answered) return
    const seconds = Math.max(0, performance.now() - item.submittedAt) / 1000
    this.#host.metrics.acknowledgementSecondsSum += seconds
    this.#host.settle(item, result)
  }

  /** A later incarnation is in the log and they are not: they never happened and never will. */
  #repeatOpen(): void {
    const items = this.#open.flatMap((batch) => batch.items).filter(({ answered }) => !answered)
    this.#open = []
    this.#host.metrics.repeated += items.length
    this.queue.insert(items)
  }

  /** Until `wake`, or for this long; a millisecond at least, so that no rounding of the clock turns a wait into a spin. */
  async #sleep(milliseconds: number): Promise<void> {
    if (this.#stopping) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(
        () => {
          this.#wake = undefined
          resolve()
        },
        Math.max(1, Math.ceil(milliseconds)),
      )
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** For this long, however much work comes. */
  async #sleepUndisturbed(milliseconds: number): Promise<void> {
    const until = performance.now() + milliseconds
    for (let left = milliseconds; left > 0 && !this.#stopping; left = until - performance.now()) await this.#sleep(left)
  }
}

/** Whatever rests on what the directory has, or on what it has not. */
function isRefused(result: Result): boolean {
  if (result instanceof WhiteholeError) return true
  return !['stored', 'deleted', 'touched', 'flushed'].includes(result.kind)
}

/** @param items in the order of their deadlines */
function expireList(items: readonly Pending[], nowMilliseconds: number, fail: (item: Pending) => void): void {
  for (const item of items) {
    if (item.deadline > nowMilliseconds) return
    if (!item.answered) fail(item)
  }
}

function notWritten(): WhiteholeError {
  return new WhiteholeError('not-written', 'no database took the write in time')
}

function outcomeUnknown(): WhiteholeError {
  return new WhiteholeError('outcome-unknown', 'the write was sent and did not appear in the followed log in time')
}
