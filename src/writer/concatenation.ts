import type { DirectoryReads } from '../domain/directory-reads.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey, type Key } from '../domain/key.ts'
import { type CachedItem, isLease, itemCasIsVersion, versionOf } from '../domain/local-reads.ts'
import type { Outcome, SetMutation } from '../domain/mutation.ts'
import type { Concatenation, MutationSession } from '../domain/mutations.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { Version } from '../domain/version.ts'
import { itemBytes, itemBytesMaxDefault } from '../wire/memcached/item-size.ts'
import { type ItemPorts, readLocal } from './eviction.ts'

export interface ConcatenationPorts extends ItemPorts {
  readonly directory: DirectoryReads
}

type Submitter = Pick<MutationSession, 'submit'>

/** What the new value is made of, and what it is compared with. */
interface Old {
  readonly version: Version
  readonly item: CachedItem
}

/** Each round somebody wins, so with a few nodes this many lost in a row mean that something is wrong. */
const roundsMax = 64

/**
 * `append` and `prepend`: the log takes whole values alone, so the old one is read, and the new one is set where the version is still
 * the same; else again. Of one node's clients one at a time works on a key.
 */
export class Concatenator {
  readonly #ports: ConcatenationPorts
  readonly #timeoutMilliseconds: number
  readonly #itemBytesMax: number
  /** The last in the queue for a key, settled or not; never rejects. */
  readonly #queues = new Map<string, Promise<void>>()

  constructor(options: ConcatenationPorts & { writeTimeoutMilliseconds: number; itemBytesMax?: number }) {
    this.#ports = options
    this.#timeoutMilliseconds = options.writeTimeoutMilliseconds
    this.#itemBytesMax = options.itemBytesMax ?? itemBytesMaxDefault
  }

  /** Its errors and outcomes: domain/mutations.ts. The caller sees to the order with the session's other mutations. */
  async run(session: Submitter, concatenation: Concatenation): Promise<Outcome> {
    const deadline = performance.now() + this.#timeoutMilliseconds
    const id = `${concatenation.namespaceId}:${concatenation.key}`
    const former = this.#queues.get(id)
    const result = (async () => {
      if (former !== undefined) await former
      return this.#try(session, concatenation, deadline)
    })()
    const end = result.then(
      () => {},
      () => {},
    )
    this.#queues.set(id, end)
    try {
      return await result
    } finally {
      if (this.#queues.get(id) === end) this.#queues.delete(id)
    }
  }

  async #try(session: Submitter, concatenation: Concatenation, deadline: number): Promise<Outcome> {
    for (let round = 0; round < roundsMax; round++) {
      if (performance.now() > deadline) {
        if (round > 0) break
        throw new WhiteholeError('not-written', 'others that change the same item took all the time')
      }
      const { namespaceId } = concatenation
      const namespace = this.#ports.namespaces.byId(namespaceId)
      if (namespace === undefined) {
        throw new WhiteholeError('unknown-namespace', `there is no namespace with the id ${namespaceId}`)
      }
      const outcome = await this.#tryOnce(session, concatenation, namespace)
      if (outcome !== undefined) return outcome
    }
    throw new WhiteholeError('contended', 'the item changed under each of many tries')
  }

  /** @returns undefined where somebody else was quicker */
  async #tryOnce(
    session: Submitter,
    concatenation: Concatenation,
    namespace: CataloguedNamespace,
  ): Promise<Outcome | undefined> {
    const { compare } = concatenation
    let old = await this.#seen(namespace, concatenation.key)
    if (old === undefined || (compare !== undefined && compare !== old.version)) {
      const version = await ask(session, concatenation)
      if (version === undefined) return onMiss(session, concatenation)
      if (compare !== undefined && compare !== version) return { kind: 'exists', version }
      old = await this.#find(namespace, concatenation.key, version)
      if (old === undefined) return onMiss(session, concatenation, version)
    }
    const value = joined(concatenation, old.item.value)
    if (itemBytes(concatenation.key.length, Number(old.item.flags), value.length) > this.#itemBytesMax) {
      return { kind: 'not-stored', version: old.version }
    }
    const outcome = await session.submit({
      ...store(concatenation, value),
      compare: old.version,
      keepsAttributes: true,
    })
    if (outcome.kind === 'not-found') return onMiss(session, concatenation)
    return outcome.kind === 'exists' && compare === undefined ? undefined : outcome
  }

  /** Item and version as far as this node can tell; undefined: the primary must be asked. */
  async #seen(namespace: CataloguedNamespace, key: Key): Promise<Old | undefined> {
    if (itemCasIsVersion(namespace)) {
      const item = await readLocal(this.#ports, namespace, key)
      const version = item === undefined ? undefined : versionOf(item, namespace)
      return item === undefined || version === undefined ? undefined : { version, item }
    }
    // The version first (races.md R23): an item that is newer than it fails the comparison, the other way round it would win.
    const [version] = await this.#ports.directory.versions(namespace.id, [key])
    if (version === undefined) return undefined
    const item = await readLocal(this.#ports, namespace, key)
    return item === undefined || item.value.length === 0 ? undefined : { version, item }
  }

  /**
   * Here, or at a peer; undefined: evicted everywhere. What this node has applied by now is at least the version.
   * @throws WhiteholeError `item-away`
   */
  async #find(namespace: CataloguedNamespace, key: Key, version: Version): Promise<Old | undefined> {
    const item = await readLocal(this.#ports, namespace, key)
    const doubtful = item !== undefined && (await this.#mayBeLease(namespace, key, item))
    if (item !== undefined && !doubtful) return { version: versionOf(item, namespace) ?? version, item }
    const answer = await this.#ports.peers.find(namespace, key, version)
    switch (answer.kind) {
      case 'held':
        return { version, item: answer.item }
      case 'gone':
        return item === undefined || isLease(item, namespace) ? undefined : { version, item }
      default:
        throw new WhiteholeError('item-away', 'evicted here, and a peer that may hold it does not answer')
    }
  }

  /** The empty item that a lease is hides an eviction. An old memcached's leases look like empty items that somebody fills again. */
  async #mayBeLease(namespace: CataloguedNamespace, key: Key, item: CachedItem): Promise<boolean> {
    if (itemCasIsVersion(namespace)) return isLease(item, namespace)
    if (item.value.length > 0) return false
    const itemKey = composeItemKey(namespace.name, key)
    const examined = await this.#ports.reads.examine(namespace.id, itemKey, { withValue: false, noBump: true })
    return examined === undefined || examined.won || examined.leased
  }
}

/**
 * The version of the live row as the primary has it, through the lane and the followed log: an isolated primary can't answer that (races.md
 * R2). No version is 0, so nothing is touched.
 */
async function ask(session: Submitter, { namespaceId, key }: Concatenation): Promise<Version | undefined> {
  const outcome = await session.submit({ kind: 'touch', namespaceId, key, exptime: 0, compare: 0n })
  return outcome.kind === 'exists' ? outcome.version : undefined
}

async function onMiss(
  session: Submitter,
  concatenation: Concatenation,
  evictedVersion?: Version,
): Promise<Outcome | undefined> {
  const { create, value } = concatenation
  if (create === undefined) return { kind: 'not-stored' }
  const mutation: SetMutation = { ...store(concatenation, value), ...create, mode: 'add' }
  const outcome = await session.submit(evictedVersion === undefined ? mutation : { ...mutation, evictedVersion })
  return outcome.kind === 'not-stored' ? undefined : outcome
}

function store({ namespaceId, key }: Concatenation, value: Buffer): SetMutation {
  return { kind: 'set', namespaceId, key, value, flags: 0n, exptime: 0 }
}

function joined({ side, value }: Concatenation, old: Buffer): Buffer {
  return Buffer.concat(side === 'append' ? [old, value] : [value, old])
}
