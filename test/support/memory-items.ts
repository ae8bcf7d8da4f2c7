import type { ItemKey } from '../../src/domain/key.ts'
import {
  type CachedItem,
  type ExaminedItem,
  isLive,
  type ItemCas,
  type ItemQuestion,
  leaseCas,
} from '../../src/domain/local-reads.ts'
import { operation } from '../../src/domain/log-entry.ts'
import { absoluteExpiry, type Expiry, expiryNever, isExpired } from '../../src/domain/mutation.ts'
import type { CataloguedNamespace } from '../../src/domain/namespaces.ts'
import { type Version, versionLowBits } from '../../src/domain/version.ts'
import type { LogRow } from '../../src/writer/decision.ts'

interface MemoryItem extends CachedItem {
  expiry: Expiry
  accessedAt: number
  fetched: boolean
  stale: boolean
  tokenSent: boolean
}

/** What a node's memcached holds, in a map. */
export class MemoryItems {
  readonly #items = new Map<ItemKey, MemoryItem>()
  readonly #now: () => number
  /** Whether items carry the log's versions, as from memcached 1.6.27 on; else a counter. */
  readonly #takesVersions: boolean
  counter = 0

  constructor(now: () => number, takesVersions: boolean) {
    this.#now = now
    this.#takesVersions = takesVersions
  }

  get size(): number {
    return this.#items.size
  }

  keys(): IterableIterator<ItemKey> {
    return this.#items.keys()
  }

  /** As the applier does it. */
  apply(key: ItemKey, entry: LogRow): void {
    const present = this.get(key)
    switch (entry.operation) {
      case operation.set:
        this.#items.set(key, {
          ...this.#cas(entry.version),
          flags: String(entry.flags),
          value: entry.value ?? Buffer.alloc(0),
          expiry: entry.expiry,
          ...fresh(this.#now()),
        })
        break
      case operation.delete:
        this.#items.delete(key)
        break
      case operation.touch:
        if (present !== undefined) Object.assign(present, { expiry: entry.expiry, ...used(this.#now()) })
        break
      case operation.stale:
        if (present === undefined) break
        Object.assign(present, this.#cas(entry.version), { expiry: entry.expiry, stale: true, tokenSent: false })
        break
      default:
        throw new TypeError(`no operation: ${String(entry.operation satisfies never)}`)
    }
  }

  /** Undefined where it is expired. */
  get(key: ItemKey): MemoryItem | undefined {
    const item = this.#items.get(key)
    return item === undefined || isExpired(item.expiry, this.#now()) ? undefined : item
  }

  fetch(key: ItemKey): CachedItem | undefined {
    const item = this.get(key)
    if (item === undefined) return undefined
    const answer = { ...item }
    Object.assign(item, used(this.#now()))
    return answer
  }

  examine(key: ItemKey, namespace: CataloguedNamespace, question: ItemQuestion): ExaminedItem | undefined {
    let item = this.get(key)
    if (item !== undefined && !isLive(item, namespace)) item = undefined
    let won = false
    if (item === undefined) {
      if (question.vivify === undefined) return undefined
      item = this.#vivify(key, namespace, absoluteExpiry(question.vivify, this.#now()))
      won = true
    } else if (question.recacheBelow !== undefined && !item.tokenSent && item.expiry !== expiryNever) {
      won = item.expiry < absoluteExpiry(question.recacheBelow, this.#now())
    }
    const leased = item.tokenSent
    if (item.stale && !leased) won = true
    const { flags, value, casHigh, casLow, fetched, accessedAt, expiry, stale } = item
    if (won) item.tokenSent = true
    if (!question.noBump) Object.assign(item, used(this.#now()))
    const now = Math.floor(this.#now())
    return {
      flags,
      casHigh,
      casLow,
      value: question.withValue ? value : undefined,
      sizeBytes: value.length,
      remainingSeconds: expiry === expiryNever ? -1 : Math.max(0, expiry - now),
      hitBefore: fetched,
      idleSeconds: now - accessedAt,
      won,
      stale,
      leased,
    }
  }

  describe(key: ItemKey, namespace: CataloguedNamespace): string | undefined {
    const item = this.get(key)
    if (item === undefined || !isLive(item, namespace)) return undefined
    const now = Math.floor(this.#now())
    const expiry = item.expiry === expiryNever ? -1 : item.expiry - now
    const size = 60 + key.length + item.value.length
    return `exp=${expiry} la=${now - item.accessedAt} cas=${item.casLow} fetch=${item.fetched ? 'yes' : 'no'} cls=1 size=${size}`
  }

  #vivify(key: ItemKey, namespace: CataloguedNamespace, expiry: Expiry): MemoryItem {
    const cas = this.#takesVersions ? halves(leaseCas(namespace.generation, Math.random())) : this.#count()
    const item = { ...cas, flags: '0', value: Buffer.alloc(0), expiry, ...fresh(this.#now()) }
    this.#items.set(key, item)
    return item
  }

  #cas(version: Version): ItemCas {
    return this.#takesVersions ? halves(version) : this.#count()
  }

  #count(): ItemCas {
    return { casHigh: 0, casLow: ++this.counter }
  }
}

function fresh(now: number): Omit<MemoryItem, keyof CachedItem | 'expiry'> {
  return { accessedAt: Math.floor(now), fetched: false, stale: false, tokenSent: false }
}

function used(now: number): Pick<MemoryItem, 'accessedAt' | 'fetched'> {
  return { accessedAt: Math.floor(now), fetched: true }
}

function halves(cas: bigint): ItemCas {
  const low = BigInt(versionLowBits)
  return { casHigh: Number(cas >> low), casLow: Number(BigInt.asUintN(versionLowBits, cas)) }
}
