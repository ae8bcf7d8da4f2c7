import type { DirectoryReads } from '../../src/domain/directory-reads.ts'
import { WhiteholeError } from '../../src/domain/errors.ts'
import { composeItemKey, type ItemKey, type Key } from '../../src/domain/key.ts'
import type { CachedItem, LocalReads, ReadSink } from '../../src/domain/local-reads.ts'
import { absoluteExpiry, type Expiry, isExpired, type Mutation, type Outcome } from '../../src/domain/mutation.ts'
import type { Mutations, MutationSession } from '../../src/domain/mutations.ts'
import type { NamespaceId } from '../../src/domain/namespace.ts'
import type { CataloguedNamespace, Namespaces } from '../../src/domain/namespaces.ts'
import { composeVersion, type Version } from '../../src/domain/version.ts'

interface StoredItem extends CachedItem {
  readonly namespaceId: NamespaceId
  readonly version: Version
  expiry: Expiry
}

interface MemoryNamespace extends CataloguedNamespace {
  generation: number
  watermark: number
  flushDue: number
}

/**
 * A node without database and memcached: what the gateway's ports promise, in a map. Answers come in a later turn of the event
 * loop, as real ones do. Failures and waits are switched on by tests.
 */
export class MemoryNode {
  readonly items = new Map<ItemKey, StoredItem>()
  readonly #namespaces = new Map<string, MemoryNamespace>()
  #cas = 0
  /** Unix seconds; a test may set the clock forward. */
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

  constructor(namespaceNames: readonly string[] = ['default', 'sessions']) {
    for (const [index, name] of namespaceNames.entries()) {
      this.#namespaces.set(name, { id: 1001 + index, name, generation: 1, watermark: 0, flushDue: 0 })
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
    fetch(key: ItemKey, sink: ReadSink) {
      node.defer(() => {
        if (node.readFailure === undefined) sink(node.#live(key))
        else sink(undefined, node.readFailure)
      })
    },
  }))(this)

  readonly directory: DirectoryReads = {
    versions: async (namespaceId: NamespaceId, keys: readonly Key[]) => {
      await new Promise(setImmediate)
      if (this.directoryFailure !== undefined) throw this.directoryFailure
      const namespace = this.#namespace(namespaceId)
      return keys.map((key) => {
        const item = this.#live(composeItemKey(namespace.name, key))
        return item !== undefined && item.cas > namespace.watermark ? item.version : undefined
      })
    },
    figures: async (namespaceId: NamespaceId) => {
      await new Promise(setImmediate)
      if (this.directoryFailure !== undefined) throw this.directoryFailure
      const { watermark } = this.#namespace(namespaceId)
      const live = [...this.items.values()].filter((item) => item.namespaceId === namespaceId && item.cas > watermark)
      return { keys: live.length, bytes: live.reduce((bytes, item) => bytes + item.value.length, 0) }
    },
  }

  readonly mutations: Mutations = {
    openSession: () => {
      this.openSessions++
      return this.#session()
    },
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
    if (namespace !== undefined) namespace.watermark = this.#cas
  }

  #session(): MutationSession {
    let last: Promise<unknown> = Promise.resolve()
    return {
      submit: (mutation) => {
        this.submitted.push(mutation)
        const outcome = last.then(() => this.#turn()).then(() => this.#execute(mutation))
        last = outcome.catch(() => {})
        return outcome
      },
      close: () => {
        this.openSessions--
      },
    }
  }

  #turn(): Promise<void> {
    const held = this.#writesHeld
    return new Promise((resolve) => {
      if (held === undefined) setImmediate(resolve)
      else held.push(resolve)
    })
  }

  #execute(mutation: Mutation): Outcome {
    if (this.writeFailure !== undefined) throw this.writeFailure
    const namespace = this.#namespace(mutation.namespaceId)
    this.#flushIfDue(namespace)
    if (mutation.kind === 'flush') {
      if (mutation.delaySeconds > 0) namespace.flushDue = this.nowSeconds() + mutation.delaySeconds
      else namespace.watermark = this.#cas
      return 'flushed'
    }
    const key = composeItemKey(namespace.name, mutation.key)
    if (mutation.kind === 'set') {
      const { value, exptime } = mutation
      const expiry = absoluteExpiry(exptime, this.nowSeconds())
      const version = composeVersion(namespace.generation, Math.random())
      const flags = String(mutation.flags)
      this.items.set(key, { namespaceId: namespace.id, flags, cas: ++this.#cas, value, version, expiry })
      return 'stored'
    }
    const live = this.#live(key)
    const present = live !== undefined && live.cas > namespace.watermark
    if (mutation.kind === 'delete') {
      this.items.delete(key)
      return present ? 'deleted' : 'not-found'
    }
    if (!present) return 'not-found'
    live.expiry = absoluteExpiry(mutation.exptime, this.nowSeconds())
    return 'touched'
  }

  #live(key: ItemKey): StoredItem | undefined {
    const item = this.items.get(key)
    if (item === undefined) return undefined
    const namespace = this.namespaces.byId(item.namespaceId)
    if (namespace !== undefined) this.#flushIfDue(namespace)
    return isExpired(item.expiry, this.nowSeconds()) ? undefined : item
  }

  #flushIfDue(namespace: MemoryNamespace): void {
    if (namespace.flushDue === 0 || namespace.flushDue > this.nowSeconds()) return
    namespace.flushDue = 0
    namespace.watermark = this.#cas
  }

  #namespace(id: NamespaceId): MemoryNamespace {
    const namespace = this.namespaces.byId(id)
    if (namespace === undefined) throw new WhiteholeError('unknown-namespace', `no namespace has the id ${id}`)
    return namespace
  }
}
