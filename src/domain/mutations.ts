import type { Key } from './key.ts'
import type { DeleteMutation, Exptime, Mutation, Outcome, SetMutation } from './mutation.ts'
import type { Generation, NamespaceId } from './namespace.ts'

/** Where the gateway hands in what clients change; the writer implements it. */
export interface Mutations {
  /** One for each client connection: what goes through one session keeps its order, across keys too. */
  openSession(): MutationSession
}

export interface MutationSession {
  /**
   * Resolves once the mutation is in the log that this node follows and applied here, with the outcome decided on the primary.
   * Rejects with a WhiteholeError: `not-written`, `outcome-unknown`, `queue-full`, `unknown-namespace`, `value-too-large`.
   * Mutations may be submitted without waiting for earlier ones.
   */
  submit(mutation: Mutation): Promise<Outcome>
  close(): void
}

/** Mutations whose outcomes hold for what memcached would say of evicted keys too (DESIGN §5, docs/adr/0008-eviction.md). */
export interface ArbitratedMutations extends Mutations {
  openSession(): ArbitratedSession
}

export interface ArbitratedSession extends MutationSession {
  /**
   * `append` and `prepend`. Keeps its place among what is submitted: it starts once everything before it is answered, and what comes
   * behind it waits. Ends as `stored`; `not-stored` on a miss (with `compare` too), or where no item could hold so much, as memcached has it;
   * `exists`. Rejects as `submit` does, and where the old value can't be had: with `not-serving` and `memcached-away` (its own
   * memcached), `database-away`, `item-away` (a peer), `contended`. Nothing is written then.
   */
  concatenate(concatenation: Concatenation): Promise<Outcome>
  /**
   * A store or delete with the token of a lease, which is no version. Keeps its place as `concatenate` does. Decided as if the token were
   * the key's, where the lease was held up to the very moment of the write; else as any token that isn't.
   */
  redeem(use: LeaseUse): Promise<Outcome>
}

export interface LeaseUse {
  /** With the lease's token as `compare`. */
  readonly mutation: SetMutation | DeleteMutation
  /**
   * Whether this node's memcached still holds the lease: the generation that the namespace had here when that was asked. Rejects where it
   * can't tell.
   */
  readonly held: () => Promise<Generation | undefined>
}

export interface Concatenation {
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly side: 'append' | 'prepend'
  /** Owned by the concatenation, as in SetMutation. The item keeps its flags and its expiry. */
  readonly value: Buffer
  /** The client's token, as in a mutation. */
  readonly compare?: bigint
  /** On a miss the value is stored alone (meta `N` beside the modes A and P). Default: `not-stored`. */
  readonly create?: { readonly flags: bigint; readonly exptime: Exptime }
}
