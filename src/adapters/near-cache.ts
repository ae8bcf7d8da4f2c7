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
/** memcached must see that an item is used, or evicts it; it looks once a minute. */
const keptMilliseconds = 30_000
/** Whenever so many copies have gone: what a copy costs must have come back as hits. */
const trialItems = 512
const hitsAnItem = 3
const shareLeast = 1 / 128
const shareFirst = 1 / 4
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
  /** Of the replies that could be kept, those that are: whoever is chosen by chance is likely one that is asked for often. */
  #share = shareFirst
  /** Of the copies that have gone since the share was looked at. */
  #gone = 0
  #goneHits = 0
  /** Grows with each turn of the applier. */
  #era = 0
  #changing = false

  readonly #random: () => number

  /**
   * @param bytesMax 0: nothing is ever kept
   * @param random in [0, 1)
   */
  constructor(bytesMax: number, random: () => number = Math.random) {
    this.#halfBytes = bytesMax / 2
    this.#random = random
  }

  /** Of the replies that could be kept, those that are. */
  get share(): number {
    return this.#share
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
    item.hits++
    return item
  }

  /** Before memcached is asked. @returns what `keep` wants, or `noTicket` */
  ticket(): number {
    if (this.#changing || this.#halfBytes === 0) return noTicket
    return this.#share === 1 || this.#random() < this.#share ? this.#era : noTicket
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
    if (this.#gone >= trialItems) this.#judge()
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
      this.#left(young)
    }
    const old = this.#old.get(key)
    if (old === undefined) return
    this.#old.delete(key)
    this.#oldBytes -= old.bytes
    this.#left(old)
  }

  end(): void {
    this.#changing = false
  }

  #left(item: NearItem): void {
    this.#gone++
    this.#goneHits += item.hits
  }

  #judge(): void {
    const worth = this.#goneHits >= this.#gone * hitsAnItem
    this.#share = worth ? Math.min(1, this.#share * 2) : Math.max(shareLeast, this.#share / 2)
    this.#gone = 0
    this.#goneHits = 0
  }

  #add(key: ItemKey, item: NearItem): void {
    if (this.#youngBytes + item.bytes > this.#halfBytes) {
      // Some tell how all did.
      let told = 0
      for (const gone of this.#old.values()) {
        this.#left(gone)
        if (++told === trialItems) break
      }
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
  hits = 0
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
