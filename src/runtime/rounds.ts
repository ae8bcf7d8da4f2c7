import { pause } from './pause.ts'

/**
 * Does something again and again until it is stopped, with a pause after each time. A pause is up to a tenth longer than asked, by chance:
 * nodes that were started together must not stay in step.
 */
export class Rounds {
  readonly #round: (signal: AbortSignal) => Promise<void>
  readonly #pauseMilliseconds: number
  readonly #abort = new AbortController()

  /** @param round tells its own failures: it rejects only when it is aborted */
  constructor(round: (signal: AbortSignal) => Promise<void>, pauseMilliseconds: number) {
    this.#round = round
    this.#pauseMilliseconds = pauseMilliseconds
  }

  /** The first time comes after a pause too. */
  start(): void {
    void this.#run().catch(() => {})
  }

  /** A round that is under way is told by its signal, and not waited for: it may hang on whoever doesn't answer. */
  stop(): void {
    this.#abort.abort()
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    for (;;) {
      await pause(this.#pauseMilliseconds * (1 + Math.random() / 10), signal)
      await this.#round(signal)
    }
  }
}
