import { pause } from '../runtime/pause.ts'
import { describeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { Logger } from '../runtime/logger.ts'
import { type Capacity, capacityOf } from './capacity.ts'
import { Rounds } from '../runtime/rounds.ts'

export interface EvictionWatchOptions {
  readonly namespaces: Pick<Namespaces, 'byName'>
  /** Calls back with what memcached evicts, until it rejects. */
  readonly watch: (evicted: (keys: readonly ItemKey[]) => void, signal: AbortSignal) => Promise<never>
  /** `stats` and `stats slabs`. */
  readonly stats: () => Promise<readonly [readonly string[], readonly string[]]>
  readonly warnPercent: number
  readonly pauseMilliseconds: number
  readonly logger: Logger
}

const reconnectMilliseconds = 1000
/** Below the warning's bound, before it may come again. */
const hysteresis = 0.05

/**
 * Tells what memcached evicts, by namespace, and warns before it begins to. Every node is meant to hold every key: one that
 * evicts goes on being right (the directory knows what lives; a peer is asked before a refusal stands), but it answers misses.
 */
export class EvictionWatch {
  readonly #options: EvictionWatchOptions
  readonly #rounds: Rounds
  readonly #byNamespace = new Map<string, number>()
  readonly #abort = new AbortController()
  #capacity: Capacity | undefined
  #attributed = 0
  #since = 0
  #warned = false
  #evicting = false

  constructor(options: EvictionWatchOptions) {
    this.#options = options
    this.#rounds = new Rounds(() => this.#look(), options.pauseMilliseconds)
  }

  /** Undefined until memcached was asked. */
  get capacity(): Capacity | undefined {
    return this.#capacity
  }

  /** By the namespace's name, as far as memcached told the keys. */
  get evicted(): ReadonlyMap<string, number> {
    return this.#byNamespace
  }

  /** All, by memcached's own count; also of its processes before, as far as this node has seen them. */
  get total(): number {
    return this.#since + (this.#capacity?.evictions ?? 0)
  }

  /** Evicted, and memcached did not say what: its report to watchers is cut short under pressure. */
  get unattributed(): number {
    return Math.max(0, this.total - this.#attributed)
  }

  start(): void {
    void this.#follow()
    void this.#look()
    this.#rounds.start()
  }

  stop(): void {
    this.#abort.abort()
    this.#rounds.stop()
  }

  async #follow(): Promise<void> {
    const { watch, logger } = this.#options
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        await watch((keys) => this.#count(keys), signal)
      } catch (error) {
        if (!signal.aborted) logger.debug({ reason: describeError(error) }, 'evictions are not watched')
      }
      await pause(reconnectMilliseconds, signal).catch(() => {})
    }
  }

  #count(keys: readonly ItemKey[]): void {
    for (const key of keys) {
      const colon = key.indexOf(':')
      const name = key.slice(0, Math.max(0, colon))
      // A name that is no namespace's would be a new counter for each: those stay unattributed.
      if (this.#options.namespaces.byName(name) === undefined) continue
      this.#byNamespace.set(name, (this.#byNamespace.get(name) ?? 0) + 1)
      this.#attributed++
    }
  }

  async #look(): Promise<void> {
    let capacity: Capacity
    try {
      capacity = capacityOf(...(await this.#options.stats()))
    } catch {
      // Whoever needs memcached tells that it is away.
      return
    }
    const before = this.#capacity?.evictions ?? 0
    // Another memcached process counts from 0.
    if (capacity.evictions < before) this.#since += before
    this.#capacity = capacity
    this.#warn(capacity, capacity.evictions > before && before > 0)
  }

  #warn({ share, usedBytes, limitBytes, evictions }: Capacity, grows: boolean): void {
    const { warnPercent, logger } = this.#options
    const figures = { capacityPercent: Math.round(share * 100), usedBytes, limitBytes }
    if (evictions > 0 && (grows || !this.#evicting)) {
      if (!this.#evicting) {
        logger.warn(
          { ...figures, evictions },
          'memcached evicts: this node no longer holds every key. Give it more memory (-m)',
        )
      }
      this.#evicting = true
      this.#warned = true
      return
    }
    if (evictions === 0) this.#evicting = false
    if (!this.#warned && share >= warnPercent / 100) {
      this.#warned = true
      logger.warn(figures, `capacity: ${figures.capacityPercent} % of limit, first evictions expected`)
    } else if (share < warnPercent / 100 - hysteresis && evictions === 0) {
      this.#warned = false
    }
  }
}
