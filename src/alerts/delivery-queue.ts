import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { pause } from '../runtime/pause.ts'
import type { Spool } from './spool.ts'

export interface DeliveryOptions<T> {
  /** As logs and metrics name it: `webhook`. */
  readonly name: string
  /** Rejects where it did not arrive, or where nobody knows: then it is sent again. The oldest first, one at a time. */
  readonly deliver: (item: T, signal: AbortSignal) => Promise<void>
  readonly itemsMax: number
  readonly firstRetryMilliseconds: number
  readonly retryMillisecondsMax: number
  /** What could not be delivered for so long is dropped, so that one item which nobody takes does not hold up the rest for ever. */
  readonly giveUpMilliseconds: number
  readonly spool?: Spool<T> | undefined
  readonly logger: Logger
  /** Milliseconds of the wall clock: what is in the spool may be older than the process. */
  readonly now?: () => number
}

export interface DeliveryCounts {
  readonly waiting: number
  readonly delivered: number
  readonly failed: number
  readonly dropped: number
}

export interface Queued<T> {
  readonly since: number
  readonly item: T
}

/**
 * Carries items somewhere, at least once and in order: an item leaves the queue only after it arrived. With a spool what waits survives
 * the process. Full, the oldest goes: what is told last says how things are.
 */
export class DeliveryQueue<T> {
  readonly #options: DeliveryOptions<T>
  readonly #abort = new AbortController()
  #waiting: Queued<T>[]
  #running = false
  #delivered = 0
  #failed = 0
  #dropped = 0
  #retryMilliseconds: number

  constructor(options: DeliveryOptions<T>) {
    this.#options = options
    this.#retryMilliseconds = options.firstRetryMilliseconds
    this.#waiting = [...(options.spool?.load() ?? [])].slice(-options.itemsMax)
    this.#wake()
  }

  get name(): string {
    return this.#options.name
  }

  get counts(): DeliveryCounts {
    return {
      waiting: this.#waiting.length,
      delivered: this.#delivered,
      failed: this.#failed,
      dropped: this.#dropped,
    }
  }

  add(item: T): void {
    if (this.#abort.signal.aborted) return
    this.#waiting.push({ since: this.#now(), item })
    while (this.#waiting.length > this.#options.itemsMax) this.#drop('too many wait')
    this.#keep()
    this.#wake()
  }

  /** Gives what waits some time to arrive; what does not stays in the spool for the next start. */
  async close(graceMilliseconds = 0): Promise<void> {
    const deadline = performance.now() + graceMilliseconds
    const never = new AbortController().signal
    while (this.#waiting.length > 0 && performance.now() < deadline) await pause(20, never)
    this.#abort.abort()
    await this.#options.spool?.close()
  }

  #wake(): void {
    if (this.#running || this.#waiting.length === 0 || this.#abort.signal.aborted) return
    this.#running = true
    void this.#run()
      .catch(() => {})
      .finally(() => {
        this.#running = false
        // Something may have come between its last look and now.
        this.#wake()
      })
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    for (;;) {
      const [head] = this.#waiting
      if (head === undefined || signal.aborted) return
      if (this.#now() - head.since > this.#options.giveUpMilliseconds) {
        this.#drop('nobody takes it')
        this.#keep()
        continue
      }
      if (!(await this.#tryOne(head))) await this.#wait()
    }
  }

  async #tryOne(head: Queued<T>): Promise<boolean> {
    const { deliver, logger, name, firstRetryMilliseconds } = this.#options
    try {
      await deliver(head.item, this.#abort.signal)
    } catch (error) {
      this.#failed += 1
      // Once for each row of failures, not for each try.
      const first = this.#retryMilliseconds === firstRetryMilliseconds
      logger[first ? 'warn' : 'debug'](
        { sink: name, error: describeError(error) },
        'an announcement could not be delivered',
      )
      return false
    }
    this.#delivered += 1
    this.#retryMilliseconds = firstRetryMilliseconds
    // It may have been dropped meanwhile, because too many wait.
    if (this.#waiting[0] === head) this.#waiting.shift()
    this.#keep()
    return true
  }

  async #wait(): Promise<void> {
    const milliseconds = this.#retryMilliseconds
    this.#retryMilliseconds = Math.min(milliseconds * 2, this.#options.retryMillisecondsMax)
    await pause(milliseconds * (1 + Math.random() / 10), this.#abort.signal)
  }

  #drop(why: string): void {
    this.#waiting.shift()
    this.#dropped += 1
    const { logger, name } = this.#options
    logger.error({ sink: name, dropped: this.#dropped }, `an announcement was dropped: ${why}`)
  }

  #keep(): void {
    this.#options.spool?.keep(this.#waiting)
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now()
  }
}
