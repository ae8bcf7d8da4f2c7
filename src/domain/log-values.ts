import type { ItemKey, Key } from './key.ts'
import type { NamespaceId } from './namespace.ts'

/** A value that somebody has under a key: a peer, or the log. */
export interface FoundValue {
  /** In decimal. */
  readonly version: string
  readonly flags: string
  readonly value: Buffer
  readonly stale: boolean
}

export interface WantedValue {
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly itemKey: ItemKey
  /** In decimal. */
  readonly version: string
}

/** Looks for values in what the databases still have of the log. */
export interface LogValues {
  /**
   * Reads the whole log once, from its oldest entry to its present end, slowly. Give as many keys as fit.
   * @throws WhiteholeError `database-away`, `log-unreadable`; the signal's reason
   */
  find(wanted: readonly WantedValue[], signal: AbortSignal): Promise<ReadonlyMap<ItemKey, FoundValue>>
}
