import { setImmediate as nextTurn } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import type { MemcachedConnection } from '../adapters/memcached-connection.ts'
import type { ItemKey } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import { isLease, isLive, versionOf } from '../domain/local-reads.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { SeenItem } from './verdict.ts'

export const stateItemKey = '~whitehole' as ItemKey

export interface ItemQuestion {
  readonly namespaceId: NamespaceId
  readonly itemKey: ItemKey
}

/**
 * Evicted for room; what memcached gave up while it moved a slab page from one class to another, which it does not call evicted; and what it had no
 * room for at all (the applier leaves no older value there).
 */
const losses = new Set(['evictions', 'slab_reassign_evictions_nomem', 'slab_reassign_busy_deletes', 'store_no_memory'])
/** Reads on the way at once, and the bytes of their values as far as known: small enough that a client's read is not kept waiting. */
const readsMax = 200
const bytesMax = 1 << 20

/**
 * Reads items as a client of this node would see them: a dead one is a miss, and so is one of a
 * namespace that this node does not know. Values are reduced to size and checksum as they arrive.
 */
export class ItemReads {
  readonly #connection: MemcachedConnection
  readonly #namespaces: Namespaces

  constructor(connection: MemcachedConnection, namespaces: Namespaces) {
    this.#connection = connection
    this.#namespaces = namespaces
  }

  /**
   * @param expectedBytes of each value, where known
   * @returns in the order of the questions
   * @throws WhiteholeError `memcached-away`
   */
  async read(questions: readonly ItemQuestion[], expectedBytes: readonly number[] = []): Promise<SeenItem[]> {
    const seen: SeenItem[] = []
    let from = 0
    while (from < questions.length) {
      let to = from
      for (let bytes = 0; to < questions.length && to - from < readsMax && bytes < bytesMax; to++) {
        bytes += expectedBytes[to] ?? 4096
      }
      seen.push(...(await Promise.all(questions.slice(from, to).map((question) => this.#readOne(question)))))
      from = to
      await nextTurn()
    }
    return seen
  }

  /** How many items memcached has evicted since its start. */
  async evictions(): Promise<number> {
    const lines = await this.#connection.lines('stats')
    let sum = 0
    for (const line of lines) {
      const [, name = '', value] = line.split(' ')
      if (losses.has(name)) sum += Number(value)
    }
    return sum
  }

  /** A memcached that lost its contents has no state item, until a rebuild begins (docs/adr/0005-state-item.md). */
  async hasState(): Promise<boolean> {
    const { line } = await this.#connection.request(`mg ${stateItemKey} s`)
    return line.startsWith('HD')
  }

  #readOne({ namespaceId, itemKey }: ItemQuestion): Promise<SeenItem> {
    return new Promise((resolve, reject) => {
      this.#connection.get(itemKey, (item, error) => {
        if (error !== undefined) return reject(error)
        const namespace = this.#namespaces.byId(namespaceId)
        if (item === undefined || namespace === undefined || !isLive(item, namespace)) return resolve(undefined)
        // A lease is no content: it stands where the content is missing.
        if (isLease(item, namespace)) return resolve(undefined)
        const { flags, value } = item
        const version = versionOf(item, namespace)?.toString()
        resolve({ flags, size: value.length, checksum: crc32(value), ...(version === undefined ? {} : { version }) })
      })
    })
  }
}
