import type { Databases } from '../adapters/databases.ts'
import type { Applier } from '../applier/applier.ts'
import type { Position } from '../domain/position.ts'

/** Each look is a connection to every database. */
const periodMilliseconds = 2000
const lackingMax = 512

/** Asks the primary now and then where it is and what time it has: for the lag, and for the expiry of what is applied. */
export class PrimaryWatch {
  readonly #databases: Databases
  readonly #applier: Applier
  #timer: NodeJS.Timeout | undefined
  #lagSeconds: number | null = null
  #running = false
  /** When this node was last known to have all that the primary had. */
  #currentAt: number | undefined
  readonly #agesAlone: boolean
  /** What the primary was seen to have and this node has not applied, and when that was, the earliest first. */
  #lacking: { readonly position: Position; readonly since: number }[] = []

  constructor(parts: { databases: Databases; applier: Applier }) {
    this.#databases = parts.databases
    // Beyond a link that is cut writes go on; at home, where no database answers, nothing is written either.
    this.#agesAlone = parts.databases.hasOwnRelay
    this.#applier = parts.applier
  }

  /**
   * 0 where this node has applied all that the primary was seen to have; else since when it lacks something of that. A node that has been away counts
   * from what it applied last. Null where neither can be told. A node with a relay of its own that can't ask the primary counts from when it last
   * had all that the primary had.
   */
  readonly lagSeconds = (): number | null => this.#lagSeconds

  start(): void {
    this.#timer = setInterval(() => void this.#look(), periodMilliseconds)
    void this.#look()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #look(): Promise<void> {
    if (this.#running) {
      // A link that swallows what is sent is known for cut only seconds later: the age must not stand still meanwhile.
      if (this.#agesAlone) this.#grow()
      return
    }
    this.#running = true
    try {
      const askedAt = performance.now()
      const primary = await this.#databases.findPrimary()
      this.#applier.clock.sample(primary.clockSeconds, primary.clockSampledAtMilliseconds)
      const behind = this.#behind(primary.position)
      if (behind === 0) this.#currentAt = askedAt
      if (this.#applier.serving || behind === 0) this.#lagSeconds = behind
      else this.#lagSeconds = Math.max(behind, this.#age() ?? behind)
      this.#applier.noteLag(behind)
    } catch {
      // Who is away is in the log of those who need it; here it only means that the age grows.
      if (this.#agesAlone) this.#grow()
      else this.#lagSeconds = this.#lagSeconds === 0 ? 0 : this.#age()
    } finally {
      this.#running = false
    }
  }

  /** In seconds. No finer than the looks are frequent. */
  #behind(primary: Position): number {
    const now = performance.now()
    this.#lacking = this.#lacking.filter(({ position }) => !this.#applier.hasApplied(position))
    if (!this.#applier.hasApplied(primary)) {
      this.#lacking.push({ position: primary, since: now })
      // The first tells the lag; those in the middle only tell when it shrinks.
      if (this.#lacking.length > lackingMax) this.#lacking.splice(1, lackingMax / 2)
    }
    const since = this.#lacking[0]?.since
    return since === undefined ? 0 : secondsSince(since)
  }

  #grow(): void {
    const since = this.#lacking[0]?.since ?? this.#currentAt
    this.#lagSeconds = since === undefined ? this.#age() : secondsSince(since)
    if (this.#lagSeconds !== null) this.#applier.noteLag(this.#lagSeconds)
  }

  #age(): number | null {
    const { lastAppliedSeconds, clock } = this.#applier
    if (lastAppliedSeconds === 0) return null
    return Math.max(0, Math.round((clock.nowSeconds() - lastAppliedSeconds) * 10) / 10)
  }
}

function secondsSince(since: number): number {
  return Math.round((performance.now() - since) / 100) / 10
}
