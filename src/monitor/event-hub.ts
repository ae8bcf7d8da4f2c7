import type { ClusterEvent, ClusterEvents } from '../domain/cluster-record.ts'

export type ClusterEventListener = (event: ClusterEvent, atMilliseconds: number) => void

/** Where all transitions of a monitor come out: the log, metrics, and whoever else wants to know. */
export class EventHub implements ClusterEvents {
  readonly #listeners = new Set<ClusterEventListener>()

  emit(event: ClusterEvent): void {
    const at = Date.now()
    for (const listener of this.#listeners) listener(event, at)
  }

  /** @param listener must neither throw nor wait */
  subscribe(listener: ClusterEventListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
