import { setTimeout as delay } from 'node:timers/promises'

export interface DonorPaceOptions {
  /** 0: no limit. */
  readonly bytesPerSecondMax: number
  /** Bytes that clients have sent to this node so far: tells whether it is busy with them. */
  readonly clientBytes: () => number
}

/**
 * Clients that send less are not held up by whatever a donation does: some eight hundred gets a second. Not more, for on a machine that has little
 * time left fewer come through, and those are the ones to spare.
 */
const busyBytesPerSecond = 20_000
/** Where clients are served, a donation works this part of the time. */
const busyShare = 1 / 4
const restMillisecondsMax = 200

/**
 * How fast a donation may go: as fast as it is taken while nobody else wants anything, a quarter of the time beside clients (so that they
 * lose no more than a third), and never above the configured rate.
 */
export class DonorPace {
  readonly #options: DonorPaceOptions
  #workSince = performance.now()
  #sampledAt = performance.now()
  #sampledBytes: number
  #busy = false
  #owedBytes = 0
  #owedAt = performance.now()

  constructor(options: DonorPaceOptions) {
    this.#options = options
    this.#sampledBytes = options.clientBytes()
  }

  /** Between two pieces of work. */
  async rest(_keys: number, bytes: number): Promise<void> {
    const now = performance.now()
    this.#sample(now)
    const worked = now - this.#workSince
    const share = this.#busy ? worked * (1 / busyShare - 1) : 0
    const wait = Math.min(restMillisecondsMax, Math.max(share, this.#limit(now, bytes)))
    // A timer is no finer than a millisecond; what is shorter is gathered.
    if (wait < 1) {
      if (!this.#busy) this.#workSince = now
      return
    }
    await delay(wait)
    this.#workSince = performance.now()
  }

  #sample(now: number): void {
    const elapsed = now - this.#sampledAt
    if (elapsed < 20) return
    const bytes = this.#options.clientBytes()
    this.#busy = (bytes - this.#sampledBytes) * 1000 > busyBytesPerSecond * elapsed
    this.#sampledAt = now
    this.#sampledBytes = bytes
  }

  /** Milliseconds until the configured rate allows for what was sent. */
  #limit(now: number, bytes: number): number {
    const { bytesPerSecondMax } = this.#options
    if (bytesPerSecondMax === 0) return 0
    this.#owedBytes = Math.max(0, this.#owedBytes - ((now - this.#owedAt) * bytesPerSecondMax) / 1000) + bytes
    this.#owedAt = now
    return (this.#owedBytes * 1000) / bytesPerSecondMax
  }
}
