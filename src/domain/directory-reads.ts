import type { Key } from './key.ts'
import type { NamespaceId } from './namespace.ts'
import type { Version } from './version.ts'

/** Questions to the directory on the primary, batched. */
export interface DirectoryReads {
  /**
   * The cluster-wide CAS tokens of live keys, in the order asked; undefined where the directory has no live row. Resolves only
   * when this node has applied everything that the primary had when it answered: version first, then the position, waits for
   * it; the caller reads the item afterwards (races.md R23). Rejects with `database-away`.
   */
  versions(namespaceId: NamespaceId, keys: readonly Key[]): Promise<readonly (Version | undefined)[]>
  /** Live keys of the namespace and the bytes of their values. Answers may be some seconds old. */
  figures(namespaceId: NamespaceId): Promise<{ keys: number; bytes: number }>
}
