import { WhiteholeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import {
  casText,
  type ExaminedItem,
  isLive,
  type ItemCas,
  itemCasIsVersion,
  type ItemQuestion,
  leaseCas,
  type LocalReads,
  type ReadSink,
  type CachedItem,
} from '../domain/local-reads.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { CataloguedNamespace, Namespaces } from '../domain/namespaces.ts'
import { formatExamination, parseExamination } from '../wire/memcached/examination.ts'
import { parseCasText } from '../wire/memcached/item-cas.ts'
import { metaKey } from '../wire/memcached/meta-key.ts'
import { MemcachedConnection } from './memcached-connection.ts'
import { type NearCache, noTicket } from './near-cache.ts'

export interface MemcachedReadsOptions {
  readonly address: { readonly host: string; readonly port: number }
  readonly namespaces: Namespaces
  /** Whether some item may be stale: a plain read must leave the right to refill it alone. Default: yes. */
  staleItems?(): boolean
  /** Whether the contents are to be trusted, as the applier knows. */
  serving(): boolean
  /** Filled by what is read, emptied by the applier of the same memcached. */
  readonly near?: NearCache
  readonly timeoutMilliseconds?: number
  /** Longest pause between two attempts to connect. */
  readonly retryMillisecondsMax?: number
}

const firstRetryMilliseconds = 20
/** Dead items that one question clears out of its way: a flush meanwhile may leave a second one, hardly a third. */
const clearingsMax = 5

/**
 * Reads of this node's memcached over one connection, kept up for as long as the node runs. While it is down, reads fail at once.
 *
 *     connecting ⇄ connected → closed
 *
 * A memcached that died and came back empty is not read by mistake: its end reaches this connection and the applier's in the
 * same turn of the event loop, and from then on the applier's `serving()` says no.
 */
export class MemcachedReads implements LocalReads {
  readonly #options: MemcachedReadsOptions
  readonly #retryMillisecondsMax: number
  readonly #staleItems: () => boolean
  #connection: MemcachedConnection | undefined
  #closed = false
  #retryMilliseconds = firstRetryMilliseconds
  #retry: NodeJS.Timeout | undefined
  #lastError: unknown

  constructor(options: MemcachedReadsOptions) {
    this.#options = options
    this.#staleItems = options.staleItems?.bind(options) ?? (() => true)
    this.#retryMillisecondsMax = options.retryMillisecondsMax ?? 500
    void this.#connect()
  }

  get serving(): boolean {
    return this.#connection !== undefined && this.#options.serving()
  }

  get servingItself(): boolean {
    return this.serving
  }

  get connected(): boolean {
    return this.#connection !== undefined
  }

  fetch(key: ItemKey, sink: ReadSink): void {
    if (this.#connection === undefined) sink(undefined, this.#away())
    else if (!this.#options.serving()) sink(undefined, notServing())
    else if (this.#staleItems()) this.#connection.get(key, sink)
    else this.#fetchAndKeep(this.#connection, key, sink)
  }

  recall(key: ItemKey): CachedItem | undefined {
    return this.serving ? this.#options.near?.find(key) : undefined
  }

  #fetchAndKeep(connection: MemcachedConnection, key: ItemKey, sink: ReadSink): void {
    const { near } = this.#options
    const ticket = near === undefined ? noTicket : near.ticket()
    if (near === undefined || ticket === noTicket) {
      connection.metaGet(key, sink)
      return
    }
    const askedAt = performance.now()
    connection.timedMetaGet(key, (item, error) => {
      if (item !== undefined) near.keep(ticket, key, item, askedAt)
      sink(item, error)
    })
  }

  /**
   * What it does to memcached is all conditional, so it needs no place in the applier's order: `N` makes an item only where there is
   * none, an empty one, and a dead item is deleted by its own CAS, which no later write has.
   */
  async examine(namespaceId: NamespaceId, key: ItemKey, question: ItemQuestion): Promise<ExaminedItem | undefined> {
    for (let clearings = 0; clearings < clearingsMax; clearings++) {
      const connection = this.#trusted()
      const { withValue, noBump, vivify, recacheBelow } = question
      const vivifyCas = vivify === undefined ? undefined : newLease(this.#namespace(namespaceId))
      const command = formatExamination(key, { withValue, noBump, vivify, vivifyCas, recacheBelow })
      const { line, value } = await connection.request(command)
      const item = parseExamination(line, value)
      this.#trusted()
      if (item === undefined || isLive(item, this.#namespace(namespaceId))) return item
      await clear(connection, key, item)
    }
    return undefined
  }

  async describe(namespaceId: NamespaceId, key: ItemKey): Promise<string | undefined> {
    const { text, binary } = metaKey(key)
    const { line } = await this.#trusted().request(`me ${text}${binary ? ' b' : ''}`)
    this.#trusted()
    const [, facts = '', cas = ''] = /^ME \S+ (.* cas=(\d+)\b.*)$/.exec(line) ?? []
    if (facts !== '') return isLive(parseCasText(cas), this.#namespace(namespaceId)) ? facts : undefined
    if (line !== 'EN') throw new WhiteholeError('memcached-away', `memcached refused: ${JSON.stringify(line)}`)
    return undefined
  }

  async statistics(): Promise<ReadonlyMap<string, string>> {
    const connection = this.#connection
    if (connection === undefined) throw this.#away()
    const lines = await connection.lines('stats')
    return new Map(lines.map((line) => [line.split(' ')[1] ?? '', line.split(' ')[2] ?? '']))
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#connection?.destroy()
    this.#connection = undefined
  }

  /** @throws WhiteholeError where what memcached answers is not to be passed on */
  #trusted(): MemcachedConnection {
    if (this.#connection === undefined) throw this.#away()
    if (!this.#options.serving()) throw notServing()
    return this.#connection
  }

  #namespace(id: NamespaceId): CataloguedNamespace {
    const namespace = this.#options.namespaces.byId(id)
    if (namespace === undefined) throw new WhiteholeError('unknown-namespace', `there is no namespace ${id}`)
    return namespace
  }

  #away(): WhiteholeError {
    return new WhiteholeError('memcached-away', 'no connection to memcached', { cause: this.#lastError })
  }

  async #connect(): Promise<void> {
    const { address, timeoutMilliseconds } = this.#options
    try {
      const connection = await MemcachedConnection.connect(
        address,
        timeoutMilliseconds === undefined ? {} : { timeoutMilliseconds },
      )
      if (this.#closed) {
        connection.destroy()
        return
      }
      this.#retryMilliseconds = firstRetryMilliseconds
      this.#connection = connection
      this.#lastError = await connection.closed
      this.#connection = undefined
    } catch (error) {
      this.#lastError = error
    }
    if (this.#closed) return
    this.#retry = setTimeout(() => void this.#connect(), this.#retryMilliseconds)
    this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, this.#retryMillisecondsMax)
  }
}

function notServing(): WhiteholeError {
  return new WhiteholeError('not-serving', 'the contents of memcached are not to be trusted now')
}

/** Of the generation that the namespace has now: a flush meanwhile makes the lease a miss, as it does every item. */
function newLease(namespace: CataloguedNamespace): bigint | undefined {
  return itemCasIsVersion(namespace) ? leaseCas(namespace.generation, Math.random()) : undefined
}

async function clear(connection: MemcachedConnection, key: ItemKey, item: ItemCas): Promise<void> {
  const { text, binary } = metaKey(key)
  await connection.request(`md ${text}${binary ? ' b' : ''} C${casText(item)}`)
}
