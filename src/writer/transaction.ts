import { WhiteholeError } from '../domain/errors.ts'
import type { Assumptions } from './assumptions.ts'
import { decide, isBlind } from './decide.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { BatchKey, Decidable, Decision, Result } from './decision.ts'
import { groupKeys, type LaneSession, type Locked, type LockedNamespace } from './lane-session.ts'
import type { Contended, NamespaceMutation, Pending } from './pending.ts'
import { compareKeys, type FlushChange, type LanePlace } from './statements.ts'

/** A transaction whose locks are held and whose outcome is decided, but of which no COMMIT is on its way yet. */
export interface Prepared {
  /** In order: what the COMMIT decides. */
  readonly items: readonly Pending[]
  readonly results: readonly Result[]
  /** Held by somebody else, or behind such a one in its session: they leave the batch. */
  readonly contended: readonly { item: Pending; by: Contended | undefined }[]
  /** Items whose keys are to be inserted. */
  readonly absent: readonly Pending[]
  /** Writes rows that it has neither locked nor read, and fails at once where one of them is locked by somebody. */
  readonly blind: boolean
  /** Nothing was asked yet: what it was decided upon may turn out to be wrong. */
  readonly assumes: boolean
  /** The second round trip, or the only one, with the COMMIT. */
  commit(): Promise<void>
}

interface Given {
  readonly items: readonly Pending[]
  readonly random: () => number
  /** Keys that a plain set overwrites in any case need not be read. */
  readonly mayBeBlind: boolean
  readonly assumptions: Assumptions
}

/** The first round trip: opens the transaction, locks, reads, and decides. None where nothing needs to be read. */
export async function prepare(session: LaneSession, place: LanePlace, given: Given): Promise<Prepared> {
  const [first] = given.items
  if (first !== undefined && first.key === undefined) return prepareFlush(session, place, first)
  return prepareKeys(session, place, given)
}

async function prepareKeys(session: LaneSession, place: LanePlace, given: Given): Promise<Prepared> {
  const distinct = new Map<string, BatchKey>()
  const namespaces = new Set<NamespaceId>()
  const unread = new Set<string>()
  const read: BatchKey[] = []
  for (const { key, mutation } of given.items) {
    if (key === undefined || distinct.has(key.id)) continue
    distinct.set(key.id, key)
    namespaces.add(key.namespaceId)
    if (given.mayBeBlind && isBlind(mutation)) unread.add(key.id)
    else read.push(key)
  }
  if (read.length === 0) {
    const assuming = assume(session, place, { ...given, distinct, namespaces, unread })
    if (assuming !== undefined) return assuming
  }
  const at = performance.now()
  const wanted = { namespaces: [...namespaces], keys: groupKeys(read.sort(compareKeys)) }
  const locked = await session.lockKeys(place, wanted)
  const asked = { at, answeredAt: performance.now() }
  given.assumptions.note(locked, asked)
  const { items, contended } = separate(given.items, locked)
  const decision: Decision = decide(decidable(items, distinct), { ...locked, unread }, given.random)
  const inserted = new Set(decision.inserts.map(({ key }) => key.id))
  return {
    items,
    results: decision.results,
    contended,
    absent: items.filter(({ key }) => key !== undefined && inserted.has(key.id)),
    blind: unread.size > 0,
    assumes: false,
    commit: async () => {
      if (unread.size === 0) return session.write(decision, undefined)
      const notAfterSeconds = locked.nowSeconds + (firstDeadline(items) - asked.answeredAt) / 1000
      return session.write(decision, { notAfterSeconds })
    },
  }
}

interface Unread extends Given {
  readonly distinct: ReadonlyMap<string, BatchKey>
  readonly namespaces: ReadonlySet<NamespaceId>
  readonly unread: ReadonlySet<string>
}

/** Decided upon what was read last of the namespaces and the clock. Undefined where there is no such thing, or nothing to write. */
function assume(session: LaneSession, place: LanePlace, given: Unread): Prepared | undefined {
  const facts = given.assumptions.factsOf(given.namespaces, given.unread)
  if (facts === undefined) return undefined
  const items = given.items.filter(({ answered }) => !answered)
  const decision = decide(decidable(items, given.distinct), facts, given.random)
  if (decision.updates.length === 0) return undefined
  return {
    items,
    results: decision.results,
    contended: [],
    absent: [],
    blind: true,
    assumes: true,
    commit: async () => {
      const at = performance.now()
      const nowSeconds = await session.writeAtOnce(place, facts.assumed(firstDeadline(items)), decision)
      given.assumptions.noteClock(nowSeconds, { at, answeredAt: performance.now() })
    },
  }
}

/** When the first of their clients is told something else than an outcome, by `performance.now()`. */
function firstDeadline(items: readonly Pending[]): number {
  return items.reduce((first, { deadline }) => Math.min(first, deadline), Infinity)
}

function decidable(items: readonly Pending[], distinct: ReadonlyMap<string, BatchKey>): Decidable[] {
  return items.map(
    ({ mutation, key, order }) => ({ mutation, key: distinct.get(key?.id ?? ''), session: order }) as Decidable,
  )
}

/** What was answered meanwhile (its deadline passed) leaves the batch as well: nothing of it is written. */
function separate(items: readonly Pending[], locked: Locked): Pick<Prepared, 'items' | 'contended'> {
  const { contendedKeys, contendedNamespaces } = locked
  const unanswered = items.filter(({ answered }) => !answered)
  if (contendedKeys.size === 0 && contendedNamespaces.size === 0) return { items: unanswered, contended: [] }
  const ours: Pending[] = []
  const contended: { item: Pending; by: Contended | undefined }[] = []
  const sessions = new Set<object>()
  for (const item of unanswered) {
    const by = heldBy(item, locked)
    if (by === undefined && !sessions.has(item.order)) {
      ours.push(item)
    } else {
      sessions.add(item.order)
      contended.push({ item, by })
    }
  }
  return { items: ours, contended }
}

function heldBy({ mutation, key }: Pending, { contendedKeys, contendedNamespaces }: Locked): Contended | undefined {
  if (contendedNamespaces.has(mutation.namespaceId)) return String(mutation.namespaceId)
  return key !== undefined && contendedKeys.has(key.id) ? key.id : undefined
}

async function prepareFlush(session: LaneSession, place: LanePlace, item: Pending): Promise<Prepared> {
  const mutation = item.mutation as NamespaceMutation
  const locked = await session.lockNamespace(place, mutation.namespaceId)
  const { change, result } = decideFlush(mutation, locked)
  return {
    items: item.answered ? [] : [item],
    results: [result],
    contended: [],
    absent: [],
    blind: false,
    assumes: false,
    commit: async () => session.flush(mutation.namespaceId, change),
  }
}

/** A flush at once makes a noted one void. A due one is executed by whichever node comes first; the others find it done. */
export function decideFlush(
  mutation: NamespaceMutation,
  { flushDue, nowSeconds }: LockedNamespace,
): { change: FlushChange; result: Result } {
  if (flushDue === undefined) {
    const text = `there is no namespace with the id ${mutation.namespaceId}`
    return { change: { kind: 'none' }, result: new WhiteholeError('unknown-namespace', text) }
  }
  if (mutation.kind === 'due-flush') {
    const due = flushDue === mutation.dueSeconds && flushDue <= nowSeconds
    return due
      ? { change: { kind: 'now' }, result: { kind: 'flushed' } }
      : { change: { kind: 'none' }, result: { kind: 'not-found' } }
  }
  if (mutation.delaySeconds <= 0) return { change: { kind: 'now' }, result: { kind: 'flushed' } }
  const dueSeconds = Math.floor(nowSeconds) + mutation.delaySeconds
  return { change: { kind: 'later', dueSeconds }, result: { kind: 'flushed' } }
}
