import type { WorldClock } from './world-clock.ts'

/** A process of the world: what is down or stopped takes nothing in; what is stopped takes it in later. */
export class WorldProcess {
  readonly name: string
  readonly #clock: WorldClock
  up = true
  stopped = false
  /** Rises with each start: what belongs to an earlier life is dropped. */
  life = 1
  #waiting: (() => void)[] = []

  constructor(name: string, clock: WorldClock) {
    this.name = name
    this.#clock = clock
  }

  /** Runs it as this life of the process, now, or once it goes on after a stop; never, if it died meanwhile. */
  run(work: () => void): void {
    if (!this.up) return
    if (this.stopped) this.#waiting.push(work)
    else work()
  }

  later(milliseconds: number, work: () => void): void {
    const { life } = this
    this.#clock.after(milliseconds, () => {
      if (this.life === life) this.run(work)
    })
  }

  stop(): void {
    this.stopped = true
  }

  goOn(): void {
    this.stopped = false
    const waiting = this.#waiting
    this.#waiting = []
    for (const work of waiting) this.run(work)
  }

  die(): void {
    this.up = false
    this.stopped = false
    this.life += 1
    this.#waiting = []
  }

  start(): void {
    this.up = true
  }
}

export class WorldNetwork {
  readonly #clock: WorldClock
  readonly #cut = new Set<string>()
  loss = 0
  duplication = 0
  delayMax = 3

  constructor(clock: WorldClock) {
    this.#clock = clock
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`)
  }

  uncut(from: string, to: string): void {
    this.#cut.delete(`${from}>${to}`)
  }

  isCut(from: string, to: string): boolean {
    return from !== to && this.#cut.has(`${from}>${to}`)
  }

  heal(): void {
    this.#cut.clear()
    this.loss = 0
    this.duplication = 0
    this.delayMax = 3
  }

  /** A datagram of HTTP's kind: may be lost, late, doubled. */
  send(from: WorldProcess, to: WorldProcess, work: () => void): void {
    const copies = this.#clock.random() < this.duplication ? 2 : 1
    for (let n = 0; n < copies; n++) {
      if (this.isCut(from.name, to.name) || this.#clock.random() < this.loss) continue
      const { life } = to
      this.#clock.after(this.#clock.between(0.2, this.delayMax), () => {
        if (to.life === life) to.run(work)
      })
    }
  }

  /** On a stream: in order, nothing lost unless the link is cut (the stream then hangs; its owner gives it up in time). */
  stream(from: WorldProcess, to: WorldProcess): (work: () => void) => void {
    const { life } = to
    let last = 0
    return (work) => {
      if (this.isCut(from.name, to.name)) {
        last = Infinity
        return
      }
      if (last === Infinity) return
      last = Math.max(last, this.#clock.now + this.#clock.between(0.2, this.delayMax))
      this.#clock.at(last, () => {
        if (to.life === life) to.run(work)
      })
    }
  }
}
