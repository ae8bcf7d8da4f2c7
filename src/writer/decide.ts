import { crc32 } from 'node:zlib'
import { WhiteholeError } from '../domain/errors.ts'
import type { Key } from '../domain/key.ts'
import { operation } from '../domain/log-entry.ts'
import {
  absoluteExpiry,
  type DeleteMutation,
  type Expiry,
  expiryGone,
  expiryNever,
  type Exptime,
  isExpired,
  type Outcome,
  type SetMutation,
  type TouchMutation,
} from '../domain/mutation.ts'
import type { Generation, NamespaceId } from '../domain/namespace.ts'
import { composeVersion, generationOf, type Version } from '../domain/version.ts'

/** A mutation of one key: what a batch holds. (A flush is a transaction of its own: flush-transaction.ts.) */
export type KeyMutation = SetMutation | DeleteMutation | TouchMutation

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
  /** By the key's id; no row: the directory has none (proved by the INSERT). */
  readonly rows: ReadonlyMap<string, DirectoryRow>
}

/** Of the limits 0 means none. */
export interface NamespaceRow {
  readonly generation: Generation
  readonly defaultTtlSeconds: number
  readonly maxTtlSeconds: number
  readonly maxValueBytes: number
}

/** Conditional commands are decided by the same row: `version` for cas, `number` for counters. */
export interface DirectoryRow {
  readonly version: Version
  readonly expiry: Expiry
  readonly flags: bigint
  readonly number: bigint | undefined
}

export interface DirectoryWrite extends DirectoryRow {
  readonly key: BatchKey
  readonly sizeBytes: number
  readonly checksum: number
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
  readonly updates: readonly DirectoryWrite[]
  readonly touches: readonly DirectoryTouch[]
  /** In the order of the mutations. */
  readonly log: readonly LogRow[]
  /** One for each mutation, in their order. */
  readonly results: readonly Result[]
}

export type Result = Outcome | WhiteholeError

export interface Decidable {
  readonly mutation: KeyMutation
  readonly key: BatchKey
}

/**
 * Decides a batch: each mutation in its turn sees what those before it in the batch left behind. Pure: the same facts and the
 * same numbers give the same decision.
 * @param random numbers in [0, 1) for the versions' low parts
 */
export function decide(batch: readonly Decidable[], facts: Facts, random: () => number): Decision {
  const arbiter = new Arbiter(facts, random)
  const results = batch.map((item) => arbiter.decide(item))
  return { ...arbiter.writes(), log: arbiter.log, results }
}

/** A key's row as the batch has it so far. */
interface KeyState {
  readonly present: boolean
  row: DirectoryWrite | DirectoryRow | undefined
  change: 'none' | 'touched' | 'written'
}

class Arbiter {
  readonly log: LogRow[] = []
  readonly #facts: Facts
  readonly #random: () => number
  readonly #states = new Map<BatchKey, KeyState>()

  constructor(facts: Facts, random: () => number) {
    this.#facts = facts
    this.#random = random
  }

  decide({ mutation, key }: Decidable): Result {
    const namespace = this.#facts.namespaces.get(mutation.namespaceId)
    if (namespace === undefined) {
      return new WhiteholeError('unknown-namespace', `there is no namespace with the id ${mutation.namespaceId}`)
    }
    const state = this.#state(key)
    switch (mutation.kind) {
      case 'set':
        return this.#set(mutation, key, { state, namespace })
      case 'delete': {
        const live = this.#isLive(state, namespace)
        this.#bury(key, state, namespace)
        return live ? 'deleted' : 'not-found'
      }
      case 'touch':
        return this.#touch(mutation, key, { state, namespace })
      default:
        throw new TypeError(`no mutation of a key: ${JSON.stringify(mutation satisfies never)}`)
    }
  }

  /** The directory's rows at the batch's end, each once, however often its key was changed. */
  writes(): Pick<Decision, 'inserts' | 'updates' | 'touches'> {
    const inserts: DirectoryWrite[] = []
    const updates: DirectoryWrite[] = []
    const touches: DirectoryTouch[] = []
    for (const [key, { present, row, change }] of this.#states) {
      if (change === 'touched' && row !== undefined) touches.push({ key, version: row.version, expiry: row.expiry })
      if (change === 'written') (present ? updates : inserts).push(row as DirectoryWrite)
    }
    return { inserts, updates, touches }
  }

  #set(mutation: SetMutation, key: BatchKey, at: { state: KeyState; namespace: NamespaceRow }): Result {
    const { state, namespace } = at
    const { value, flags } = mutation
    if (namespace.maxValueBytes > 0 && value.length > namespace.maxValueBytes) {
      // As memcached does: whoever failed to replace a value must not go on reading the old one.
      this.#bury(key, state, namespace)
      return new WhiteholeError(
        'value-too-large',
        `the value has ${value.length} bytes, the namespace takes ${namespace.maxValueBytes}`,
      )
    }
    const version = composeVersion(namespace.generation, this.#random())
    const expiry = this.#expiry(mutation.exptime, namespace)
    state.row = {
      key,
      version,
      expiry,
      flags,
      sizeBytes: value.length,
      checksum: crc32(value),
      number: counterOf(value),
    }
    state.change = 'written'
    this.log.push({ key, operation: operation.set, version, expiry, flags, value })
    return 'stored'
  }

  #touch(mutation: TouchMutation, key: BatchKey, at: { state: KeyState; namespace: NamespaceRow }): Result {
    const { state, namespace } = at
    if (state.row === undefined || !this.#isLive(state, namespace)) return 'not-found'
    const expiry = this.#expiry(mutation.exptime, namespace)
    state.row = { ...state.row, expiry }
    if (state.change === 'none') state.change = 'touched'
    const { version, flags } = state.row
    this.log.push({ key, operation: operation.touch, version, expiry, flags, value: undefined })
    return 'touched'
  }

  /**
   * A delete is logged whether or not there is something to delete (races.md R19), and leaves a dead row: a row that is absent
   * has no lock to order it by (R34).
   */
  #bury(key: BatchKey, state: KeyState, namespace: NamespaceRow): void {
    const version = composeVersion(namespace.generation, this.#random())
    const dead = { version, expiry: expiryGone, flags: 0n }
    state.row = { key, ...dead, sizeBytes: 0, checksum: 0, number: undefined }
    state.change = 'written'
    this.log.push({ key, operation: operation.delete, ...dead, value: undefined })
  }

  #isLive({ row }: KeyState, namespace: NamespaceRow): boolean {
    if (row === undefined) return false
    return generationOf(row.version) === namespace.generation && !isExpired(row.expiry, this.#facts.nowSeconds)
  }

  #expiry(exptime: Exptime, { defaultTtlSeconds, maxTtlSeconds }: NamespaceRow): Expiry {
    const now = this.#facts.nowSeconds
    const asked = absoluteExpiry(exptime === 0 ? defaultTtlSeconds : exptime, now)
    // A default beyond 30 days is still a span, not an absolute time.
    const expiry = exptime === 0 && defaultTtlSeconds > 0 ? Math.floor(now) + defaultTtlSeconds : asked
    if (maxTtlSeconds === 0) return expiry
    const latest = Math.floor(now) + maxTtlSeconds
    return expiry === expiryNever ? latest : Math.min(expiry, latest)
  }

  #state(key: BatchKey): KeyState {
    let state = this.#states.get(key)
    if (state === undefined) {
      const row = this.#facts.rows.get(key.id)
      state = { present: row !== undefined, row, change: 'none' }
      this.#states.set(key, state)
    }
    return state
  }
}

const counterMax = 2n ** 64n - 1n
const zero = 0x30
const nine = 0x39

/** The number that incr and decr would find: up to 20 digits, below 2^64. */
function counterOf(value: Buffer): bigint | undefined {
  if (value.length === 0 || value.length > 20) return undefined
  for (const byte of value) if (byte < zero || byte > nine) return undefined
  const number = BigInt(value.toString('latin1'))
  return number <= counterMax ? number : undefined
}
