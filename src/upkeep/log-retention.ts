import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { Rounds } from '../runtime/rounds.ts'

/** What a database says of its binlog. */
export interface LogKept {
  /** Settings; 0: no limit. */
  readonly expireSeconds: number
  readonly sizeBytesMax: number
  /** All its files together. */
  readonly bytes: number
  /** Its first file: while that is the same, the log only grows. */
  readonly oldest: string
}

export interface RetentionNeed {
  /** What a rebuild of this node took last, or is estimated to. */
  readonly rebuildSeconds: number
  /** How long a node may be away and still resume from its position. */
  readonly leastSeconds: number
}

export interface Retention {
  /** How far back the log will reach, Infinity without a limit. */
  readonly keptSeconds: number
  readonly neededSeconds: number
  readonly enough: boolean
}

/** A rebuild may be begun again, or fall behind: the log must be there for so many times as long. */
const margin = 3

export function assessRetention(kept: LogKept, growthBytesPerSecond: number, need: RetentionNeed): Retention {
  const byTime = kept.expireSeconds === 0 ? Infinity : kept.expireSeconds
  const bySize =
    kept.sizeBytesMax === 0 || growthBytesPerSecond <= 0 ? Infinity : kept.sizeBytesMax / growthBytesPerSecond
  const keptSeconds = Math.min(byTime, bySize)
  const neededSeconds = Math.max(need.leastSeconds, need.rebuildSeconds * margin)
  return { keptSeconds, neededSeconds, enough: keptSeconds >= neededSeconds }
}

export interface LogRetentionOptions {
  /** Of the database that this node follows. Rejects where it can't be asked. */
  readonly kept: () => Promise<LogKept>
  readonly rebuildSeconds: () => Promise<number>
  readonly leastSeconds: number
  readonly pauseMilliseconds: number
  readonly logger: Logger
}

/**
 * A node whose memcached is lost reads the log from the place where its donor was, or from the log's begin; one that was away goes on
 * from its own. If the database has purged that by then, a rebuild without a peer has lost keys. So: is the log kept for long enough?
 */
export class LogRetention {
  readonly #options: LogRetentionOptions
  readonly #rounds: Rounds
  #retention: Retention | undefined
  #kept: (LogKept & { readonly at: number }) | undefined
  #growth = 0
  #warned = false

  constructor(options: LogRetentionOptions) {
    this.#options = options
    this.#rounds = new Rounds(() => this.#look(), options.pauseMilliseconds)
  }

  /** Undefined until it is known. */
  get retention(): Retention | undefined {
    return this.#retention
  }

  get logBytes(): number | undefined {
    return this.#kept?.bytes
  }

  start(): void {
    this.#rounds.start()
  }

  stop(): void {
    this.#rounds.stop()
  }

  async #look(): Promise<void> {
    const { kept, rebuildSeconds, leastSeconds, logger } = this.#options
    try {
      const now = await kept()
      const at = performance.now()
      const before = this.#kept
      if (before !== undefined && now.oldest === before.oldest) {
        this.#growth = Math.max(0, now.bytes - before.bytes) / ((at - before.at) / 1000)
      }
      this.#kept = { ...now, at }
      this.#retention = assessRetention(now, this.#growth, { rebuildSeconds: await rebuildSeconds(), leastSeconds })
    } catch (error) {
      logger.debug({ reason: describeError(error) }, 'the database does not tell how long it keeps its log')
      return
    }
    const { keptSeconds, neededSeconds, enough } = this.#retention
    if (!enough && !this.#warned) {
      logger.warn(
        { keptSeconds: Math.round(keptSeconds), neededSeconds: Math.round(neededSeconds) },
        'the database purges its log sooner than a rebuild may need it: raise binlog_expire_logs_seconds (or the size that its binlog may have)',
      )
    }
    this.#warned = !enough
  }
}
