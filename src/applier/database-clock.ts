/** The databases' clock, as a difference to this process's monotonic one: a step of this machine's wall clock does not matter. */
export class DatabaseClock {
  #offsetSeconds = Date.now() / 1000 - performance.now() / 1000

  /** @param clockSeconds what a database said just now */
  sample(clockSeconds: number): void {
    this.#offsetSeconds = clockSeconds - performance.now() / 1000
  }

  nowSeconds(): number {
    return performance.now() / 1000 + this.#offsetSeconds
  }
}
