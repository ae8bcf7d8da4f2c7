import type { Databases } from '../adapters/databases.ts'
import type { Applier } from '../applier/applier.ts'
import { covers } from '../domain/position.ts'

/** Each look is a connection to every database. */
const periodMilliseconds = 2000

/** Asks the primary now and then where it is and what time it has: for the lag, and for the expiry of what is applied. */
export class PrimaryWatch {
  readonly #databases: Databases
  readonly #applier: Applier
  #timer: NodeJS.Timeout | undefined
  #lagSeconds: number | null = null
  #running = false

  constructor(parts: { databases: Databases; applier: Applier }) {
    this.#databases = parts.databases
    this.#applier = parts.applier
  }

  /**
   * 0 where this node had applied all that the primary had when it was last asked; else the age of what was applied last. Null where
   * neither can be told.
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
      const applied = this.#applier.log.position
      if (this.#applier.serving && applied !== undefined && covers(applied, primary.position)) this.#lagSeconds = 0
      else this.#lagSeconds = this.#age()
    } catch {
      // Who is away is in the log of those who need it; here it only means that the age grows.
      this.#lagSeconds = this.#lagSeconds === 0 ? 0 : this.#age()
    } finally {
      this.#running = false
    }
  }

  #age(): number | null {
    const { lastAppliedSeconds, clock } = this.#applier
    if (lastAppliedSeconds === 0) return null
    return Math.max(0, Math.round((clock.nowSeconds() - lastAppliedSeconds) * 10) / 10)
  }
}
