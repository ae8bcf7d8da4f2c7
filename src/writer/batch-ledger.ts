import { crc32 } from 'node:zlib'
import { counterOf } from '../domain/counter.ts'
import { operation } from '../domain/log-entry.ts'
import { absoluteExpiry, type Expiry, expiryGone, expiryNever, type Exptime, isExpired } from '../domain/mutation.ts'
import { composeVersion, generationOf, type Version } from '../domain/version.ts'
import type {
  BatchKey,
  Decidable,
  Decision,
  DirectoryRow,
  DirectoryTouch,
  DirectoryWrite,
  Facts,
  LogRow,
  NamespaceRow,
} from './decision.ts'

interface Attributes {
  readonly version: Version
  readonly expiry: Expiry
  readonly flags: bigint
}

/** A key's row as the batch has it so far. */
interface KeyState {
  /** In the directory, or perhaps: an upsert is right in either case. */
  readonly present: boolean
  row: DirectoryRow | undefined
  change: 'none' | 'touched' | 'written'
  /** Where the log has this key's number, if nothing that came later forbids the next one to take its place. */
  numberAt: number | undefined
}

/**
 * What a batch leaves behind, mutation by mutation: the directory's rows, each once however often its key was changed, and the
 * log.
 *
 * **Folding.** A number that is changed again in the same batch was never the directory's, and no client could have compared with
 * it: the next number takes its place in the log, at the later place. That moves it back behind what other keys' mutations
 * logged in between, so it is not done past a mutation of a session that had a part in the number: a reader in the midst of
 * the batch's application would see that session's writes out of their order.
 */
export class Ledger {
  readonly #facts: Facts
  readonly #random: () => number
  readonly #states = new Map<BatchKey, KeyState>()
  /** Undefined: folded into a later one. */
  readonly #log: (LogRow | undefined)[] = []
  /** The numbers in the log that a session had a part in. */
  readonly #numbersOf = new Map<object, KeyState>()

  constructor(facts: Facts, random: () => number) {
    this.#facts = facts
    this.#random = random
  }

  /** Undefined: there is no such namespace. */
  turn({ mutation, key, session }: Decidable): Turn | undefined {
    const namespace = this.#facts.namespaces.get(mutation.namespaceId)
    if (namespace === undefined) return undefined
    let state = this.#states.get(key)
    if (state === undefined) {
      const row = this.#facts.rows.get(key.id)
      const present = row !== undefined || this.#facts.unread.has(key.id)
      state = { present, row, change: 'none', numberAt: undefined }
      this.#states.set(key, state)
    }
    if (session !== undefined) this.#closeNumber(session, state)
    const evicted = 'evictedVersion' in mutation ? mutation.evictedVersion : undefined
    return new Turn(this, { key, state, namespace, session, evicted })
  }

  get nowSeconds(): number {
    return this.#facts.nowSeconds
  }

  drawVersion(namespace: NamespaceRow): Version {
    return composeVersion(namespace.generation, this.#random())
  }

  append(state: KeyState, row: LogRow): void {
    state.numberAt = undefined
    this.#log.push(row)
  }

  /** In the place of the key's number before it, where there is one that nothing stands behind. */
  appendNumber(state: KeyState, row: LogRow, session: object | undefined): void {
    if (state.numberAt !== undefined) this.#log[state.numberAt] = undefined
    state.numberAt = this.#log.push(row) - 1
    if (session !== undefined) this.#numbersOf.set(session, state)
  }

  writes(): Omit<Decision, 'results'> {
    const inserts: DirectoryWrite[] = []
    const updates: DirectoryWrite[] = []
    const touches: DirectoryTouch[] = []
    for (const [key, { present, row, change }] of this.#states) {
      if (change === 'none' || row === undefined) continue
      if (change === 'touched') touches.push({ key, version: row.version, expiry: row.expiry })
      else (present ? updates : inserts).push({ key, ...row })
    }
    return { inserts, updates, touches, log: this.#log.filter((row) => row !== undefined) }
  }

  /** One suffices: the former is closed before a session can have a part in another. */
  #closeNumber(session: object, next: KeyState): void {
    const state = this.#numbersOf.get(session)
    if (state === undefined || state === next) return
    state.numberAt = undefined
    this.#numbersOf.delete(session)
  }
}

/** One mutation's view of its key, and the changes that it may make. */
export class Turn {
  readonly namespace: NamespaceRow
  /** The row, if it is live and not the one that is known to be evicted everywhere. */
  readonly live: DirectoryRow | undefined
  readonly #ledger: Ledger
  readonly #key: BatchKey
  readonly #state: KeyState
  readonly #session: object | undefined

  constructor(
    ledger: Ledger,
    given: {
      key: BatchKey
      state: KeyState
      namespace: NamespaceRow
      session: object | undefined
      evicted: Version | undefined
    },
  ) {
    this.#ledger = ledger
    this.#key = given.key
    this.#state = given.state
    this.#session = given.session
    this.namespace = given.namespace
    const { row } = given.state
    const counts = row !== undefined && row.version !== given.evicted && this.#isLive(row)
    this.live = counts ? row : undefined
  }

  /** Live or dead. Unknown where the batch's first mutation of the key overwrites it unread. */
  get row(): DirectoryRow | undefined {
    return this.#state.row
  }

  drawVersion(): Version {
    return this.#ledger.drawVersion(this.namespace)
  }

  /** Within the TTLs of the namespace. */
  expiryOf(exptime: Exptime): Expiry {
    const { defaultTtlSeconds, maxTtlSeconds } = this.namespace
    // The clock is read only where it matters: a batch that does without it assumes less (assumptions.ts).
    if (exptime === 0 && defaultTtlSeconds === 0 && maxTtlSeconds === 0) return expiryNever
    const now = this.#ledger.nowSeconds
    // A default beyond 30 days is still a span, not an absolute time.
    const byDefault = exptime === 0 && defaultTtlSeconds > 0
    const expiry = byDefault ? Math.floor(now) + defaultTtlSeconds : absoluteExpiry(exptime, now)
    if (maxTtlSeconds === 0) return expiry
    const latest = Math.floor(now) + maxTtlSeconds
    return expiry === expiryNever ? latest : Math.min(expiry, latest)
  }

  store(value: Buffer, attributes: Attributes): DirectoryRow {
    const row = rowOf(value, attributes)
    this.#write(row)
    const { version, expiry, flags } = attributes
    this.#ledger.append(this.#state, { key: this.#key, operation: operation.set, version, expiry, flags, value })
    return row
  }

  storeNumber(value: Buffer, attributes: Attributes): void {
    this.#write(rowOf(value, attributes))
    const row = { key: this.#key, operation: operation.set, ...attributes, value }
    this.#ledger.appendNumber(this.#state, row, this.#session)
  }

  touch(row: DirectoryRow, expiry: Expiry): void {
    this.#state.row = { ...row, expiry }
    if (this.#state.change === 'none') this.#state.change = 'touched'
    const { version, flags } = row
    this.#ledger.append(this.#state, {
      key: this.#key,
      operation: operation.touch,
      version,
      expiry,
      flags,
      value: undefined,
    })
  }

  /** The value stays, or is the one that was stored under the same version. */
  markStale(row: DirectoryRow): void {
    this.#write(row)
    const { version, expiry, flags } = row
    this.#ledger.append(this.#state, {
      key: this.#key,
      operation: operation.stale,
      version,
      expiry,
      flags,
      value: undefined,
    })
  }

  /**
   * A delete is logged whether or not there is something to delete (races.md R19), and leaves a dead row: a row that is absent
   * has no lock to order it by (R34).
   */
  bury(): void {
    const dead = { version: this.drawVersion(), expiry: expiryGone, flags: 0n }
    this.#write({ ...dead, sizeBytes: 0, checksum: 0, number: undefined })
    this.#ledger.append(this.#state, { key: this.#key, operation: operation.delete, ...dead, value: undefined })
  }

  #write(row: DirectoryRow): void {
    this.#state.row = row
    this.#state.change = 'written'
  }

  #isLive({ version, expiry }: DirectoryRow): boolean {
    if (generationOf(version) !== this.namespace.generation) return false
    return expiry === expiryNever || !isExpired(expiry, this.#ledger.nowSeconds)
  }
}

function rowOf(value: Buffer, { version, expiry, flags }: Attributes): DirectoryRow {
  return { version, expiry, flags, sizeBytes: value.length, checksum: crc32(value), number: counterOf(value) }
}
