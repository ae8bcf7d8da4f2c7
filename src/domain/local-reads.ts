import type { ItemKey } from './key.ts'

/** Reads of this node's memcached: coalesced over all clients, never touching SQL. */
export interface LocalReads {
  /** False while the contents are not to be trusted (starting, catching up, rebuilding) or memcached is away. */
  readonly serving: boolean
  /**
   * `sink` is called once, in the order of the calls, possibly much later. The caller compares `cas` with the namespace's watermark.
   */
  fetch(key: ItemKey, sink: ReadSink): void
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
