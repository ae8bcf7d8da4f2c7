/** A world's time and chance: events in order of their time, everything from one seed. */
export class WorldClock {
  now = 0
  readonly #heap: { at: number; order: number; work: () => void }[] = []
  #order = 0
  #random: number
  /** Somebody's promise was settled: its followers run before the next event. */
  #dirty = false

  constructor(seed: number) {
    this.#random = (seed * 2654435761 + 12345) >>> 0
  }

  random(): number {
    // mulberry32
    this.#random = (this.#random + 0x6d2b79f5) >>> 0
    let t = this.#random
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  between(low: number, high: number): number {
    return low + this.random() * (high - low)
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)] as T
  }

  at(time: number, work: () => void): void {
    const entry = { at: Math.max(time, this.now), order: this.#order++, work }
    const heap = this.#heap
    heap.push(entry)
    let i = heap.length - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(heap[i]!, heap[parent]!)) break
      ;[heap[i], heap[parent]] = [heap[parent]!, heap[i]!]
      i = parent
    }
  }

  after(milliseconds: number, work: () => void): void {
    this.at(this.now + milliseconds, work)
  }

  touched(): void {
    this.#dirty = true
  }

  async runUntil(end: number): Promise<void> {
    for (;;) {
      const next = this.#heap[0]
      if (next === undefined || next.at > end) break
      this.#pop()
      this.now = next.at
      next.work()
      if (this.#dirty) {
        this.#dirty = false
        await new Promise<void>((resolve) => setImmediate(resolve))
      }
    }
    this.now = end
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    heap[0] = last
    let i = 0
    for (;;) {
      let least = i
      for (const child of [2 * i + 1, 2 * i + 2]) {
        if (child < heap.length && before(heap[child]!, heap[least]!)) least = child
      }
      if (least === i) return
      ;[heap[i], heap[least]] = [heap[least]!, heap[i]!]
      i = least
    }
  }
}

function before(a: { at: number; order: number }, b: { at: number; order: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
