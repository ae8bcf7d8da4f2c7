import { vi } from 'vitest'

interface Timer {
  readonly at: number
  readonly order: number
  readonly run: () => void
  unref(): Timer
}

const realSetImmediate = setImmediate
const realNow = performance.now.bind(performance)
const realRandom = Math.random

/**
 * Global timers and `performance.now` under a test's hand. vitest's own fake timers wait for a real one between each two of theirs: with thousands of them
 * in a run that is a hundred times slower.
 */
export class VirtualClock {
  #now = 0
  #order = 0
  readonly #timers = new Set<Timer>()

  constructor() {
    vi.stubGlobal('setTimeout', (run: () => void, milliseconds = 0): Timer => {
      const timer: Timer = { at: this.#now + Math.max(0, milliseconds), order: this.#order++, run, unref: () => timer }
      this.#timers.add(timer)
      return timer
    })
    vi.stubGlobal('clearTimeout', (timer: Timer | undefined) => {
      if (timer !== undefined) this.#timers.delete(timer)
    })
    // Not spies: those keep each of their calls.
    performance.now = () => this.#now
  }

  /** Waits are jittered by it. */
  set random(random: () => number) {
    Math.random = random
  }

  get waiting(): number {
    return this.#timers.size
  }

  /** Everything that is due meanwhile happens, in its order, with all that follows at once from each. */
  async advance(milliseconds: number): Promise<void> {
    const until = this.#now + milliseconds
    await settled()
    for (;;) {
      const next = this.#next()
      if (next === undefined || next.at > until) break
      this.#timers.delete(next)
      this.#now = next.at
      next.run()
      await settled()
    }
    this.#now = until
  }

  restore(): void {
    vi.unstubAllGlobals()
    performance.now = realNow
    Math.random = realRandom
  }

  #next(): Timer | undefined {
    let first: Timer | undefined
    for (const timer of this.#timers) {
      if (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer
    }
    return first
  }
}

/** All promises that can be kept without a timer are. */
function settled(): Promise<void> {
  return new Promise((resolve) => realSetImmediate(resolve))
}
