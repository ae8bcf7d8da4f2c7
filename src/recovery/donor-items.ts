import type { MemcachedConnection } from '../adapters/memcached-connection.ts'
import { type DumpedItem, lifeOf } from '../adapters/memcached-dump.ts'
import type { Contents, ServedContents } from '../domain/donation.ts'
import { type CachedItem, isLease, isLive, itemCasIsVersion } from '../domain/local-reads.ts'
import type { CataloguedNamespace, Namespaces } from '../domain/namespaces.ts'
import { parseExamination } from '../wire/memcached/examination.ts'
import { metaKey } from '../wire/memcached/meta-key.ts'
import { ItemsFrame } from '../wire/peer/item-stream.ts'

export interface DonorItemsOptions {
  /** Of its own: the donation's reads must not stand in front of clients'. */
  readonly memcached: MemcachedConnection
  readonly namespaces: Namespaces & { readonly staleItems: boolean }
  /** @throws Error where this node has nothing to give any more */
  readonly now: () => Contents
  readonly giveBack: ServedContents['giveBack']
}

/** Asked for at a time. More makes clients wait longer, less wastes time. */
const runItems = 256
const runBytes = 512 * 1024
/** A frame is about this large, or one item. */
const frameBytes = 256 * 1024

interface Listed {
  readonly items: readonly DumpedItem[]
  readonly cursor: number
}

interface Read {
  readonly item: CachedItem
  readonly stale: boolean
}

/** Listed items → frames with their values. Two runs are on their way at a time: memcached works while frames are made. */
export class DonorItems {
  readonly #options: DonorItemsOptions
  readonly #frame = new ItemsFrame()

  constructor(options: DonorItemsOptions) {
    this.#options = options
  }

  async *frames(listing: AsyncIterable<Listed>): AsyncGenerator<{ readonly frame: Buffer; readonly count: number }> {
    let ahead: { run: Listed; read: Promise<readonly (Read | undefined)[]> } | undefined
    let cursor = 0
    for await (const run of this.#runs(listing)) {
      const read = this.#ask(run.items)
      read.catch(() => {})
      if (ahead !== undefined) {
        this.#add(ahead.run.items, await ahead.read)
        cursor = ahead.run.cursor
        if (this.#frame.bytes >= frameBytes) yield this.#take(cursor)
      }
      ahead = { run, read }
    }
    if (ahead === undefined) return
    this.#add(ahead.run.items, await ahead.read)
    yield this.#take(ahead.run.cursor)
  }

  #take(cursor: number): { frame: Buffer; count: number } {
    const { count } = this.#frame
    return { count, frame: this.#frame.take(cursor) }
  }

  /** Each with the cursor up to which everything is in it or in those before. */
  async *#runs(listing: AsyncIterable<Listed>): AsyncGenerator<Listed> {
    let before = 0
    for await (const { items, cursor } of listing) {
      const wanted = items.filter((item) => this.#wants(item))
      for (let from = 0; from < wanted.length;) {
        const to = endOfRun(wanted, from)
        yield { items: wanted.slice(from, to), cursor: to === wanted.length ? cursor : before }
        from = to
      }
      before = cursor
    }
  }

  /** A lease is of this node alone (races.md R31); what is dead here is dead at the receiver's place of the log, or its log ends it. */
  #wants(item: DumpedItem): boolean {
    const namespace = this.#namespaceOf(item)
    return namespace !== undefined && isLive(item, namespace) && !isLease(item, namespace)
  }

  #namespaceOf({ key }: DumpedItem): CataloguedNamespace | undefined {
    const colon = key.indexOf(':')
    return colon < 0 ? undefined : this.#options.namespaces.byName(key.slice(0, colon))
  }

  async #ask(items: readonly DumpedItem[]): Promise<readonly (Read | undefined)[]> {
    if (this.#options.namespaces.staleItems) return Promise.all(items.map((item) => this.#examine(item)))
    const found = await this.#peek(items)
    for (const [index, read] of found.entries()) {
      const item = items[index]
      // A placeholder, perhaps: only memcached that takes versions tells it by the CAS.
      const empty = read !== undefined && read.item.value.length === 0 && read.item.flags === '0'
      if (empty && item !== undefined && !this.#keepsVersions) found[index] = await this.#examine(item)
    }
    return found
  }

  #peek(items: readonly DumpedItem[]): Promise<(Read | undefined)[]> {
    return new Promise((resolve, reject) => {
      const found: (Read | undefined)[] = []
      const sink = (item: CachedItem | undefined, error?: Error): void => {
        if (error !== undefined) reject(error)
        else if (found.push(item === undefined ? undefined : { item, stale: false }) === items.length) resolve(found)
      }
      for (const { key } of items) this.#options.memcached.metaPeek(key, sink)
    })
  }

  get #keepsVersions(): boolean {
    const [namespace] = this.#options.namespaces.all()
    return namespace !== undefined && itemCasIsVersion(namespace)
  }

  #add(listed: readonly DumpedItem[], read: readonly (Read | undefined)[]): void {
    const { databaseNowSeconds, memcachedNowSeconds } = this.#options.now()
    for (const [index, one] of listed.entries()) {
      const found = read[index]
      // Stored anew since the listing: that is in the receiver's log.
      if (found === undefined || found.item.casLow !== one.casLow || found.item.casHigh !== one.casHigh) continue
      const { expires } = lifeOf(one)
      if (expires !== 0 && expires <= memcachedNowSeconds) continue
      const endSeconds = expires === 0 ? 0 : expires - memcachedNowSeconds + databaseNowSeconds
      const { casHigh, casLow, flags, value } = found.item
      this.#frame.add({ key: one.key, stale: found.stale, endSeconds, flags: Number(flags), casHigh, casLow, value })
    }
  }

  /** Where items may be stale. Any `mg` takes a stale item's right to refill from this node's clients: it is given back. */
  async #examine(listed: DumpedItem): Promise<Read | undefined> {
    const { key } = listed
    const { memcached } = this.#options
    const { text, binary } = metaKey(key)
    const { line, value = Buffer.alloc(0) } = await memcached.request(`mg ${text} s f c t h l v u${binary ? ' b' : ''}`)
    const item = parseExamination(line, value)
    if (item === undefined) return undefined
    if (item.stale && item.won) {
      const namespaceName = this.#namespaceOf(listed)?.name ?? ''
      await this.#options.giveBack({ key, namespaceName, casHigh: item.casHigh, casLow: item.casLow })
    }
    if (!item.stale && item.leased && item.sizeBytes === 0 && item.flags === '0') return undefined
    const { casHigh, casLow, flags } = item
    return { item: { casHigh, casLow, flags, value }, stale: item.stale }
  }
}

function endOfRun(items: readonly DumpedItem[], from: number): number {
  let bytes = 0
  let to = from
  while (to < items.length && to - from < runItems && bytes < runBytes) {
    bytes += lifeOf(items[to] as DumpedItem).bytes
    to++
  }
  return to
}
