import type { Key } from './key.ts'
import type { Expiry } from './mutation.ts'
import type { Generation, NamespaceId } from './namespace.ts'

/**
 * What a committed transaction tells a node, in the order of the log. Entries are absolute: applying one twice equals applying
 * it once.
 */
export type LogEntry = StoreEntry | DeleteEntry | TouchEntry | StaleEntry | NamespaceEntry | LaneEntry

/** `mc_storage.op`: numbers are on the wire and in the SQL routines, so they never change their meaning. */
export const operation = { set: 1, delete: 2, touch: 3, stale: 4 } as const

/** Live if its generation is the namespace's at this place of the log. */
export interface StoreEntry {
  readonly kind: 'set'
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly generation: Generation
  readonly expiry: Expiry
  /** The two halves of the version, for memcached that takes it as the item's CAS: a BigInt is made only then. */
  readonly versionHigh: number
  readonly versionLow: number
  /** 0 to 2^64-1, in decimal: it passes through from the log to memcached as text. */
  readonly flags: string
  readonly value: Buffer
}

/** Applies whatever its generation. */
export interface DeleteEntry {
  readonly kind: 'delete'
  readonly namespaceId: NamespaceId
  readonly key: Key
}

export interface TouchEntry {
  readonly kind: 'touch'
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly generation: Generation
  readonly expiry: Expiry
}

/** The item stays readable and is marked stale (meta `md … I`); its version is a new one, and its expiry is set. */
export interface StaleEntry {
  readonly kind: 'stale'
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly generation: Generation
  readonly versionHigh: number
  readonly versionLow: number
  readonly expiry: Expiry
}

/** A row of `mc_namespaces` after its change: created, flushed (a higher generation), given a due flush, or dropped. */
export interface NamespaceEntry {
  readonly kind: 'namespace'
  readonly namespaceId: NamespaceId
  readonly name: string
  readonly generation: Generation
  /**
   * True where this change begins the generation (an INSERT, or an UPDATE that raises it): only then do items written before it
   * become misses. Another change of the row (limits, a due flush) leaves them alone.
   */
  readonly begins: boolean
  readonly dropped: boolean
  /** Unix seconds of a delayed flush, by the primary's clock; 0 none. */
  readonly flushDue: number
}

/** A row of `mc_lanes` after its change: the batch that moved it is in the log exactly when this is. */
export interface LaneEntry {
  readonly kind: 'lane'
  readonly lane: string
  readonly incarnation: number
  readonly sequence: number
}
