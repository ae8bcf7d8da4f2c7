import type { Databases } from '../adapters/databases.ts'
import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { Pace } from '../runtime/pace.ts'
import { type DeathCause, type PurgedChunk, PurgeSession } from './purge-session.ts'
import { Rounds } from '../runtime/rounds.ts'

export interface PurgeOptions {
  readonly databases: Databases
  readonly rowsPerSecondMax: number
  readonly pauseMilliseconds: number
  /** How long a deleted or expired row stays. */
  readonly graceSeconds: number
  readonly logger: Logger
  readonly rowsOfChunk?: number
}

/** Rows that are looked at in one statement, and so the most that one transaction deletes. */
const chunkRows = 200
/** The purge is nobody's hurry: nine tenths of the time the database has nothing of it to do. */
const timeShareMax = 0.1

/**
 * Deletes the directory's dead rows, in one node at a time.
 *
 * A dead row is what orders the writes of a key whose item is gone: two transactions that meet on it take turns by its lock, and
 * the log has them in that order (races.md R34). What if it is purged between two?
 *
 * - _Held._ A transaction holds the row, to delete or to store: the purge skips it (SKIP LOCKED).
 * - _Waited for._ The purge holds it, and a transaction wants it. A node's batch skips it too and finds it by a dirty read: contended, or
 *   if it is deleted by then, absent; then its INSERT waits for the purge's COMMIT, and stands (ADR 6). A routine's upsert waits, and
 *   inserts. In both cases the row is there again, by the one that is later in the log.
 * - _Between._ A deletes k and commits, the purge takes the row, B stores k and commits. B's entry is behind A's, for A had committed
 *   before the purge could judge the row dead. The purge writes no entry: there is nothing to order.
 * - _An old snapshot._ A transaction read the generation 5 before a flush to 6; rows of 6 would have raised it (R6), and are purged. It
 *   inserts a row of 5: dead, as its entry is in the log. Only dead rows go, so nothing that lives is shadowed.
 * - _The version._ It does not come back with the key: its low part is random (R21).
 * - _Verify_ (recovery/verdict.ts) reads a row twice and takes it for unchanged if it is absent both times. Absent, stored, deleted, purged
 *   would deceive it: so a deleted or expired row stays for a time of grace, much longer than such a look takes.
 */
export class Purge {
  readonly figures = { passes: 0, seen: 0, lastPassSeconds: 0, deleted: 0, expired: 0, flushed: 0, dropped: 0 }
  readonly #options: PurgeOptions
  readonly #rounds: Rounds
  #session: PurgeSession | undefined
  #told = ''

  constructor(options: PurgeOptions) {
    this.#options = options
    this.#rounds = new Rounds((signal) => this.#round(signal), options.pauseMilliseconds)
  }

  /** Is it this node that purges? */
  get elected(): boolean {
    return this.#session !== undefined
  }

  start(): void {
    this.#rounds.start()
  }

  /** What is not committed by then is rolled back. */
  stop(): void {
    this.#rounds.stop()
    this.#session?.sever()
    this.#session = undefined
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { databases, graceSeconds, logger } = this.#options
    try {
      // It stays open between the passes, and the lock with it.
      if (this.#session === undefined) {
        const session = await PurgeSession.open(databases, graceSeconds)
        if (signal.aborted) session?.sever()
        if (session === undefined || signal.aborted) return
        this.#session = session
        logger.info({}, 'this node purges the directory')
      }
      await this.#pass(this.#session, signal)
      this.#told = ''
    } catch (error) {
      // Also where the database became read-only: the lock goes with the connection, and somebody is elected on the new primary.
      this.#session?.sever()
      this.#session = undefined
      const reason = describeError(error)
      if (!signal.aborted && reason !== this.#told)
        logger.warn({ reason }, 'the purge of the directory was interrupted')
      this.#told = reason
    }
  }

  async #pass(session: PurgeSession, signal: AbortSignal): Promise<void> {
    const { rowsPerSecondMax, rowsOfChunk = chunkRows, logger } = this.#options
    const begun = performance.now()
    const pace = new Pace({ perSecondMax: rowsPerSecondMax, timeShareMax })
    let purged = 0
    for (const id of await session.namespacesWithRows()) {
      for (let after: string | undefined = ''; after !== undefined;) {
        pace.begin()
        const chunk: PurgedChunk = await session.chunk(id, after, rowsOfChunk)
        purged += this.#count(chunk)
        after = chunk.last
        await pace.done(chunk.seen, signal)
      }
    }
    this.figures.passes++
    this.figures.lastPassSeconds = (performance.now() - begun) / 1000
    if (purged > 0) logger.info({ purged, seconds: this.figures.lastPassSeconds }, 'dead rows purged')
  }

  #count({ seen, purged }: PurgedChunk): number {
    this.figures.seen += seen
    let sum = 0
    for (const cause of Object.keys(purged) as DeathCause[]) {
      this.figures[cause] += purged[cause]
      sum += purged[cause]
    }
    return sum
  }
}
