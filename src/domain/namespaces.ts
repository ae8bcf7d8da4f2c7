import type { Namespace, NamespaceId } from './namespace.ts'

/** What reads ask of the catalogue, which the applier writes at each namespace's place in the log. */
export interface Namespaces {
  byId(id: NamespaceId): CataloguedNamespace | undefined
  byName(name: string): CataloguedNamespace | undefined
  all(): Iterable<CataloguedNamespace>
}

export interface CataloguedNamespace extends Namespace {
  /**
   * This node's memcached CAS counter at the last flush (or at the creation, or the rebuild): an item with a CAS at or below it
   * is a miss. Undefined where memcached keeps versions as its items' CAS: there the generation alone decides. Ask `isLive`
   * (local-reads.ts), and always take the namespace anew at the moment of the comparison.
   */
  readonly watermark: number | undefined
  /** Unix seconds of a delayed flush, by the primary's clock; 0 none. */
  readonly flushDue: number
}
