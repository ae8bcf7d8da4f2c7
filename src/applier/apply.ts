import type { ContentsWatch } from '../adapters/near-cache.ts'
import type { WritableCatalogue } from '../domain/catalogue.ts'
import type { ContentsAccess, IdentifiedItem, KeyWatch, RepairEntry, WatchedKey } from '../domain/contents-access.ts'
import type { StaleItem } from '../domain/donation.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey } from '../domain/key.ts'
import type { LaneEntry, LogEntry, NamespaceEntry, StaleEntry, StoreEntry, TouchEntry } from '../domain/log-entry.ts'
import { casText, isLive } from '../domain/local-reads.ts'
import { covers, joinPositions, samePosition, type Position } from '../domain/position.ts'
import { failpoint, failpointArmed } from '../runtime/failpoints.ts'
import { deleteByCas, metaKey } from '../wire/memcached/meta-key.ts'
import type { FollowedPosition } from './followed-position.ts'
import { type ExpiryClock, ItemCommands, memcachedExptime } from './item-commands.ts'
import { KeyWatches } from './key-watches.ts'
import type { LogChunk } from './log-stream.ts'
import type { MemcachedSession } from './memcached-session.ts'
import { formatMarks, formatNamespaces } from './state-item.ts'

/** The applier's connection to memcached, as far as applying needs it. */
export type ApplySession = Pick<MemcachedSession, 'itemCasIsVersion' | 'writeState' | 'bulk'> & {
  readonly connection: Pick<MemcachedSession['connection'], 'request'>
}

export interface ApplyOptions {
  readonly session: ApplySession
  readonly catalogue: WritableCatalogue
  readonly clock: ExpiryClock
  readonly log: FollowedPosition
  readonly counters: ApplyCounters
  /** Told of all that is written, before it is sent. */
  readonly watch?: ContentsWatch | undefined
  readonly contains: Position
  readonly mayContain: Position
  readonly epoch: number
  readonly batchItemsMax: number
  readonly batchBytesMax: number
}

/** Plain numbers that only grow; the metrics read them. */
export class ApplyCounters {
  transactions = 0
  stores = 0
  deletes = 0
  touches = 0
  /** Items marked stale. */
  stales = 0
  flushes = 0
  /** Entries of a generation or a namespace that is gone: not applied. */
  dead = 0
  /** Items that memcached refused to store (out of memory): it has no older value of them either. */
  refused = 0
  batches = 0

  /** All that came along for keys, applied or not. */
  get entries(): number {
    return this.stores + this.deletes + this.touches + this.stales + this.dead
  }
}

/**
 * Log entries → this node's memcached. A batch is: state item "may contain up to", the entries as quiet commands, one `mn`. The
 * next batch's state item says "contains". Replaying a batch is safe: entries are absolute, and a restarted node serves only from
 * `mayContain` on (docs/adr/0005-state-item.md).
 *
 * What else is written to this memcached takes its turn between the batches (domain/contents-access.ts).
 */
export class Apply implements ContentsAccess {
  readonly #given: ApplyOptions
  readonly #commands: ItemCommands
  #contains: Position
  /** What the state item says by now. */
  #written: { contains: Position; mayContain: Position; revision: number }
  #lanes: LaneEntry[] = []
  /** The end of what runs, or waits to. */
  #turn: Promise<void> = Promise.resolve()
  #namespacesText = ''
  #namespacesRevision = -1
  readonly #watches = new KeyWatches()
  #ended = false

  constructor(options: ApplyOptions) {
    this.#given = options
    options.watch?.renew()
    this.#commands = new ItemCommands(options.session.itemCasIsVersion)
    this.#contains = options.contains
    this.#written = { contains: options.contains, mayContain: options.mayContain, revision: options.catalogue.revision }
  }

  get contains(): Position {
    return this.#contains
  }

  /** Nothing beyond here was begun. */
  get mayContain(): Position {
    return this.#written.mayContain
  }

  get epoch(): number {
    return this.#given.epoch
  }

  /** Resolves once all chunks are in memcached and their lanes' writers are told. */
  async apply(chunks: readonly LogChunk[]): Promise<void> {
    const { batchItemsMax, batchBytesMax } = this.#given
    let batch: LogChunk[] = []
    let items = 0
    let bytes = 0
    for (const chunk of chunks) {
      batch.push(chunk)
      items += chunk.entries.length
      bytes += chunk.bytes
      if (items < batchItemsMax && bytes < batchBytesMax) continue
      await this.#inTurn(() => this.#applyBatch(batch))
      batch = []
      items = 0
      bytes = 0
    }
    if (batch.length > 0) await this.#inTurn(() => this.#applyBatch(batch))
  }

  /**
   * A stale item whose right to refill was taken by a look at it: marked anew, between two batches. Memcached that takes no CAS from outside
   * gives the item a new one; here no flush can stand between the check and that (the item would outlive it).
   */
  async giveBack(item: StaleItem): Promise<void> {
    await this.#inTurn(async () => {
      const { session, catalogue } = this.#given
      const namespace = catalogue.byName(item.namespaceName)
      if (namespace === undefined || !isLive(item, namespace)) return
      const { text, binary } = metaKey(item.key)
      const cas = casText(item)
      const version = session.itemCasIsVersion ? ` E${cas}` : ''
      this.#given.watch?.changes(item.key)
      await session.connection.request(`md ${text}${binary ? ' b' : ''} I C${cas}${version}`)
    })
  }

  /** One after the other, in the order of the calls. One that fails is not ended: the connection is given up. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const { watch } = this.#given
    const turn = this.#turn.then(async () => {
      watch?.begin()
      const result = await task()
      watch?.end()
      return result
    })
    this.#turn = turn.then(ignore, ignore)
    return turn
  }

  get ended(): boolean {
    return this.#ended
  }

  /** The connection is gone: whoever waits for a turn is refused. */
  end(): void {
    this.#ended = true
  }

  /** A watermark or a generation never goes back while this connection lives, so what was dead when it was listed is dead now. */
  async deleteUnchanged(items: readonly IdentifiedItem[]): Promise<void> {
    await this.#inTurn(async () => {
      this.#mustLive()
      for (const { key } of items) this.#given.watch?.changes(key)
      await this.#given.session.bulk([items.map(deleteByCas).join('')])
    })
  }

  watch(keys: readonly WatchedKey[]): KeyWatch {
    return this.#watches.open(keys)
  }

  repair(watch: KeyWatch, entries: readonly RepairEntry[]): Promise<boolean[]> {
    return this.#inTurn(async () => {
      this.#mustLive()
      if (!this.#watches.isOpen(watch)) throw new Error('a repair needs an open watch')
      const { catalogue } = this.#given
      const marksStale = entries.some(({ kind }) => kind === 'stale') && !catalogue.staleItems
      if (marksStale) await this.#beginStaleItems(this.#written.mayContain)
      const applied = entries.map((entry) => this.#repair(watch, entry))
      await this.#send()
      return applied
    })
  }

  #repair(watch: KeyWatch, entry: RepairEntry): boolean {
    const namespace = this.#given.catalogue.byId(entry.namespaceId)
    if (namespace === undefined) return false
    const itemKey = entry.kind === 'remove-item' ? entry.itemKey : composeItemKey(namespace.name, entry.key)
    if (watch.changed(itemKey)) return false
    this.#given.watch?.changes(itemKey)
    if (entry.kind === 'remove-item') this.#commands.deleteItem(itemKey)
    else if (entry.generation !== namespace.generation) return false
    else if (entry.kind === 'set') this.#storeItem(namespace.name, entry, longAgo)
    else this.#staleItem(namespace.name, entry, longAgo)
    return true
  }

  #mustLive(): void {
    if (this.#ended) throw new WhiteholeError('not-serving', 'the applier has another connection by now')
  }

  /** Nothing is on its way: lets the state item say that it contains what was applied. */
  async settle(): Promise<void> {
    const { contains, mayContain, revision } = this.#written
    const current = revision === this.#given.catalogue.revision
    const mark = this.#markFor(this.#contains)
    if (current && samePosition(contains, this.#contains) && samePosition(mayContain, mark)) return
    await this.#writeState(mark)
  }

  /**
   * What memcached may contain once everything up to `position` is applied. A former life or a peer may have left more in it, or have left out what
   * changed since: a batch that ends before that must not make a next life serve from its end.
   */
  #markFor(position: Position): Position {
    const { mayContain } = this.#written
    return covers(position, mayContain) ? position : joinPositions(position, mayContain)
  }

  async #applyBatch(batch: readonly LogChunk[]): Promise<void> {
    const end = batch.at(-1)
    if (end === undefined) return
    failpoint('before-apply', () => holdsItems(batch))
    const mark = this.#markFor(end.after)
    // Not awaited: one connection, so memcached reads the mark before the entries.
    const marked = this.#writeState(mark)
    marked.catch(() => {})
    if (failpointArmed('after-mark-before-apply')) {
      await marked
      failpoint('after-mark-before-apply', () => holdsItems(batch))
    }
    const dies = failpointArmed('mid-apply')
    for (const chunk of batch) {
      for (const entry of chunk.entries) {
        if (entry.kind === 'stale' && !this.#given.catalogue.staleItems) await this.#beginStaleItems(mark)
        const barrier = this.#entry(entry, chunk.timestampSeconds)
        if (barrier !== undefined) await this.#flush(barrier, mark)
        if (dies) await this.#dieHalfWay()
      }
      if (chunk.last) this.#contains = chunk.after
    }
    await Promise.all([marked, this.#send()])
    failpoint('after-apply-before-state', () => holdsItems(batch))
    this.#given.counters.batches++
    this.#given.counters.transactions += batch.length
    this.#tell(end.last)
  }

  /** @returns a change that begins a generation: it comes into force at this very place */
  #entry(entry: LogEntry, committedSeconds: number): NamespaceEntry | undefined {
    const { catalogue, log, watch } = this.#given
    if ('key' in entry && (this.#watches.some || watch?.some === true)) {
      const namespace = catalogue.byId(entry.namespaceId)
      if (namespace !== undefined) {
        this.#watches.note(namespace.name, entry)
        watch?.changes(composeItemKey(namespace.name, entry.key))
      }
    }
    switch (entry.kind) {
      case 'set':
        this.#store(entry, committedSeconds)
        return undefined
      case 'delete': {
        const namespace = catalogue.byId(entry.namespaceId)
        if (namespace !== undefined) this.#commands.delete(namespace.name, entry)
        this.#given.counters.deletes++
        return undefined
      }
      case 'touch':
        this.#touch(entry, committedSeconds)
        return undefined
      case 'stale':
        this.#stale(entry, committedSeconds)
        return undefined
      case 'lane':
        if (log.watches(entry.lane)) this.#lanes.push(entry)
        return undefined
      case 'namespace':
        if (catalogue.beginsGeneration(entry)) return entry
        catalogue.merge(entry, undefined)
        return undefined
    }
  }

  #store(entry: StoreEntry, committedSeconds: number): void {
    const { catalogue, counters } = this.#given
    const namespace = catalogue.byId(entry.namespaceId)
    if (namespace === undefined || namespace.generation !== entry.generation) {
      counters.dead++
      return
    }
    counters.stores++
    this.#storeItem(namespace.name, entry, committedSeconds)
  }

  #storeItem(namespaceName: string, entry: StoreEntry, committedSeconds: number): void {
    const exptime = memcachedExptime(entry.expiry, committedSeconds, this.#given.clock)
    if (exptime === undefined) this.#commands.delete(namespaceName, entry)
    else this.#commands.store(namespaceName, entry, exptime)
  }

  #touch(entry: TouchEntry, committedSeconds: number): void {
    const { catalogue, clock, counters } = this.#given
    const namespace = catalogue.byId(entry.namespaceId)
    if (namespace === undefined || namespace.generation !== entry.generation) {
      counters.dead++
      return
    }
    counters.touches++
    const exptime = memcachedExptime(entry.expiry, committedSeconds, clock)
    if (exptime === undefined) this.#commands.delete(namespace.name, entry)
    else this.#commands.touch(namespace.name, entry, exptime)
  }

  #stale(entry: StaleEntry, committedSeconds: number): void {
    const { catalogue, counters } = this.#given
    const namespace = catalogue.byId(entry.namespaceId)
    if (namespace === undefined || namespace.generation !== entry.generation) {
      counters.dead++
      return
    }
    counters.stales++
    this.#staleItem(namespace.name, entry, committedSeconds)
  }

  #staleItem(namespaceName: string, entry: StaleEntry, committedSeconds: number): void {
    const exptime = memcachedExptime(entry.expiry, committedSeconds, this.#given.clock)
    if (exptime === undefined) this.#commands.delete(namespaceName, entry)
    else this.#commands.stale(namespaceName, entry, exptime)
  }

  /**
   * Everything before it is in memcached when it comes into force, nothing behind it is: a reader that sees an entry logged after
   * the flush sees the flush (DESIGN §6.6). Where items carry versions the catalogue's new generation is all of it; else memcached's
   * CAS counter of this instant is the watermark.
   */
  async #flush(entry: NamespaceEntry, mayContain: Position): Promise<void> {
    await this.#send()
    const { itemCasIsVersion } = this.#given.session
    const watermark = itemCasIsVersion ? undefined : await this.#writeState(mayContain)
    failpoint('mid-flush')
    this.#given.catalogue.merge(entry, watermark)
    this.#given.counters.flushes++
  }

  /**
   * From now on plain reads are asked in a way that leaves stale items alone, and the state item says so, before the first one is marked.
   * The round trip lets those on the way arrive, which go over another connection.
   */
  async #beginStaleItems(mayContain: Position): Promise<void> {
    this.#given.catalogue.noteStaleItems()
    await this.#send()
    await this.#writeState(mayContain)
  }

  async #dieHalfWay(): Promise<void> {
    if (this.#commands.count === 0) return
    await this.#send()
    failpoint('mid-apply')
  }

  async #send(): Promise<void> {
    if (this.#commands.count === 0) return
    const complaints = await this.#given.session.bulk([this.#commands.take()])
    for (const line of complaints) {
      if (line.startsWith('SERVER_ERROR')) this.#given.counters.refused++
      else if (line !== 'HD' && line !== 'NF')
        throw new WhiteholeError('memcached-away', `memcached did not understand the applier: ${line}`)
    }
  }

  #tell(complete: boolean): void {
    const lanes = this.#lanes
    // Lanes of a transaction of which only a part is here wait for its end.
    if (complete) this.#lanes = []
    this.#given.log.reached(this.#contains, complete ? lanes : [])
  }

  #writeState(mayContain: Position): Promise<number> {
    const { catalogue, session, epoch } = this.#given
    if (this.#namespacesRevision !== catalogue.revision) {
      this.#namespacesText = formatNamespaces({
        baseWatermark: catalogue.baseWatermark,
        staleItems: catalogue.staleItems,
        namespaces: catalogue.all(),
      })
      this.#namespacesRevision = catalogue.revision
    }
    this.#written = { contains: this.#contains, mayContain, revision: catalogue.revision }
    return session.writeState(formatMarks({ contains: this.#contains, mayContain, epoch }) + this.#namespacesText)
  }
}

/** What is repaired was not written just now: its time left goes by the clock. */
const longAgo = 0

/** A node's own start moves its lanes: nothing for a failpoint to die over. */
function holdsItems(batch: readonly LogChunk[]): boolean {
  return batch.some(({ entries }) => entries.some(({ kind }) => kind !== 'lane' && kind !== 'namespace'))
}

function ignore(): void {}
