import { composeItemKey, type Key } from '../domain/key.ts'
import { type CachedItem, isLive, type LocalReads } from '../domain/local-reads.ts'
import type { Mutation, Outcome } from '../domain/mutation.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { CataloguedNamespace, Namespaces } from '../domain/namespaces.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import type { Version } from '../domain/version.ts'

export interface ItemPorts {
  readonly reads: LocalReads
  readonly namespaces: Namespaces
  readonly peers: PeerReads
}

export interface EvictionFigures {
  /** Refusals whose item was not in the local memcached: questions to the peers. */
  asked: number
  /** Of those: gone everywhere. */
  gone: number
}

/** A mutation that may name the version that is known to be evicted everywhere. */
export type Evictable = Extract<Mutation, { kind: 'set' | 'arithmetic' }>

/**
 * What the directory refuses because of a live row does not stand where that row's item is gone from every memcached
 * (docs/adr/0008-eviction.md has the cases and their interleavings).
 */
export class EvictionRule {
  readonly figures: EvictionFigures = { asked: 0, gone: 0 }
  readonly #ports: ItemPorts

  constructor(ports: ItemPorts) {
    this.#ports = ports
  }

  /**
   * To be asked once the refusal is acknowledged: only then has this node applied what it rests on. Any doubt is a no.
   * @param version of the row that refused
   */
  async isGone(of: { namespaceId: NamespaceId; key: Key }, version: Version): Promise<boolean> {
    const namespace = this.#ports.namespaces.byId(of.namespaceId)
    if (namespace === undefined || !this.#ports.reads.serving) return false
    try {
      if ((await readLocal(this.#ports, namespace, of.key)) !== undefined) return false
      this.figures.asked += 1
      const answer = await this.#ports.peers.find(namespace, of.key, version)
      if (answer.kind !== 'gone' || !this.#ports.reads.serving) return false
    } catch {
      // Whoever could not answer counts as holding it.
      return false
    }
    this.figures.gone += 1
    return true
  }
}

/** The version of the row because of which the mutation was refused, where the rule looks at such a refusal again. */
export function refusedBy(mutation: Mutation, outcome: Outcome): Version | undefined {
  switch (outcome.kind) {
    case 'not-stored':
    case 'exists':
    case 'not-a-number':
      return isEvictable(mutation) ? outcome.version : undefined
    default:
      return undefined
  }
}

export function isEvictable(mutation: Mutation): mutation is Evictable {
  return mutation.kind === 'set' || mutation.kind === 'arithmetic'
}

/** What this node's memcached holds of the key's present content. */
export async function readLocal(
  { reads, namespaces }: Pick<ItemPorts, 'reads' | 'namespaces'>,
  namespace: CataloguedNamespace,
  key: Key,
): Promise<CachedItem | undefined> {
  const item = await new Promise<CachedItem | undefined>((resolve, reject) => {
    reads.fetch(composeItemKey(namespace.name, key), (found, error) => {
      if (error === undefined) resolve(found)
      else reject(error)
    })
  })
  // Anew, at this instant: a flush may have been applied while the item was on its way.
  const present = namespaces.byId(namespace.id)
  return item !== undefined && present !== undefined && isLive(item, present) ? item : undefined
}
