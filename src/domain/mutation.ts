import type { Key } from './key.ts'
import type { NamespaceId } from './namespace.ts'

/**
 * What a client asks to change. Outcomes are decided once, on the primary, in the write transaction; what the log then carries is
 * absolute (domain/log-entry.ts).
 */
export type Mutation = SetMutation | DeleteMutation | TouchMutation | FlushMutation

export interface SetMutation {
  readonly kind: 'set'
  readonly namespaceId: NamespaceId
  readonly key: Key
  /** Owned by the mutation: a copy, never a view into a socket's read buffer. */
  readonly value: Buffer
  /** 0 to 2^64-1, as memcached 1.6 takes them. */
  readonly flags: bigint
  readonly exptime: Exptime
}

/** Always logged, also where there is nothing to delete (races.md R19). */
export interface DeleteMutation {
  readonly kind: 'delete'
  readonly namespaceId: NamespaceId
  readonly key: Key
}

/** Keeps the version (races.md R22). */
export interface TouchMutation {
  readonly kind: 'touch'
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly exptime: Exptime
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
  if (exptime > relativeExptimeMaxSeconds) return exptime
  return Math.floor(nowSeconds) + exptime
}

export function isExpired(expiry: Expiry, nowSeconds: number): boolean {
  return expiry !== expiryNever && expiry <= nowSeconds
}

/** How a mutation ended. Failures are errors (domain/errors.ts), never outcomes. */
export type Outcome = 'stored' | 'deleted' | 'touched' | 'not-found' | 'flushed'
