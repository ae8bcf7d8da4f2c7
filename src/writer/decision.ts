import type { WhiteholeError } from '../domain/errors.ts'
import type { Key } from '../domain/key.ts'
import type { operation } from '../domain/log-entry.ts'
import type { Expiry, KeyMutation, Outcome } from '../domain/mutation.ts'
import type { Generation, NamespaceId } from '../domain/namespace.ts'
import type { Version } from '../domain/version.ts'

/** A distinct key of a batch. */
export interface BatchKey {
  /** `<namespace id>:<key>`. */
  readonly id: string
  readonly namespaceId: NamespaceId
  readonly key: Key
  /** The key as it stands in SQL: no byte of a client ever does. */
  readonly hex: string
}

/** What the write transaction read, and holds locked until its end. */
export interface Facts {
  /** The primary's clock, in the transaction. */
  readonly nowSeconds: number
  /** Absent: there is no such namespace. */
  readonly namespaces: ReadonlyMap<NamespaceId, NamespaceRow>
  /** By the key's id; no row: the directory has none (proved by the INSERT), or it was not asked. */
  readonly rows: ReadonlyMap<string, DirectoryRow>
  /** Not asked for, because whatever is there is overwritten: the batch's first mutation of each is a plain set. */
  readonly unread: ReadonlySet<string>
}

/** Of the limits 0 means none. */
export interface NamespaceRow {
  readonly generation: Generation
  readonly defaultTtlSeconds: number
  readonly maxTtlSeconds: number
  readonly maxValueBytes: number
}

export interface DirectoryRow {
  readonly version: Version
  readonly expiry: Expiry
  readonly flags: bigint
  readonly sizeBytes: number
  readonly checksum: number
  /** What incr and decr find; undefined: the value is no number. */
  readonly number: bigint | undefined
}

export interface DirectoryWrite extends DirectoryRow {
  readonly key: BatchKey
}

/** The row keeps all but its expiry (races.md R22). */
export interface DirectoryTouch {
  readonly key: BatchKey
  readonly version: Version
  readonly expiry: Expiry
}

export interface LogRow {
  readonly key: BatchKey
  readonly operation: (typeof operation)[keyof typeof operation]
  readonly version: Version
  readonly expiry: Expiry
  readonly flags: bigint
  readonly value: Buffer | undefined
}

/** What the transaction is to write, and what each mutation's client is told once that is in the followed log. */
export interface Decision {
  /** Rows of keys that the directory lacked: a plain INSERT, which proves that it did. */
  readonly inserts: readonly DirectoryWrite[]
  /** Rows that are there, and those of unread keys. */
  readonly updates: readonly DirectoryWrite[]
  readonly touches: readonly DirectoryTouch[]
  /** In the order of the mutations, save what was folded (batch-ledger.ts). */
  readonly log: readonly LogRow[]
  /** One for each mutation, in their order. */
  readonly results: readonly Result[]
}

export type Result = Outcome | WhiteholeError

export interface Decidable {
  readonly mutation: KeyMutation
  readonly key: BatchKey
  /** Whose order is to be kept: the same object for what comes from one session. */
  readonly session: object | undefined
}
