import type { KeyedEntry, KeyWatch, WatchedKey } from '../domain/contents-access.ts'
import { composeItemKey, type ItemKey } from '../domain/key.ts'

/** Which keys the log has spoken of since somebody began to watch them. Costs the applier nothing while nobody does. */
export class KeyWatches {
  readonly #open = new Set<Watch>()

  get some(): boolean {
    return this.#open.size > 0
  }

  open(keys: readonly WatchedKey[]): KeyWatch {
    const watch: Watch = {
      keys: new Set(keys.map(({ itemKey }) => itemKey)),
      seen: new Set(),
      changed: (itemKey) => watch.seen.has(itemKey),
      close: () => void this.#open.delete(watch),
    }
    this.#open.add(watch)
    return watch
  }

  isOpen(watch: KeyWatch): boolean {
    return this.#open.has(watch as Watch)
  }

  /** Before the entry is sent. */
  note(namespaceName: string, { key }: KeyedEntry): void {
    const itemKey = composeItemKey(namespaceName, key)
    for (const { keys, seen } of this.#open) if (keys.has(itemKey)) seen.add(itemKey)
  }
}

interface Watch extends KeyWatch {
  readonly keys: ReadonlySet<ItemKey>
  readonly seen: Set<ItemKey>
}
