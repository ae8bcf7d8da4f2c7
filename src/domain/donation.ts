import type { ItemKey } from './key.ts'
import type { ItemCas } from './local-reads.ts'
import type { NodeState } from './node-state.ts'
import type { Position } from './position.ts'
import type { CataloguedNamespace } from './namespaces.ts'

/** What a node that serves knows of its memcached, at one instant; the applier tells it. */
export interface ServedContents {
  /** Undefined while the node does not serve. */
  contents(): Contents | undefined
  /**
   * Whoever looked at a stale item has taken the right to refill it: gives it back to this node's clients, at a place between two
   * batches, where the item is still that one and live.
   */
  giveBack(stale: StaleItem): Promise<void>
}

export interface StaleItem extends ItemCas {
  readonly key: ItemKey
  readonly namespaceName: string
}

export interface Contents {
  /** Changes whenever what is in memcached is not what was there before, brought forward: a rebuild, a rewind, another memcached. */
  readonly life: number
  /** Everything up to here is applied. */
  readonly position: Position
  /** Nothing beyond here was begun: whoever reads an item now sees no later entry. */
  readonly horizon: Position
  readonly epoch: number
  readonly databaseNowSeconds: number
  readonly memcachedNowSeconds: number
}

/** The side of a rebuild that gives (docs/adr/0013-rebuild.md). */
export interface Donations {
  /** @throws RangeError on what is no request */
  begin(request: unknown): DonationStart
}

export type DonationStart =
  | { readonly kind: 'stream'; readonly chunks: AsyncIterable<Buffer> }
  /** `unknown-dump`: what was begun can't be gone on with; `busy`: others are being given to. */
  | { readonly kind: 'refused'; readonly reason: 'not-serving' | 'busy' | 'unknown-dump' | 'format' }

/** The side that takes: recovery/ finds a peer and reads its stream, the applier writes what comes into memcached. */
export interface Refills {
  /**
   * Brings a peer's items to `sink`, whole. Goes on with another peer where one is lost, from nothing: `sink.begin` is called again.
   * @returns undefined where no peer can give now; then what was begun is worth nothing
   * Rejects with what `sink` throws, and once `signal` is aborted.
   */
  run(sink: RefillSink, signal: AbortSignal): Promise<RefillEnd | undefined>
  readonly progress: RefillProgress | undefined
}

export interface RefillSink {
  /** Does this memcached keep versions as its items' CAS? Then only a peer that knows them is of use. */
  readonly needsVersions: boolean
  /** Who has seen this position is ahead of the primary: its items must not be taken (races.md R11). */
  refuses(position: Position): Promise<boolean>
  /** Throws away what is there. */
  begin(head: RefillHead): Promise<void>
  /** A piece of the stream (wire/peer/item-stream.ts). Resolves once there is room for the next, with the number of its items. */
  items(piece: Buffer): Promise<number>
  /** Resolves once everything is in memcached. */
  settle(): Promise<void>
}

export interface RefillHead {
  /** The log is applied from here. */
  readonly position: Position
  readonly epoch: number
  readonly namespaces: readonly Omit<CataloguedNamespace, 'watermark'>[]
  readonly staleItems: boolean
  /** The peer's idea of the databases' clock when it wrote this, in Unix seconds. */
  readonly clockSeconds: number
}

export interface RefillEnd {
  readonly head: RefillHead
  readonly peer: string
  /** Nobody may read before the log is applied up to here (races.md R29). */
  readonly position: Position
  readonly keys: number
}

export interface RefillProgress {
  readonly peer: string
  readonly keys: number
  /** What the peer thinks it has. */
  readonly keysExpected: number
  readonly bytes: number
  readonly seconds: number
}

/** The other nodes, as a rebuild sees them. */
export interface DonorPeers {
  /** All that answer, the best first: own data centre, then least behind. */
  find(signal: AbortSignal): Promise<readonly DonorPeer[]>
}

export interface DonorPeer {
  readonly name: string
  readonly state: NodeState
  /** Rejects where the peer does not answer. The chunks end, or throw, where it is lost. */
  give(request: object, signal: AbortSignal): Promise<DonationAnswer>
}

export type DonationAnswer =
  | { readonly kind: 'stream'; readonly chunks: AsyncIterable<Buffer> }
  | { readonly kind: 'refused'; readonly reason: string }
