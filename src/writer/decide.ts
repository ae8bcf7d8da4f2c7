import { counterMax, counterText } from '../domain/counter.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type {
  ArithmeticMutation,
  DeleteMutation,
  InvalidateMutation,
  KeyMutation,
  Outcome,
  RowSeen,
  SetMutation,
  TouchMutation,
} from '../domain/mutation.ts'
import { Ledger, type Turn } from './batch-ledger.ts'
import type { WriterMutation } from './pending.ts'
import type { Decidable, Decision, DirectoryRow, Facts, Result } from './decision.ts'

/**
 * Decides a batch: each mutation in its turn sees what those before it in the batch left behind. Pure: the same facts and the
 * same numbers give the same decision.
 * @param random numbers in [0, 1) for the versions' low parts
 */
export function decide(batch: readonly Decidable[], facts: Facts, random: () => number): Decision {
  const ledger = new Ledger(facts, random)
  const results = batch.map((item): Result => {
    const turn = ledger.turn(item)
    if (turn !== undefined) return decideOne(turn, item.mutation)
    return new WhiteholeError('unknown-namespace', `there is no namespace with the id ${item.mutation.namespaceId}`)
  })
  return { ...ledger.writes(), results }
}

function decideOne(turn: Turn, mutation: KeyMutation): Result {
  switch (mutation.kind) {
    case 'set':
      return store(turn, mutation)
    case 'delete':
      return remove(turn, mutation)
    case 'touch':
      return touch(turn, mutation)
    case 'arithmetic':
      return calculate(turn, mutation)
    case 'invalidate':
      return invalidate(turn, mutation)
    default:
      throw new TypeError(`no mutation of a key: ${JSON.stringify(mutation satisfies never)}`)
  }
}

function store(turn: Turn, mutation: SetMutation): Result {
  const { live } = turn
  const { value } = mutation
  const { maxValueBytes } = turn.namespace
  if (maxValueBytes > 0 && value.length > maxValueBytes) {
    // As memcached does: whoever failed to replace a value must not go on reading the old one. Only a plain `set` says so much.
    if (isUnconditional(mutation)) turn.bury()
    const text = `the value has ${value.length} bytes, the namespace takes ${maxValueBytes}`
    return new WhiteholeError('value-too-large', text)
  }
  const refusal = changedSince(turn, mutation.seen) ?? refusalOf(mutation, live)
  if (refusal !== undefined) return refusal
  const version = turn.drawVersion()
  const stale = mutation.staleOnMismatch === true && isOther(live, mutation.compare)
  const kept = mutation.keepsAttributes === true ? live : undefined
  // What is stored as stale lives no longer than what it replaces would have.
  const expiry = (stale ? live : kept)?.expiry ?? turn.expiryOf(mutation.exptime)
  const row = turn.store(value, { version, expiry, flags: kept?.flags ?? mutation.flags })
  if (stale) turn.markStale(row)
  return { kind: 'stored', version }
}

function isUnconditional({ mode, compare, seen }: SetMutation): boolean {
  return compare === undefined && seen === undefined && (mode === undefined || mode === 'set')
}

/** What was there before makes no difference to what it leaves behind, nor to its answer. */
export function isBlind(mutation: WriterMutation): boolean {
  return (
    mutation.kind === 'set' &&
    isUnconditional(mutation) &&
    mutation.staleOnMismatch !== true &&
    mutation.keepsAttributes !== true
  )
}

/** A token makes `replace` a `cas`, and `add` doesn't look at it: as memcached has it. */
function refusalOf(mutation: SetMutation, live: DirectoryRow | undefined): Outcome | undefined {
  const { mode, compare } = mutation
  if (mode === 'add') return live === undefined ? undefined : { kind: 'not-stored', version: live.version }
  if (compare !== undefined)
    return mutation.staleOnMismatch === true && live !== undefined ? undefined : mismatch(live, compare)
  return mode === 'replace' && live === undefined ? { kind: 'not-stored' } : undefined
}

/** @returns undefined where the live row has the version that is asked for, or none is */
function mismatch(live: DirectoryRow | undefined, compare: bigint | undefined): Outcome | undefined {
  if (compare === undefined) return undefined
  if (live === undefined) return { kind: 'not-found' }
  return isOther(live, compare) ? { kind: 'exists', version: live.version } : undefined
}

/** @returns undefined where the row is the one that was seen, or none is asked for */
function changedSince(turn: Turn, seen: RowSeen | undefined): Outcome | undefined {
  if (seen === undefined) return undefined
  const { row, live, namespace } = turn
  if (namespace.generation === seen.generation && row?.version === seen.version) return undefined
  return live === undefined ? { kind: 'not-found' } : { kind: 'exists', version: live.version }
}

function isOther(live: DirectoryRow | undefined, compare: bigint | undefined): boolean {
  return live !== undefined && compare !== undefined && live.version !== compare
}

/** Without a token also where there is nothing (races.md R19). */
function remove(turn: Turn, { compare, seen }: DeleteMutation): Outcome {
  const refusal = changedSince(turn, seen) ?? mismatch(turn.live, compare)
  if (refusal !== undefined) return refusal
  // Whoever names a row that is not live deletes a lease over it.
  const outcome: Outcome = turn.live === undefined && seen === undefined ? { kind: 'not-found' } : { kind: 'deleted' }
  turn.bury()
  return outcome
}

function touch(turn: Turn, { compare, exptime }: TouchMutation): Outcome {
  const { live, row } = turn
  if (live === undefined) return { kind: 'not-found', ...(row === undefined ? {} : { rowVersion: row.version }) }
  const refusal = mismatch(live, compare)
  if (refusal !== undefined) return refusal
  turn.touch(live, turn.expiryOf(exptime))
  return { kind: 'touched', version: live.version }
}

/** In memcached's order: an empty value is no number before the token is looked at, other text only after. */
function calculate(turn: Turn, mutation: ArithmeticMutation): Outcome {
  const { live } = turn
  if (live === undefined) return create(turn, mutation)
  const notNumber: Outcome = { kind: 'not-a-number', version: live.version }
  if (live.sizeBytes === 0) return notNumber
  const refusal = mismatch(live, mutation.compare)
  if (refusal !== undefined) return refusal
  if (live.number === undefined) return notNumber
  const number = step(live.number, mutation)
  const value = Buffer.from(counterText(number, live.sizeBytes), 'latin1')
  const expiry = mutation.exptime === undefined ? live.expiry : turn.expiryOf(mutation.exptime)
  const version = turn.drawVersion()
  turn.storeNumber(value, { version, expiry, flags: live.flags })
  return { kind: 'stored', version, number }
}

function step(number: bigint, { direction, delta }: ArithmeticMutation): bigint {
  if (direction === 'incr') return (number + delta) & counterMax
  return delta > number ? 0n : number - delta
}

function create(turn: Turn, { create: given }: ArithmeticMutation): Outcome {
  if (given === undefined) return { kind: 'not-found' }
  const version = turn.drawVersion()
  const value = Buffer.from(String(given.initial), 'latin1')
  turn.storeNumber(value, { version, expiry: turn.expiryOf(given.exptime), flags: 0n })
  return { kind: 'stored', version, number: given.initial, created: true }
}

/** One version for both entries: a reader of the second would else see the item change without a cause. */
function invalidate(turn: Turn, mutation: InvalidateMutation): Outcome {
  const { live } = turn
  const refusal = mismatch(live, mutation.compare)
  if (refusal !== undefined) return refusal
  if (live === undefined) return { kind: 'not-found' }
  const version = turn.drawVersion()
  const expiry = mutation.exptime === undefined ? live.expiry : turn.expiryOf(mutation.exptime)
  const row = mutation.dropsValue
    ? turn.store(Buffer.alloc(0), { version, expiry, flags: 0n })
    : { ...live, version, expiry }
  if (mutation.stale) turn.markStale(row)
  return { kind: 'stored', version }
}
