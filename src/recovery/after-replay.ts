import type { AntiEntropy } from './anti-entropy.ts'

export interface AfterReplayOptions {
  readonly antiEntropy: Pick<AntiEntropy, 'round' | 'undecided'>
  /** Each rebuild is another object. */
  readonly lastRebuild: () => { readonly truncated: boolean } | undefined
  /** Of the regular passes, in milliseconds. */
  readonly pauseMilliseconds: number
}

const firstPauseMilliseconds = 1000

/**
 * After a rebuild from a log that did not reach back to its beginning, a pass soon: so that the directory learns which keys are gone. Again
 * after 1 s, 2 s, 4 s… while a peer does not answer (where every memcached died at once they all rebuild); what is undecided still
 * when that comes to the regular pause is left to the regular passes.
 */
export class AfterReplay {
  readonly #options: AfterReplayOptions
  #done: { readonly truncated: boolean } | undefined
  #pauseMilliseconds = firstPauseMilliseconds
  #nextAt = 0

  constructor(options: AfterReplayOptions) {
    this.#options = options
  }

  /** To be called every now and then. */
  async look(signal: AbortSignal): Promise<void> {
    const { antiEntropy, lastRebuild, pauseMilliseconds } = this.#options
    const rebuild = lastRebuild()
    if (rebuild?.truncated !== true || rebuild === this.#done || performance.now() < this.#nextAt) return
    const isWhole = await antiEntropy.round(signal, { logReplayed: true })
    const isLast = this.#pauseMilliseconds >= pauseMilliseconds
    if (isWhole && (antiEntropy.undecided === 0 || isLast)) {
      this.#done = rebuild
      this.#pauseMilliseconds = firstPauseMilliseconds
      return
    }
    this.#nextAt = performance.now() + this.#pauseMilliseconds
    this.#pauseMilliseconds = Math.min(this.#pauseMilliseconds * 2, pauseMilliseconds)
  }
}
