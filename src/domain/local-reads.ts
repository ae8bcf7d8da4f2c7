import type { ItemKey } from './key.ts'
import type { Exptime } from './mutation.ts'
import type { CataloguedNamespace } from './namespaces.ts'

/** Reads of this node's memcached: coalesced over all clients, never touching SQL. */
export interface LocalReads {
  /** False while the contents are not to be trusted (starting, catching up, rebuilding) or memcached is away. */
  readonly serving: boolean
  /**
   * `sink` is called once, in the order of the calls, possibly much later. The caller compares `cas` with the namespace's watermark.
   */
  fetch(key: ItemKey, sink: ReadSink): void
  /**
   * What only the meta protocol asks. A vivified item, and one whose lease is won, are this node's alone: nothing of that is in the log.
   * Undefined for a miss; rejects where memcached could not answer. The caller compares `cas` with the watermark.
   */
  examine(key: ItemKey, question: ItemQuestion): Promise<ExaminedItem | undefined>
  /** memcached's own `me` words behind the key: `exp=-1 la=0 …`. */
  describe(key: ItemKey): Promise<string | undefined>
}

export interface ItemQuestion {
  readonly withValue: boolean
  /** `u`: neither bumped nor counted as hit. */
  readonly noBump: boolean
  /**
   * `N`: a miss, or an item of a flushed generation, leaves an empty placeholder that lives so long, of the namespace's present
   * generation: not a miss by its CAS.
   */
  readonly vivify?: { readonly exptime: Exptime; readonly namespace: CataloguedNamespace }
  /** `R`: the lease is won where less time remains. */
  readonly recacheBelow?: Exptime
}

export interface ExaminedItem {
  readonly flags: string
  readonly cas: bigint
  readonly value: Buffer | undefined
  readonly sizeBytes: number
  /** `t`: seconds left, -1 without end. */
  readonly remainingSeconds: number
  /** `h` and `l`, before this question. */
  readonly hitBefore: boolean
  readonly idleSeconds: number
  /** `W`, `X`, `Z` */
  readonly won: boolean
  readonly stale: boolean
  readonly leased: boolean
}

/** `item` is undefined for a miss; `error` is set where memcached could not answer. */
export type ReadSink = (item: CachedItem | undefined, error?: Error) => void

export interface CachedItem {
  /** In decimal, passed through as text. */
  readonly flags: string
  /** The item's own CAS in memcached: the version where memcached takes one (`itemCasIsVersion`), else a counter of this memcached. */
  readonly cas: bigint
  /** A view that stays valid: never reused by the connection. */
  readonly value: Buffer
}
