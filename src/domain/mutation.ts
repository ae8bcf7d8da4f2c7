import type { Key } from './key.ts'
import type { Generation, NamespaceId } from './namespace.ts'
import type { Version } from './version.ts'

/**
 * What a client asks to change. Outcomes are decided once, on the primary, in the write transaction; what the log then carries is
 * absolute (domain/log-entry.ts).
 */
export type Mutation =
  SetMutation | DeleteMutation | TouchMutation | ArithmeticMutation | InvalidateMutation | FlushMutation

/** A mutation of one key: what a batch holds. */
export type KeyMutation = Exclude<Mutation, FlushMutation>

interface OfKey {
  readonly namespaceId: NamespaceId
  readonly key: Key
  /**
   * The client's token (0 to 2^64-1): only where the live row has this version. A key without a live row is `not-found`, another
   * version `exists`. As in memcached `add` doesn't look at it, and arithmetic that may `create` does so without a live row.
   */
  readonly compare?: bigint
}

export interface SetMutation extends OfKey {
  readonly kind: 'set'
  /** Owned by the mutation: a copy, never a view into a socket's read buffer. */
  readonly value: Buffer
  /** 0 to 2^32-1: memcached keeps no more. */
  readonly flags: bigint
  readonly exptime: Exptime
  /** `add`: only without a live row, `replace`: only with one; else `not-stored`. Default: in any case. */
  readonly mode?: 'set' | 'add' | 'replace'
  /** The row keeps its flags and its expiry, whatever is given here: `append` and `prepend`, which compare with what they read. */
  readonly keepsAttributes?: boolean
  /**
   * Live in the directory, evicted from every memcached (DESIGN §5, Eviction): a row of this version counts as absent. Decided by asking
   * all peers before.
   */
  readonly evictedVersion?: Version
  /** Meta `I` beside a token that does not match: stores, and marks the item stale. */
  readonly staleOnMismatch?: boolean
  readonly seen?: RowSeen
}

/**
 * A key's row in the directory as it was seen. Whoever says so changes the key only where nobody has since: each store and delete draws a
 * new version, a delete leaves a dead row, a flush raises the generation. Else `exists`, or `not-found` without a live row.
 */
export interface RowSeen {
  readonly generation: Generation
  /** Also of a dead row; undefined: there was none. */
  readonly version: Version | undefined
}

/** Always logged, also where there is nothing to delete (races.md R19), save where `compare` refuses it. */
export interface DeleteMutation extends OfKey {
  readonly kind: 'delete'
  readonly seen?: RowSeen
}

/** Keeps the version (races.md R22). */
export interface TouchMutation extends OfKey {
  readonly kind: 'touch'
  readonly exptime: Exptime
}

/** `incr`, `decr`, meta `ma`: on the directory's number, wrapping at 2^64, decr stopping at 0. `not-a-number` where it is none. */
export interface ArithmeticMutation extends OfKey {
  readonly kind: 'arithmetic'
  readonly direction: 'incr' | 'decr'
  /** 0 to 2^64-1. */
  readonly delta: bigint
  /** Where there is no live row: stores this number (meta `N` and `J`, the binary protocol's initial value). */
  readonly create?: { readonly initial: bigint; readonly exptime: Exptime }
  /** Meta `T`: the expiry is set too. Default: kept. */
  readonly exptime?: Exptime
  /** As in SetMutation. */
  readonly evictedVersion?: Version
}

/** Meta `md … I` (stale: the next reader wins the right to refill) and `md … x` (empty value, flags 0): both draw a new version. Ends as `stored`. */
export interface InvalidateMutation extends OfKey {
  readonly kind: 'invalidate'
  readonly stale: boolean
  readonly dropsValue: boolean
  /** Meta `T`. Default: the expiry is kept. */
  readonly exptime?: Exptime
}

/** Raises the namespace's generation now, or, with a delay, notes a due time that any one node executes. */
export interface FlushMutation {
  readonly kind: 'flush'
  readonly namespaceId: NamespaceId
  /** 0: at once. */
  readonly delaySeconds: number
}

/**
 * An expiry as memcached's protocol has it, in seconds: 0 never, negative at once, up to 2,592,000 (30 days) relative, above that
 * an absolute Unix time. The primary's clock turns it into an absolute one.
 */
export type Exptime = number

export const relativeExptimeMaxSeconds = 60 * 60 * 24 * 30

/** Absolute Unix seconds by the primary's clock; 0 never; 1 long gone (a dead row, or an item that was stored already expired). */
export type Expiry = number

export const expiryNever: Expiry = 0
export const expiryGone: Expiry = 1

/** @param nowSeconds the primary's clock, in the write transaction */
export function absoluteExpiry(exptime: Exptime, nowSeconds: number): Expiry {
  if (exptime === 0) return expiryNever
  if (exptime < 0) return expiryGone
  if (exptime > relativeExptimeMaxSeconds) return exptime > nowSeconds ? exptime : expiryGone
  return Math.floor(nowSeconds) + exptime
}

export function isExpired(expiry: Expiry, nowSeconds: number): boolean {
  return expiry !== expiryNever && expiry <= nowSeconds
}

/** How a mutation ended. Failures are errors (domain/errors.ts), never outcomes. */
export type Outcome =
  /** `version` is the new one. */
  | { readonly kind: 'stored'; readonly version: Version; readonly number?: bigint; readonly created?: boolean }
  | { readonly kind: 'deleted' }
  | { readonly kind: 'touched'; readonly version: Version }
  /** `add` on a live key, with the version that it has; `replace` on none. */
  | { readonly kind: 'not-stored'; readonly version?: Version }
  /** Another version than the one compared with. */
  | { readonly kind: 'exists'; readonly version: Version }
  /** `rowVersion`, of a `touch` alone: a row is there all the same, a dead one. */
  | { readonly kind: 'not-found'; readonly rowVersion?: Version }
  | { readonly kind: 'not-a-number'; readonly version: Version }
  | { readonly kind: 'flushed' }
