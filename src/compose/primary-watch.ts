import type { Databases } from '../adapters/databases.ts'
import type { Applier } from '../applier/applier.ts'
import { covers, type Position } from '../domain/position.ts'

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
  /** What the primary was seen to have and this node has not applied, and when that was, the earliest first. */
  #lacking: { readonly position: Position; readonly since: number }[] = []

  constructor(parts: { databases: Databases; applier: Applier }) {
    this.#databases = parts.databases
    this.#applier = parts.applier
  }

  /**
   * 0 where this node has applied all that the primary was seen to have; else since when it lacks something of that. A node that has been away counts
   * from what it applied last. Null where neither can be told.
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
    if (this.#running) return
    this.#running = true
    try {
      const primary = await this.#databases.findPrimary()
      this.#applier.clock.sample(primary.clockSeconds, primary.clockSampledAtMilliseconds)
      const behind = this.#behind(primary.position)
      if (this.#applier.serving || behind === 0) this.#lagSeconds = behind
      else this.#lagSeconds = Math.max(behind, this.#age() ?? behind)
      this.#applier.noteLag(behind)
    } catch {
      // Who is away is in the log of those who need it; here it only means that the age grows.
      this.#lagSeconds = this.#lagSeconds === 0 ? 0 : this.#age()
    } finally {
      this.#running = false
    }
  }

  /** In seconds. No finer than the looks are frequent. */
  #behind(primary: Position): number {
    const { applied } = this.#applier
    const now = performance.now()
    if (applied !== undefined) this.#lacking = this.#lacking.filter(({ position }) => !covers(applied, position))
    if (applied === undefined || !covers(applied, primary)) {
      this.#lacking.push({ position: primary, since: now })
      // The first tells the lag; those in the middle only tell when it shrinks.
      if (this.#lacking.length > lackingMax) this.#lacking.splice(1, lackingMax / 2)
    }
    const since = this.#lacking[0]?.since
    return since === undefined ? 0 : Math.round((now - since) / 100) / 10
  }

  #age(): number | null {
    const { lastAppliedSeconds, clock } = this.#applier
    if (lastAppliedSeconds === 0) return null
    return Math.max(0, Math.round((clock.nowSeconds() - lastAppliedSeconds) * 10) / 10)
  }
}
