import type { DirectoryReads } from '../../src/domain/directory-reads.ts'
import { WhiteholeError } from '../../src/domain/errors.ts'
import { composeItemKey, type ItemKey, type Key, keyToBytes } from '../../src/domain/key.ts'
import type { LocalReads } from '../../src/domain/local-reads.ts'
import {
  isExpired,
  type KeyMutation,
  type Mutation,
  type Outcome,
  type SetMutation,
} from '../../src/domain/mutation.ts'
import type { ArbitratedMutations, ArbitratedSession, Concatenation } from '../../src/domain/mutations.ts'
import type { NamespaceId } from '../../src/domain/namespace.ts'
import type { CataloguedNamespace, Namespaces } from '../../src/domain/namespaces.ts'
import { generationOf } from '../../src/domain/version.ts'
import type { ListedItem } from '../../src/gateway/conversation.ts'
import { itemBytes, itemBytesMaxDefault } from '../../src/wire/memcached/item-size.ts'
import { decide } from '../../src/writer/decide.ts'
import { redeem } from '../../src/writer/lease.ts'
import type { BatchKey, DirectoryRow } from '../../src/writer/decision.ts'
import { MemoryItems } from './memory-items.ts'

interface MemoryNamespace extends CataloguedNamespace {
  generation: number
  watermark: number | undefined
  flushDue: number
}

export interface MemoryNodeOptions {
  readonly namespaceNames?: readonly string[]
  /** Whether its memcached keeps versions as the items' CAS, as from 1.6.27 on; else the directory is asked for them. */
  readonly itemCasIsVersion?: boolean
}

/**
 * A node without database and memcached: what the gateway's ports promise, in maps, with the writer's own decisions. Answers come in a
 * later turn of the event loop, as real ones do. Failures and waits are switched on by tests.
 */
export class MemoryNode {
  readonly items: MemoryItems
  readonly #rows = new Map<string, DirectoryRow>()
  readonly #namespaces = new Map<string, MemoryNamespace>()
  /** Seconds; a test may set the clock forward. */
  clockOffsetSeconds = 0
  serving = true
  readFailure: Error | undefined
  writeFailure: Error | undefined
  directoryFailure: Error | undefined
  /** How `fetch` waits; a test may keep answers back. In the order of the calls, as the port promises. */
  defer: (answer: () => void) => void = setImmediate
  /** What was submitted, in order. */
  readonly submitted: Mutation[] = []
  openSessions = 0
  #writesHeld: (() => void)[] | undefined

  constructor({ namespaceNames = ['default', 'sessions'], itemCasIsVersion = false }: MemoryNodeOptions = {}) {
    this.items = new MemoryItems(this.nowSeconds, itemCasIsVersion)
    for (const [index, name] of namespaceNames.entries()) {
      const watermark = itemCasIsVersion ? undefined : 0
      this.#namespaces.set(name, { id: 1001 + index, name, generation: 1, watermark, flushDue: 0 })
    }
  }

  nowSeconds = (): number => Date.now() / 1000 + this.clockOffsetSeconds

  readonly namespaces: Namespaces = {
    byId: (id) => [...this.#namespaces.values()].find((one) => one.id === id),
    byName: (name) => this.#namespaces.get(name),
    all: () => this.#namespaces.values(),
  }

  readonly reads: LocalReads = ((node: MemoryNode): LocalReads => ({
    get serving() {
      return node.serving
    },
    get servingItself() {
      return node.serving
    },
    fetch(key, sink) {
      node.defer(() => {
        node.#flushAllDue()
        if (node.readFailure === undefined) sink(node.items.fetch(key))
        else sink(undefined, node.readFailure)
      })
    },
    async examine(namespaceId, key, question) {
      const namespace = await node.#readable(namespaceId)
      return node.items.examine(key, namespace, question)
    },
    async describe(namespaceId, key) {
      const namespace = await node.#readable(namespaceId)
      return node.items.describe(key, namespace)
    },
    async statistics() {
      if (node.readFailure !== undefined) throw node.readFailure
      return new Map([
        ['pid', '1'],
        ['limit_maxbytes', '67108864'],
        ['evictions', '3'],
      ])
    },
  }))(this)

  readonly directory: DirectoryReads = {
    versions: async (namespaceId: NamespaceId, keys: readonly Key[]) => {
      await new Promise(setImmediate)
      if (this.directoryFailure !== undefined) throw this.directoryFailure
      return keys.map((key) => this.liveRow(namespaceId, key)?.version)
    },
    figures: async (namespaceId: NamespaceId) => {
      await new Promise(setImmediate)
      if (this.directoryFailure !== undefined) throw this.directoryFailure
      const ids = [...this.#rows.keys()].filter((id) => id.startsWith(`${namespaceId}:`))
      const live = ids
        .map((id) => this.liveRow(namespaceId, id.slice(id.indexOf(':') + 1) as Key))
        .filter((row) => row !== undefined)
      return { keys: live.length, bytes: live.reduce((bytes, row) => bytes + row.sizeBytes, 0) }
    },
  }

  readonly mutations: ArbitratedMutations = {
    openSession: () => {
      this.openSessions++
      return this.#session()
    },
  }

  listing = async function* (this: MemoryNode): AsyncGenerator<readonly ListedItem[]> {
    await new Promise(setImmediate)
    for (const key of this.items.keys()) {
      const item = this.items.get(key)
      const size = 59 + key.length + (item?.value.length ?? 0)
      if (item !== undefined) yield [{ ...item, key, details: `exp=${item.expiry || -1} la=1 cas=1 size=${size}` }]
    }
  }.bind(this)

  liveRow(namespaceId: NamespaceId, key: Key): DirectoryRow | undefined {
    const namespace = this.#namespace(namespaceId)
    this.#flushIfDue(namespace)
    const row = this.#rows.get(`${namespaceId}:${key}`)
    if (row === undefined || generationOf(row.version) !== namespace.generation) return undefined
    return isExpired(row.expiry, this.nowSeconds()) ? undefined : row
  }

  /** Writes wait until the returned function is called. */
  holdWrites(): () => void {
    const held: (() => void)[] = []
    this.#writesHeld = held
    return () => {
      this.#writesHeld = undefined
      for (const go of held) go()
    }
  }

  dropNamespace(name: string): void {
    this.#namespaces.delete(name)
  }

  /** What a flush of another node does here. */
  flush(name: string): void {
    const namespace = this.#namespaces.get(name)
    if (namespace === undefined) return
    namespace.generation++
    if (namespace.watermark !== undefined) namespace.watermark = this.items.counter
  }

  #session(): ArbitratedSession {
    let last: Promise<unknown> = Promise.resolve()
    const inTurn = (act: () => Outcome): Promise<Outcome> => {
      const outcome = last.then(() => this.#turn()).then(act)
      last = outcome.catch(() => {})
      return outcome
    }
    return {
      submit: (mutation) => {
        this.submitted.push(mutation)
        return inTurn(() => this.#execute(mutation))
      },
      redeem: (use) => {
        const outcome = last.then(() => redeem({ submit: (mutation) => this.#submitAlone(mutation) }, use))
        last = outcome.catch(() => {})
        return outcome
      },
      concatenate: (concatenation) => inTurn(() => this.#concatenate(concatenation)),
      close: () => {
        this.openSessions--
      },
    }
  }

  async #submitAlone(mutation: Mutation): Promise<Outcome> {
    this.submitted.push(mutation)
    await this.#turn()
    return this.#execute(mutation)
  }

  #turn(): Promise<void> {
    const held = this.#writesHeld
    return new Promise((resolve) => {
      if (held === undefined) setImmediate(resolve)
      else held.push(resolve)
    })
  }

  #concatenate({ namespaceId, key, side, value, compare, create }: Concatenation): Outcome {
    const row = this.liveRow(namespaceId, key)
    if (row === undefined) {
      if (compare !== undefined && create === undefined) return { kind: 'not-found' }
      if (create === undefined) return { kind: 'not-stored' }
      return this.#execute({ kind: 'set', namespaceId, key, value, ...create, mode: 'add' })
    }
    if (compare !== undefined && compare !== row.version) return { kind: 'exists', version: row.version }
    const old = this.items.get(this.#itemKey(namespaceId, key))?.value ?? Buffer.alloc(0)
    const joined = Buffer.concat(side === 'append' ? [old, value] : [value, old])
    if (itemBytes(key.length, Number(row.flags), joined.length) > itemBytesMaxDefault) {
      throw new WhiteholeError('value-too-large', 'it has grown over the item limit')
    }
    const mutation = { kind: 'set', namespaceId, key, value: joined, flags: 0n, exptime: 0, keepsAttributes: true }
    return this.#execute(mutation as SetMutation)
  }

  #execute(mutation: Mutation): Outcome {
    if (this.writeFailure !== undefined) throw this.writeFailure
    const namespace = this.#namespace(mutation.namespaceId)
    this.#flushIfDue(namespace)
    if (mutation.kind !== 'flush') return this.#decide(mutation, namespace)
    if (mutation.delaySeconds > 0) namespace.flushDue = this.nowSeconds() + mutation.delaySeconds
    else this.flush(namespace.name)
    return { kind: 'flushed' }
  }

  #decide(mutation: KeyMutation, namespace: MemoryNamespace): Outcome {
    const { namespaceId, key } = mutation
    const id = `${namespaceId}:${key}`
    const batchKey: BatchKey = { id, namespaceId, key, hex: keyToBytes(key).toString('hex') }
    const row = this.#rows.get(id)
    const limits = { defaultTtlSeconds: 0, maxTtlSeconds: 0, maxValueBytes: 0 }
    const facts = {
      nowSeconds: this.nowSeconds(),
      namespaces: new Map([[namespaceId, { generation: namespace.generation, ...limits }]]),
      rows: new Map(row === undefined ? [] : [[id, row]]),
      unread: new Set<string>(),
    }
    const decision = decide([{ mutation, key: batchKey, session: undefined }], facts, Math.random)
    for (const write of [...decision.inserts, ...decision.updates]) this.#rows.set(id, write)
    for (const { version, expiry } of decision.touches) {
      const touched = this.#rows.get(id)
      if (touched !== undefined) this.#rows.set(id, { ...touched, version, expiry })
    }
    for (const entry of decision.log) this.items.apply(this.#itemKey(namespaceId, key), entry)
    const [result] = decision.results
    if (result === undefined || result instanceof WhiteholeError) throw result ?? new Error('undecided')
    return result
  }

  async #readable(namespaceId: NamespaceId): Promise<MemoryNamespace> {
    await new Promise<void>((resolve) => this.defer(resolve))
    if (this.readFailure !== undefined) throw this.readFailure
    this.#flushAllDue()
    return this.#namespace(namespaceId)
  }

  #itemKey(namespaceId: NamespaceId, key: Key): ItemKey {
    return composeItemKey(this.#namespace(namespaceId).name, key)
  }

  #flushAllDue(): void {
    for (const namespace of this.#namespaces.values()) this.#flushIfDue(namespace)
  }

  #flushIfDue(namespace: MemoryNamespace): void {
    if (namespace.flushDue === 0 || namespace.flushDue > this.nowSeconds()) return
    namespace.flushDue = 0
    this.flush(namespace.name)
  }

  #namespace(id: NamespaceId): MemoryNamespace {
    const namespace = [...this.#namespaces.values()].find((one) => one.id === id)
    if (namespace === undefined) throw new WhiteholeError('unknown-namespace', `no namespace has the id ${id}`)
    return namespace
  }
}
