/**
 * memcached's clock, in Unix seconds with a fraction. memcached tells whole seconds, and ticks at a place of the second of its own: one answer
 * leaves a second of doubt. Each answer says that the tick to its second came before it and the next one comes after; together they find the place.
 */
export class MemcachedClock {
  /** memcached's clock minus `performance.now()`, in seconds, lies between. */
  #least = -Infinity
  #most = Infinity
  #sampledAtSeconds = 0

  /** @param seconds what memcached said in between, both by `performance.now()` */
  sample(seconds: number, askedAtMilliseconds: number, answeredAtMilliseconds: number): void {
    const least = seconds - answeredAtMilliseconds / 1000
    const most = seconds + 1 - askedAtMilliseconds / 1000
    const doubt = (answeredAtMilliseconds / 1000 - this.#sampledAtSeconds) * driftSecondsPerSecond
    this.#sampledAtSeconds = answeredAtMilliseconds / 1000
    this.#least = Math.max(least, this.#least - doubt)
    this.#most = Math.min(most, this.#most + doubt)
    if (this.#least <= this.#most) return
    // It skipped a second, or is another memcached.
    this.#least = least
    this.#most = most
  }

  nowSeconds(): number {
    return performance.now() / 1000 + (this.#least + this.#most) / 2
  }
}

/** Its ticks come a little late each, and the place wanders. */
const driftSecondsPerSecond = 0.002
