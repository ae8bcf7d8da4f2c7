import { WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { ItemKey } from '../domain/key.ts'
import {
  type CachedItem,
  type ExaminedItem,
  type ItemQuestion,
  type LocalReads,
  type ReadSink,
} from '../domain/local-reads.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { Position } from '../domain/position.ts'
import { cachedItemOf, examinedItemOf } from './peer-items.ts'
import type { RemoteReads } from './remote-reads.ts'

export interface RoutedReadsOptions {
  readonly own: LocalReads
  readonly remote: RemoteReads
  readonly namespaces: Namespaces & { readonly baseWatermark: number | undefined }
  readonly log: FollowedLog
  /** What clients may have seen of this node's memcached when it served last. */
  readonly lastHorizon: () => Position | undefined
  /** Can a position never be reached again, since the primary never had it? */
  readonly isLost: (position: Position) => Promise<boolean>
}

/** On the way back to the own memcached, reads wait so long at most: then they go to a peer again. */
const returnMilliseconds = 1000
const heldMax = 20_000

/**
 * Where a client's read goes.
 *
 *     own ── memcached away, contents not trusted ──▶ peer
 *      ▲                                               │ the node serves again
 *      └── nothing on its way, above the floor ── returning
 *
 * The floor is what any client of this node may have seen or was acknowledged: what was seen of the log while it did not serve, what may have been in
 * its own memcached, every answer of a peer. No road answers below it (DESIGN §5; docs/adr/0014-reads-through-peers.md).
 */
export class RoutedReads implements LocalReads {
  readonly #options: RoutedReadsOptions
  #road: 'own' | 'peer' | 'returning' = 'own'
  /** Reads that came while returning, in their order. */
  #held: (() => void)[] = []
  /** By `performance.now()`: not before is the way back tried again. */
  #returnFrom = 0

  constructor(options: RoutedReadsOptions) {
    this.#options = options
  }

  get serving(): boolean {
    return this.#options.own.serving || this.#peersCanAnswer
  }

  get servingItself(): boolean {
    return this.#options.own.serving
  }

  fetch(key: ItemKey, sink: ReadSink): void {
    const { own } = this.#options
    this.#choose()
    if (this.#road === 'own') {
      own.fetch(key, (item, error) => {
        // Asked while the contents were good, perhaps answered after they were thrown away.
        if (error === undefined && own.serving) sink(item)
        else this.#fetchElsewhere(key, sink, error)
      })
    } else if (this.#road === 'peer') this.#fetchElsewhere(key, sink, undefined)
    else
      this.#hold(
        () => this.fetch(key, sink),
        (error) => sink(undefined, error),
      )
  }

  /** By its own memcached alone: what peers answer is not kept. */
  recall(key: ItemKey): CachedItem | undefined {
    this.#choose()
    return this.#road === 'own' ? this.#options.own.recall?.(key) : undefined
  }

  async examine(namespaceId: NamespaceId, key: ItemKey, question: ItemQuestion): Promise<ExaminedItem | undefined> {
    return this.#route(
      () => this.#options.own.examine(namespaceId, key, question),
      async () => {
        const answer = await this.#options.remote.ask({ kind: 'examine', namespaceId, key, question })
        if (answer.kind !== 'examined' || answer.item === undefined) return undefined
        return examinedItemOf(answer.item, this.#keepsVersions)
      },
    )
  }

  async describe(namespaceId: NamespaceId, key: ItemKey): Promise<string | undefined> {
    return this.#route(
      () => this.#options.own.describe(namespaceId, key),
      async () => {
        const answer = await this.#options.remote.ask({ kind: 'describe', namespaceId, key })
        return answer.kind === 'described' ? answer.text : undefined
      },
    )
  }

  /** This node's own, whoever answers. */
  statistics(): Promise<ReadonlyMap<string, string>> {
    return this.#options.own.statistics()
  }

  async #route<T>(own: () => Promise<T>, peer: () => Promise<T>): Promise<T> {
    this.#choose()
    if (this.#road === 'returning') await new Promise<void>((resolve, reject) => this.#hold(resolve, reject))
    if (this.#road !== 'own') return this.#toPeer(peer)
    try {
      const found = await own()
      if (this.#options.own.serving) return found
    } catch (error) {
      const away = error instanceof WhiteholeError && (error.code === 'not-serving' || error.code === 'memcached-away')
      if (!away) throw error
      if (!this.#peersCanAnswer) throw error
    }
    return this.#toPeer(peer)
  }

  #toPeer<T>(peer: () => Promise<T>): Promise<T> {
    if (!this.#peersCanAnswer) throw notServing()
    this.#leave()
    return peer()
  }

  /** Names of namespaces are known once the catalogue was ever filled. */
  get #peersCanAnswer(): boolean {
    const { remote, namespaces } = this.#options
    if (!remote.available) return false
    for (const _ of namespaces.all()) return true
    return false
  }

  #choose(): void {
    const { own } = this.#options
    if (this.#road === 'own') {
      if (!own.serving) this.#leave()
    } else if (this.#road === 'peer' && own.serving && performance.now() >= this.#returnFrom) {
      this.#road = 'returning'
      void this.#return()
    }
  }

  #leave(): void {
    const { remote, log, lastHorizon } = this.#options
    if (this.#road === 'own') {
      this.#road = 'peer'
      remote.raise(lastHorizon())
    }
    // Also what is seen, and so acknowledged, meanwhile.
    remote.raise(log.position)
  }

  /** Peers' last answers may lie beyond what this node has applied: it waits for both. */
  async #return(): Promise<void> {
    const { own, remote, log } = this.#options
    const until = performance.now() + returnMilliseconds
    let back = false
    try {
      while (!remote.idle && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 1))
      if (remote.idle) {
        if (remote.floor !== undefined) await log.whenReached(remote.floor, Math.max(1, until - performance.now()))
        back = own.serving
      }
    } catch {
      // Not yet above the floor: peers answer on. A peer may have answered with what a takeover then lost.
      void remote.dropLostFloor(this.#options.isLost)
    }
    this.#road = back ? 'own' : 'peer'
    if (back) remote.forgetFloor()
    else this.#returnFrom = performance.now() + returnMilliseconds
    const held = this.#held
    this.#held = []
    for (const go of held) go()
  }

  #hold(go: () => void, refuse: (error: Error) => void): void {
    if (this.#held.length >= heldMax) refuse(notServing())
    else this.#held.push(go)
  }

  #fetchElsewhere(key: ItemKey, sink: ReadSink, error: Error | undefined): void {
    const { remote, namespaces } = this.#options
    const namespace = namespaces.byName(key.slice(0, key.indexOf(':')))
    if (!this.#peersCanAnswer || namespace === undefined) {
      // In its place behind those before it.
      if (remote.idle) sink(undefined, error ?? notServing())
      else void remote.ask({ kind: 'fetch', namespaceId: 0, key }).then(fail, fail)
      return
    }
    this.#leave()
    remote.ask({ kind: 'fetch', namespaceId: namespace.id, key }).then(
      (answer) =>
        sink(
          answer.kind === 'fetched' && answer.item !== undefined
            ? cachedItemOf(answer.item, this.#keepsVersions)
            : undefined,
        ),
      (failure: Error) => sink(undefined, failure),
    )
    function fail(): void {
      sink(undefined, error ?? notServing())
    }
  }

  get #keepsVersions(): boolean {
    return this.#options.namespaces.baseWatermark === undefined
  }
}

function notServing(): WhiteholeError {
  return new WhiteholeError('not-serving', 'neither this node nor a peer can answer')
}
