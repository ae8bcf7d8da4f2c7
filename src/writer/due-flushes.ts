import { describeError } from '../domain/errors.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { Logger } from '../runtime/logger.ts'

export interface DueFlushesOptions {
  readonly namespaces: Namespaces
  /** Executes one exactly once over all nodes (writer.ts). */
  flushDue(namespaceId: NamespaceId, dueSeconds: number): Promise<boolean>
  /** The primary's clock as this node knows it; the transaction asks the clock itself. */
  readonly clock: { nowSeconds(): number }
  readonly logger: Logger
}

const lookMilliseconds = 250
/** After a failure, or a "not yet" of the primary's clock. */
const againMilliseconds = 1000

/**
 * Executes delayed flushes when they are due. They stand in the catalogue, so any node may come first, and one that restarts
 * forgets none.
 */
export class DueFlushes {
  readonly #options: DueFlushesOptions
  /** By namespace: not tried before, by `performance.now()`. Only of those that are due now. */
  readonly #notBefore = new Map<NamespaceId, number>()
  #timer: NodeJS.Timeout | undefined

  constructor(options: DueFlushesOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#look(), lookMilliseconds)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#notBefore.clear()
  }

  #look(): void {
    const now = performance.now()
    const clockSeconds = this.#options.clock.nowSeconds()
    for (const { id, flushDue } of this.#options.namespaces.all()) {
      if (flushDue === 0 || flushDue > clockSeconds) this.#notBefore.delete(id)
      else if ((this.#notBefore.get(id) ?? 0) <= now) void this.#execute(id, flushDue)
    }
  }

  async #execute(id: NamespaceId, flushDue: number): Promise<void> {
    this.#notBefore.set(id, Infinity)
    try {
      const done = await this.#options.flushDue(id, flushDue)
      if (done) this.#options.logger.info({ namespaceId: id, flushDue }, 'a delayed flush was executed')
    } catch (error) {
      this.#options.logger.warn({ namespaceId: id, error: describeError(error) }, 'a delayed flush failed; again soon')
    } finally {
      if (this.#timer !== undefined) this.#notBefore.set(id, performance.now() + againMilliseconds)
    }
  }
}
