import type { ItemKey } from '../domain/key.ts'
import type { CachedItem } from '../domain/local-reads.ts'

/** What the applier tells before and after it writes to memcached. */
export interface ContentsWatch {
  /** Another life of the applier's connection: whatever was known of the contents is forgotten. */
  renew(): void
  /** Something is to be written. Turns don't overlap; one that fails is never ended. */
  begin(): void
  /** Within a turn, before anything for this key is sent. Worth calling only while `some`. */
  changes(key: ItemKey): void
  /** memcached has confirmed all of the turn. */
  end(): void
  /** Whether anything is known that could change. */
  readonly some: boolean
}

/** Says that a reply is not to be kept. */
export const noTicket = -1

/** Of bytes; larger ones are worth the way to memcached. */
const valueBytesMax = 64 * 1024
/** memcached must see that an item is used, or evicts it. */
const keptMilliseconds = 10_000
/** Different keys among which one must be asked for twice. */
const askedMax = 16_384
/** Up to here a value goes into the reply's text anyway. */
const textBytesMax = 4096
/** Of an entry beside its key and value, about. */
const overheadBytes = 250

/**
 * Copies of items of this node's memcached, exact as of every instant (docs/adr/0020-near-cache.md has the interleavings). Whoever asks it
 * sees to it that the node serves, that the item is live, and that nothing older of the same client is under way.
 */
export class NearCache implements ContentsWatch {
  readonly figures = { hits: 0, kept: 0 }
  readonly #halfBytes: number
  /** What was used since the halves changed places last. */
  #young = new Map<ItemKey, NearItem>()
  #old = new Map<ItemKey, NearItem>()
  #youngBytes = 0
  #oldBytes = 0
  readonly #asked = new Set<ItemKey>()
  /** Grows with each turn of the applier. */
  #era = 0
  #changing = false

  /** @param bytesMax 0: nothing is ever kept */
  constructor(bytesMax: number) {
    this.#halfBytes = bytesMax / 2
  }

  get bytes(): number {
    return this.#youngBytes + this.#oldBytes
  }

  get items(): number {
    return this.#young.size + this.#old.size
  }

  get some(): boolean {
    return this.#young.size > 0 || this.#old.size > 0
  }

  find(key: ItemKey): CachedItem | undefined {
    let item = this.#young.get(key)
    if (item === undefined) {
      item = this.#old.get(key)
      if (item === undefined) return undefined
      this.#old.delete(key)
      this.#oldBytes -= item.bytes
      this.#add(key, item)
    }
    if (performance.now() >= item.until) {
      this.changes(key)
      return undefined
    }
    this.figures.hits++
    return item
  }

  /** Before memcached is asked for the key. @returns what `keep` wants, or `noTicket` */
  ticket(key: ItemKey): number {
    if (this.#changing || this.#halfBytes === 0) return noTicket
    if (this.#asked.has(key)) return this.#era
    if (this.#asked.size >= askedMax) this.#asked.clear()
    this.#asked.add(key)
    return noTicket
  }

  /**
   * What memcached answered.
   * @param askedAt by `performance.now()`
   */
  keep(ticket: number, key: ItemKey, item: CachedItem, askedAt: number): void {
    if (ticket !== this.#era || this.#changing) return
    const { value, remainingSeconds } = item
    if (value.length === 0 || value.length > valueBytesMax || remainingSeconds === undefined) return
    const left = remainingSeconds < 0 ? keptMilliseconds : Math.min((remainingSeconds - 1) * 1000, keptMilliseconds)
    if (left <= 0) return
    const bytes = overheadBytes + key.length + value.length
    if (bytes > this.#halfBytes) return
    this.changes(key)
    this.#add(key, new NearItem(item, { bytes, until: askedAt + left }))
    this.figures.kept++
  }

  renew(): void {
    this.#era++
    this.#changing = false
    this.#young = new Map()
    this.#old = new Map()
    this.#youngBytes = 0
    this.#oldBytes = 0
  }

  begin(): void {
    this.#era++
    this.#changing = true
  }

  changes(key: ItemKey): void {
    const young = this.#young.get(key)
    if (young !== undefined) {
      this.#young.delete(key)
      this.#youngBytes -= young.bytes
    }
    const old = this.#old.get(key)
    if (old === undefined) return
    this.#old.delete(key)
    this.#oldBytes -= old.bytes
  }

  end(): void {
    this.#changing = false
  }

  #add(key: ItemKey, item: NearItem): void {
    if (this.#youngBytes + item.bytes > this.#halfBytes) {
      this.#old = this.#young
      this.#oldBytes = this.#youngBytes
      this.#young = new Map()
      this.#youngBytes = 0
    }
    this.#young.set(key, item)
    this.#youngBytes += item.bytes
  }
}

class NearItem implements CachedItem {
  readonly flags: string
  readonly casHigh: number
  readonly casLow: number
  /** A small value: as the text protocols send it. */
  readonly text: string | undefined
  /** By `performance.now()`. */
  readonly until: number
  /** What it counts for. */
  readonly bytes: number
  readonly #value: Buffer | undefined

  constructor(item: CachedItem, { until, bytes }: { until: number; bytes: number }) {
    const { flags, casHigh, casLow, value } = item
    this.flags = flags
    this.casHigh = casHigh
    this.casLow = casLow
    this.until = until
    this.bytes = bytes
    // The value is a part of what came over the connection: a view of it would keep all of that.
    if (value.length <= textBytesMax) this.text = value.toString('latin1')
    else this.#value = Buffer.from(value)
  }

  get value(): Buffer {
    return this.#value ?? Buffer.from(this.text ?? '', 'latin1')
  }
}
