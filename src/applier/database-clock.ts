/** The databases' clock, as a difference to this process's monotonic one: a step of this machine's wall clock does not matter. */
export class DatabaseClock {
  #offsetSeconds = Date.now() / 1000 - performance.now() / 1000

  /** @param sampledAtMilliseconds the reading of `performance.now()` at which a database said so */
  sample(clockSeconds: number, sampledAtMilliseconds = performance.now()): void {
    this.#offsetSeconds = clockSeconds - sampledAtMilliseconds / 1000
  }

  nowSeconds(): number {
    return performance.now() / 1000 + this.#offsetSeconds
  }
}
