import type { ItemKey } from '../domain/key.ts'
import type { Version } from '../domain/version.ts'

/** Keys that are remembered: some ten megabytes with the longest ones. */
const entriesMax = 20_000
/**
 * An association is certain when it is made. It is asked for again after this time all the same: a memcached that restarts counts from
 * the beginning, so that an item could meet the number of another. The token would be too old then: it wins nothing, but a client
 * should not be refused for ever.
 */
const keptMilliseconds = 10_000
/** After a question that failed, the next may come after so long. */
const pauseMilliseconds = 1000

/**
 * The versions of items in a memcached that keeps none itself (before 1.6.27): the binary protocol tells a token with every read, and
 * a read must not wait for SQL each time. An item that has the same number of memcached's own counter as when the directory was asked
 * has the same version.
 */
export class ItemTokens {
  readonly #entries = new Map<ItemKey, { readonly cas: number; readonly version: Version; readonly until: number }>()
  #pausedUntil = 0
  readonly #now: () => number

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** @param cas the item's number in this node's memcached */
  of(key: ItemKey, cas: number): Version | undefined {
    const entry = this.#entries.get(key)
    return entry !== undefined && entry.cas === cas && entry.until > this.#now() ? entry.version : undefined
  }

  /** Only where the item had this number before the directory was asked, and has it afterwards: then no entry of the log lies between. */
  remember(key: ItemKey, cas: number, version: Version): void {
    // Behind all others, so that the first one is the oldest.
    this.#entries.delete(key)
    this.#entries.set(key, { cas, version, until: this.#now() + keptMilliseconds })
    if (this.#entries.size <= entriesMax) return
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest)
      break
    }
  }

  /** Whether it is of use to ask the directory now. */
  get askable(): boolean {
    return this.#now() >= this.#pausedUntil
  }

  failed(): void {
    this.#pausedUntil = this.#now() + pauseMilliseconds
  }
}
