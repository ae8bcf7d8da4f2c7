import type { Pending } from './pending.ts'

export interface BatchLimits {
  readonly items: number
  readonly bytes: number
}

/** What waits for a lane. Bounded by the writer, over all lanes together. */
export interface LaneQueue {
  readonly size: number
  /** The next batch, in order; empty where nothing may start now. A flush comes alone. */
  take(limits: BatchLimits, nowMilliseconds: number): Pending[]
  /** When `take` may give something that it doesn't give now, if no event comes before; undefined: never. */
  nextTryAt(nowMilliseconds: number): number | undefined
  /** Puts mutations at their places, also ones that were under way. */
  insert(items: readonly Pending[]): void
  /** Takes out what is overdue. */
  expire(nowMilliseconds: number): Pending[]
  /** Takes out everything. */
  clear(): Pending[]
}

/** Mutations by their ordinal. Taken from the front mostly, added at the end mostly. */
export class OrdinalList {
  #items: Pending[] = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  get front(): Pending | undefined {
    return this.#items[this.#head]
  }

  shift(): Pending | undefined {
    const item = this.#items[this.#head]
    if (item === undefined) return undefined
    this.#head += 1
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) this.#compact()
    return item
  }

  add(item: Pending): void {
    const last = this.#items.at(-1)
    if (last === undefined || this.size === 0 || last.ordinal < item.ordinal) this.#items.push(item)
    else this.merge([item])
  }

  /** @param items in their order */
  merge(items: readonly Pending[]): void {
    if (items.length === 0) return
    this.#compact()
    const rest = this.#items
    const merged: Pending[] = []
    let index = 0
    for (const item of items) {
      let other = rest[index]
      while (other !== undefined && other.ordinal < item.ordinal) {
        merged.push(other)
        other = rest[++index]
      }
      merged.push(item)
    }
    for (; index < rest.length; index++) merged.push(rest[index] as Pending)
    this.#items = merged
  }

  /** Those that `keep` doesn't want leave, in order. */
  filter(keep: (item: Pending) => boolean): Pending[] {
    const gone: Pending[] = []
    const kept: Pending[] = []
    for (let index = this.#head; index < this.#items.length; index++) {
      const item = this.#items[index] as Pending
      if (keep(item)) kept.push(item)
      else gone.push(item)
    }
    this.#items = kept
    this.#head = 0
    return gone
  }

  *[Symbol.iterator](): Iterator<Pending> {
    for (let index = this.#head; index < this.#items.length; index++) yield this.#items[index] as Pending
  }

  #compact(): void {
    if (this.#head === 0) return
    this.#items = this.#items.slice(this.#head)
    this.#head = 0
  }
}

/** Strictly in order. What belongs on the side lane is moved over when its turn comes. */
export class MainQueue implements LaneQueue {
  readonly #list = new OrdinalList()
  readonly #divertIfNeeded: (item: Pending) => boolean

  /** @param divertIfNeeded moves the mutation to the side lane and says so, or lets it be */
  constructor(divertIfNeeded: (item: Pending) => boolean) {
    this.#divertIfNeeded = divertIfNeeded
  }

  get size(): number {
    return this.#list.size
  }

  take(limits: BatchLimits): Pending[] {
    const batch: Pending[] = []
    let bytes = 0
    for (let item = this.#list.front; item !== undefined; item = this.#list.front) {
      if (batch.length > 0 && (batch.length >= limits.items || bytes + item.bytes > limits.bytes)) break
      this.#list.shift()
      if (this.#divertIfNeeded(item)) continue
      batch.push(item)
      bytes += item.bytes
    }
    return batch
  }

  nextTryAt(): number | undefined {
    return this.size === 0 ? undefined : 0
  }

  add(item: Pending): void {
    this.#list.add(item)
  }

  insert(items: readonly Pending[]): void {
    this.#list.merge(items)
  }

  expire(nowMilliseconds: number): Pending[] {
    return expireFront(this.#list, nowMilliseconds)
  }

  clear(): Pending[] {
    return this.#list.filter(() => false)
  }
}

/**
 * In order a key and a session, but not past each other's locks: a mutation whose lock was found held waits a while, with all
 * that stands behind it in its session or for its key; the others go on.
 */
export class SideQueue implements LaneQueue {
  readonly #list = new OrdinalList()

  get size(): number {
    return this.#list.size
  }

  take(limits: BatchLimits, nowMilliseconds: number): Pending[] {
    const batch: Pending[] = []
    const taken = new Set<Pending>()
    let bytes = 0
    for (const item of this.#startable(nowMilliseconds)) {
      // The first that does not fit ends the batch: nothing may overtake it.
      if (
        batch.length > 0 &&
        (standsAlone(item) || batch.length >= limits.items || bytes + item.bytes > limits.bytes)
      ) {
        break
      }
      batch.push(item)
      taken.add(item)
      bytes += item.bytes
      if (standsAlone(item)) break
    }
    if (batch.length > 0) this.#list.filter((item) => !taken.has(item))
    return batch
  }

  nextTryAt(nowMilliseconds: number): number | undefined {
    if (this.#startable(nowMilliseconds).next().done !== true) return nowMilliseconds
    // What stands behind a mutation of its session on the main lane isn't awaited: the lane is woken when that is answered.
    let earliest: number | undefined
    for (const { retryAt } of this.#list) {
      if (retryAt > nowMilliseconds) earliest = Math.min(earliest ?? Infinity, retryAt)
    }
    return earliest
  }

  insert(items: readonly Pending[]): void {
    for (const item of items) this.#list.add(item)
  }

  expire(nowMilliseconds: number): Pending[] {
    return expireFront(this.#list, nowMilliseconds)
  }

  clear(): Pending[] {
    return this.#list.filter(() => false)
  }

  *#startable(nowMilliseconds: number): Generator<Pending, void> {
    const heldSessions = new Set<object>()
    const held = new Set<string>()
    for (const item of this.#list) {
      const waits = item.retryAt > nowMilliseconds
      if (waits && item.contended !== undefined) held.add(item.contended)
      if (waits || heldSessions.has(item.order) || item.order.first?.route !== 'side' || isHeld(item, held)) {
        heldSessions.add(item.order)
      } else {
        yield item
      }
    }
  }
}

function isHeld(item: Pending, held: ReadonlySet<string>): boolean {
  if (held.size === 0) return false
  return held.has(String(item.mutation.namespaceId)) || (item.key !== undefined && held.has(item.key.id))
}

function standsAlone(item: Pending): boolean {
  return item.alone || item.key === undefined
}

function expireFront(list: OrdinalList, nowMilliseconds: number): Pending[] {
  const expired: Pending[] = []
  for (let item = list.front; item !== undefined && item.deadline <= nowMilliseconds; item = list.front) {
    list.shift()
    expired.push(item)
  }
  return expired
}
