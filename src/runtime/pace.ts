import { pause } from './pause.ts'

export interface PaceLimits {
  readonly perSecondMax: number
  /** Of the time that the work takes, counted with its pauses: 0.1 is a tenth. */
  readonly timeShareMax: number
}

/** Keeps work in pieces below a rate and a share of time, whichever asks for the longer pause. */
export class Pace {
  readonly #limits: PaceLimits
  #since = performance.now()

  constructor(limits: PaceLimits) {
    this.#limits = limits
  }

  /** What follows is the next piece: the time before it does not count as work. */
  begin(): void {
    this.#since = performance.now()
  }

  /** After each piece. @throws the signal's reason */
  async done(count: number, signal: AbortSignal): Promise<void> {
    const worked = performance.now() - this.#since
    const { perSecondMax, timeShareMax } = this.#limits
    const byRate = (count / perSecondMax) * 1000 - worked
    const byShare = worked / timeShareMax - worked
    const wait = Math.max(byRate, byShare)
    if (wait > 1) await pause(wait, signal)
    else signal.throwIfAborted()
    this.#since = performance.now()
  }
}
