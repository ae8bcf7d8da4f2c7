import type { Key } from './key.ts'
import type { CachedItem } from './local-reads.ts'
import type { Namespace } from './namespace.ts'
import type { Version } from './version.ts'

/** Questions to the other nodes' memcached, for the eviction rule (DESIGN §5): rare, so not batched. */
export interface PeerReads {
  /**
   * Who still holds the item of this version? `held` with the item; `gone` where every peer answered and none has it; `unknown`
   * where one did not answer: it counts as holding (races.md R16).
   */
  find(namespace: Namespace, key: Key, version: Version): Promise<PeerAnswer>
}

export type PeerAnswer =
  | { readonly kind: 'held'; readonly item: CachedItem; readonly stale?: boolean }
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown' }

/** The side that answers peers (docs/adr/0010-peers.md). */
export interface PeerDesk {
  /** Constant in time. */
  admits(secret: string | undefined): boolean
  /** @throws RangeError on what is no question */
  answer(question: unknown): Promise<PeerFinding>
  /**
   * A run of reads by a node that can't read its own memcached: undefined where this one does not serve, or is not as far as the asker.
   * @throws RangeError on what is no run of reads
   */
  read(questions: unknown): Promise<Buffer | undefined>
  /** How this node is: small, and without asking anybody. */
  health(): object
}

export type PeerFinding =
  | { readonly kind: 'held'; readonly flags: string; readonly value: Buffer; readonly stale?: boolean }
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown' }
