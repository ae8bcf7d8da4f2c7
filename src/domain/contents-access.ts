import type { ItemKey, Key } from './key.ts'
import type { ItemCas } from './local-reads.ts'
import type { StaleEntry, StoreEntry } from './log-entry.ts'
import type { NamespaceId } from './namespace.ts'

/**
 * The applier is the only writer of its memcached. What else must be written there (freeing flushed items, repairs) goes through it, over
 * its connection, in turns between its batches: so nothing of that is under way where a batch is, and bytes of it can't
 * arrive after the applier's next connection has begun (races.md R15).
 */
export interface HeldContents {
  /** The present life of the applier's connection; undefined while the node does not serve. */
  readonly access: ContentsAccess | undefined
}

/** Over with the connection that it belongs to: then every call rejects with `not-serving` or `memcached-away`. */
export interface ContentsAccess {
  readonly ended: boolean
  /** Deletes each item that still has this very CAS. */
  deleteUnchanged(items: readonly IdentifiedItem[]): Promise<void>
  /** Begins to note which keys the log speaks of. Whoever begins must close. */
  watch(keys: readonly WatchedKey[]): KeyWatch
  /**
   * Applies each entry as if the log said it once more, unless the log has spoken of its key since the watch began, or its generation is
   * no longer its namespace's. @returns for each entry whether it was applied
   */
  repair(watch: KeyWatch, entries: readonly RepairEntry[]): Promise<boolean[]>
}

/** A repair may name an item alone: of an orphan with a hashed item key the client's key is not known. */
export type RepairEntry = StoreEntry | StaleEntry | RemoveItem

export interface RemoveItem {
  readonly kind: 'remove-item'
  readonly namespaceId: NamespaceId
  readonly itemKey: ItemKey
}

export interface IdentifiedItem extends ItemCas {
  readonly key: ItemKey
}

export interface WatchedKey {
  readonly namespaceId: NamespaceId
  readonly itemKey: ItemKey
}

export interface KeyWatch {
  /** Has the log spoken of it (set, delete, touch, stale) since the watch began? */
  changed(itemKey: ItemKey): boolean
  close(): void
}

/** An entry of the log that is about one key. */
export interface KeyedEntry {
  readonly namespaceId: NamespaceId
  readonly key: Key
}
