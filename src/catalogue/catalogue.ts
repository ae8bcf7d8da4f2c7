import type { NamespaceEntry } from '../domain/log-entry.ts'
import type { Generation, NamespaceId } from '../domain/namespace.ts'
import type { WritableCatalogue } from '../domain/catalogue.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'

/**
 * What a node knows of its namespaces. The applier merges each change at its place in the log; each read asks it. Changes are
 * merged by generation, so a catalogue that is ahead of the log's place (read by SQL at a rebuild, or out of the state item) is
 * safe: see docs/adr/0003-generations.md. At most 10,000 namespaces, since all of them stand in the state item.
 */
export class Catalogue implements WritableCatalogue {
  readonly #byId = new Map<NamespaceId, Row>()
  readonly #byName = new Map<string, Row>()
  #baseWatermark: number | undefined = 0
  #revision = 0
  #staleItems = false

  get revision(): number {
    return this.#revision
  }

  get baseWatermark(): number | undefined {
    return this.#baseWatermark
  }

  get staleItems(): boolean {
    return this.#staleItems
  }

  noteStaleItems(): void {
    this.#staleItems = true
    this.#revision++
  }

  byId(id: NamespaceId): CataloguedNamespace | undefined {
    return this.#byId.get(id)
  }

  byName(name: string): CataloguedNamespace | undefined {
    return this.#byName.get(name)
  }

  all(): Iterable<CataloguedNamespace> {
    return this.#byId.values()
  }

  beginsGeneration(entry: NamespaceEntry): boolean {
    return entry.begins && !entry.dropped && entry.generation >= (this.#byId.get(entry.namespaceId)?.generation ?? 0)
  }

  merge(entry: NamespaceEntry, watermark: number | undefined): void {
    const known = this.#byId.get(entry.namespaceId)
    if (known !== undefined && entry.generation < known.generation) return
    this.#revision++
    if (entry.dropped) return this.#drop(entry)
    const row: Row = {
      id: entry.namespaceId,
      name: entry.name,
      generation: entry.generation,
      flushDue: entry.flushDue,
      watermark: watermark ?? known?.watermark ?? this.#baseWatermark,
    }
    this.#put(row)
  }

  reset(
    baseWatermark: number | undefined,
    namespaces: Iterable<CataloguedNamespace | Omit<CataloguedNamespace, 'watermark'>>,
    staleItems = false,
  ): void {
    this.#staleItems = staleItems
    this.#byId.clear()
    this.#byName.clear()
    this.#baseWatermark = baseWatermark
    this.#revision++
    for (const namespace of namespaces) {
      this.#put({ ...namespace, watermark: 'watermark' in namespace ? namespace.watermark : baseWatermark })
    }
  }

  /** A name belongs to whoever has the higher generation: a replayed creation of a dropped holder must not shadow today's. */
  #put(row: Row): void {
    const replaced = this.#byId.get(row.id)
    if (replaced !== undefined && replaced.name !== row.name && this.#byName.get(replaced.name) === replaced) {
      this.#byName.delete(replaced.name)
    }
    this.#byId.set(row.id, row)
    const holder = this.#byName.get(row.name)
    if (holder === undefined || holder.id === row.id || holder.generation < row.generation)
      this.#byName.set(row.name, row)
  }

  #drop(entry: NamespaceEntry): void {
    const row = this.#byId.get(entry.namespaceId)
    if (row === undefined) return
    this.#byId.delete(row.id)
    if (this.#byName.get(row.name) === row) this.#byName.delete(row.name)
  }
}

interface Row extends CataloguedNamespace {
  readonly generation: Generation
}
