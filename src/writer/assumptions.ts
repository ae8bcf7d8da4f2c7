import type { NamespaceId } from '../domain/namespace.ts'
import type { DirectoryRow, Facts, NamespaceRow } from './decision.ts'
import type { Unlocked } from './statements.ts'

/** What a transaction is decided upon before it has read anything; the statement that writes makes sure that it holds. */
export interface Assumed extends Unlocked {
  readonly namespaces: readonly (readonly [NamespaceId, NamespaceRow])[]
  /** The whole second of the primary's clock that something was reckoned with; undefined: nothing was. */
  readonly second: number | undefined
}

const namespacesMax = 4
const namespacesKnownMax = 1024

/** When a question was sent and answered, by `performance.now()`; the primary's clock was read in between. */
export interface Asked {
  readonly at: number
  readonly answeredAt: number
}

/** The primary's clock less ours. */
interface Clock {
  /** As if it was read as soon as the question was sent. Most of the way to the answer is the commit. */
  readonly aheadSeconds: number
  /** As if it was read just before the answer came. */
  readonly aheadAtLeastSeconds: number
}

/** What a session's former transactions read: of the namespaces and of the primary's clock. For one session. */
export class Assumptions {
  readonly #namespaces = new Map<NamespaceId, NamespaceRow>()
  #clock: Clock | undefined

  note(read: { nowSeconds: number; namespaces: Facts['namespaces'] }, asked: Asked): void {
    this.noteClock(read.nowSeconds, asked)
    if (this.#namespaces.size + read.namespaces.size > namespacesKnownMax) this.#namespaces.clear()
    for (const [id, row] of read.namespaces) this.#namespaces.set(id, row)
  }

  noteClock(nowSeconds: number, { at, answeredAt }: Asked): void {
    this.#clock = { aheadSeconds: nowSeconds - at / 1000, aheadAtLeastSeconds: nowSeconds - answeredAt / 1000 }
  }

  /** Something else was found. */
  forget(): void {
    this.#namespaces.clear()
    this.#clock = undefined
  }

  /**
   * Undefined where something of it was never read.
   * @param unread the keys, which are all to be overwritten
   */
  factsOf(ids: ReadonlySet<NamespaceId>, unread: ReadonlySet<string>): AssumedFacts | undefined {
    const clock = this.#clock
    if (clock === undefined || ids.size > namespacesMax) return undefined
    const namespaces = new Map<NamespaceId, NamespaceRow>()
    for (const id of ids) {
      const row = this.#namespaces.get(id)
      if (row === undefined) return undefined
      namespaces.set(id, row)
    }
    return new AssumedFacts(clock, { namespaces, unread })
  }
}

/** Notices whether the clock plays a part. */
export class AssumedFacts implements Facts {
  readonly namespaces: ReadonlyMap<NamespaceId, NamespaceRow>
  readonly rows: ReadonlyMap<string, DirectoryRow> = new Map()
  readonly unread: ReadonlySet<string>
  readonly #clock: Clock
  readonly #nowSeconds: number
  #isClockRead = false

  constructor(clock: Clock, { namespaces, unread }: Pick<Facts, 'namespaces' | 'unread'>) {
    this.namespaces = namespaces
    this.unread = unread
    this.#clock = clock
    this.#nowSeconds = clock.aheadSeconds + performance.now() / 1000
  }

  get nowSeconds(): number {
    this.#isClockRead = true
    return this.#nowSeconds
  }

  /** @param deadline by `performance.now()` */
  assumed(deadline: number): Assumed {
    return {
      notAfterSeconds: this.#clock.aheadAtLeastSeconds + deadline / 1000,
      namespaces: [...this.namespaces],
      second: this.#isClockRead ? Math.floor(this.#nowSeconds) : undefined,
    }
  }
}
