import { WhiteholeError } from '../domain/errors.ts'
import { decide, isBlind } from './decide.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { BatchKey, Decidable, Decision, Result } from './decision.ts'
import { groupKeys, type LaneSession, type Locked, type LockedNamespace } from './lane-session.ts'
import type { Contended, NamespaceMutation, Pending } from './pending.ts'
import { type BlindLimit, compareKeys, type FlushChange, type LanePlace } from './statements.ts'

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
  /** The second round trip, with the COMMIT. */
  commit(): Promise<void>
}

interface Given {
  readonly items: readonly Pending[]
  readonly random: () => number
  /** Keys that a plain set overwrites in any case need not be read. */
  readonly mayBeBlind: boolean
}

/** The first round trip: opens the transaction, locks, reads, and decides. */
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
  const wanted = { namespaces: [...namespaces], keys: groupKeys(read.sort(compareKeys)) }
  const locked = await session.lockKeys(place, wanted)
  const readAt = performance.now()
  const { items, contended } = separate(given.items, locked)
  const decidables = items.map(
    ({ mutation, key, order }) => ({ mutation, key: distinct.get(key?.id ?? ''), session: order }) as Decidable,
  )
  const decision: Decision = decide(decidables, { ...locked, unread }, given.random)
  const blind = unread.size === 0 ? undefined : limitOf(items, locked.nowSeconds, readAt)
  const inserted = new Set(decision.inserts.map(({ key }) => key.id))
  return {
    items,
    results: decision.results,
    contended,
    absent: items.filter(({ key }) => key !== undefined && inserted.has(key.id)),
    blind: blind !== undefined,
    commit: async () => session.write(decision, blind),
  }
}

/** The first deadline of all, by the primary's clock, which was read before `readAtMilliseconds`: so rather too early than too late. */
function limitOf(items: readonly Pending[], nowSeconds: number, readAtMilliseconds: number): BlindLimit {
  const first = Math.min(...items.map(({ deadline }) => deadline))
  return { notAfterSeconds: nowSeconds + (first - readAtMilliseconds) / 1000 }
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
