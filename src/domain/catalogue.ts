import type { NamespaceEntry } from './log-entry.ts'
import type { CataloguedNamespace, Namespaces } from './namespaces.ts'

/** The side of the catalogue that the applier writes; `Namespaces` is the side that reads ask. */
export interface WritableCatalogue extends Namespaces {
  /** Grows with each change: whoever keeps a rendered copy knows when to render again. */
  readonly revision: number
  /**
   * Items at or below it were in memcached before this node filled it: misses in every namespace. Undefined where items carry
   * versions (docs/adr/0009-item-cas.md): nothing was there before.
   */
  readonly baseWatermark: number | undefined
  /** Some item of this memcached was marked stale since it was filled anew. */
  readonly staleItems: boolean
  /** From now on there may be stale items. */
  noteStaleItems(): void
  /** True where applying the change turns items that are in memcached into misses: it comes into force at this very place of the log. */
  beginsGeneration(entry: NamespaceEntry): boolean
  /** @param watermark memcached's CAS counter at this place of the log; needed where `beginsGeneration` says so and `baseWatermark` is a number */
  merge(entry: NamespaceEntry, watermark: number | undefined): void
  /** Starts anew: nothing that is in memcached up to `baseWatermark` is trusted. */
  reset(
    baseWatermark: number | undefined,
    namespaces: Iterable<CataloguedNamespace | Omit<CataloguedNamespace, 'watermark'>>,
    staleItems?: boolean,
  ): void
}
