import type { Connection } from 'mysql2/promise'
import { type DumpedItem, dumpItems } from '../adapters/memcached-dump.ts'
import type { MemcachedConnection } from '../adapters/memcached-connection.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import { composeItemKey, type Key } from '../domain/key.ts'
import { isLease, isLive } from '../domain/local-reads.ts'
import type { Namespace } from '../domain/namespace.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import { formatPosition } from '../domain/position.ts'
import { type DirectoryRow, DirectoryView, type Subject } from './directory-view.ts'
import { HashedKeys } from './hashed-keys.ts'
import { ItemReads, stateItemKey } from './item-reads.ts'
import { recheck, type Rechecked, type RecheckSources } from './recheck.ts'
import { Tally } from './tally.ts'
import { judge, livenessOf } from './verdict.ts'
import type { NodeVerification } from './verification.ts'

export interface VerifyOptions {
  /** The node's name. */
  readonly name: string
  /**
   * One connection (not a pool) to the database that this node follows, its default database ours, autocommit on; nobody else uses it meanwhile.
   * SELECT on mc_namespaces and mc_stored_keys is enough.
   */
  readonly directory: Pick<Connection, 'query'>
  /** Of its own, not the one that serves clients: their reads would queue behind these. */
  readonly memcached: MemcachedConnection
  /** The same memcached's: the dump takes a connection for itself. */
  readonly memcachedAddress: { readonly host: string; readonly port: number }
  readonly namespaces: Namespaces
  readonly log: FollowedLog
  readonly signal: AbortSignal
  /** Called after each piece of work. */
  readonly progress?: (progress: VerifyProgress) => void
  readonly limits?: Partial<VerifyLimits>
  /** Waited for after each piece of work, with the number of rows or items that it looked at. */
  readonly pace?: (count: number) => Promise<void>
  /** Waited for with each key that is told as a difference. */
  readonly found?: (difference: Rechecked) => Promise<void>
}

export interface VerifyProgress {
  readonly phase: 'directory' | 'items'
  /** Rows of the directory, or items of the memcached, looked at so far. */
  readonly seen: number
}

export interface VerifyLimits {
  /** Rows, or items, in one piece of work. */
  readonly chunkRows: number
  /** How long the node may take to apply what the database has; beyond it the verification fails with `database-away`. */
  readonly lagMilliseconds: number
  /** Looks at a key that is written all the time. */
  readonly rounds: number
  /**
   * Keys with a hashed item key that are remembered, about 100 bytes each, so that their items need no look into the directory. Beyond it
   * each 500 such items cost a walk of their namespace's rows by the database: slower, and as right.
   */
  readonly hashedKeys: number
  /** Where the listing of memcached's items is kept meanwhile, about 110 bytes an item. Default: the system's temporary folder. */
  readonly folder: string | undefined
}

const defaultLimits: VerifyLimits = {
  chunkRows: 500,
  lagMilliseconds: 30_000,
  rounds: 12,
  hashedKeys: 250_000,
  folder: undefined,
}

/**
 * Compares this node's memcached with the directory, both ways, while traffic runs: every live row must have its item, with the
 * size, checksum and flags that the row says; every item that the node would serve must have a live row. What differs at first
 * sight is mostly traffic: recheck.ts tells it from a difference. Memory does not grow with the number of keys.
 *
 * @throws WhiteholeError `database-away` where the node does not catch up, `memcached-away`; the signal's reason
 */
export async function verifyNode(options: VerifyOptions): Promise<NodeVerification> {
  const limits = { ...defaultLimits, ...options.limits }
  const directory = await DirectoryView.open(options.directory)
  const verification: Verifying = {
    directory,
    items: new ItemReads(options.memcached, options.namespaces),
    log: options.log,
    signal: options.signal,
    lagMilliseconds: limits.lagMilliseconds,
    roundsMax: limits.rounds,
    options,
    limits,
    hashed: new HashedKeys(limits.hashedKeys),
    tally: new Tally(),
    seen: 0,
  }
  const position = await directory.position()
  await options.log.whenReached(position, limits.lagMilliseconds)
  for (const namespace of await directory.namespaces()) await walkDirectory(verification, namespace)
  verification.seen = 0
  await walkItems(verification)
  // Last: what is evicted meanwhile is absent, too.
  const evictions = await verification.items.evictions()
  return {
    name: options.name,
    dialect: directory.dialect,
    position: formatPosition(position),
    evictions,
    foreign: verification.tally.foreign,
    namespaces: verification.tally.results(evictions),
  }
}

interface Verifying extends RecheckSources {
  readonly options: VerifyOptions
  readonly limits: VerifyLimits
  readonly hashed: HashedKeys
  readonly tally: Tally
  seen: number
}

type NamespaceName = Pick<Namespace, 'id' | 'name'>

async function walkDirectory(verifying: Verifying, namespace: NamespaceName): Promise<void> {
  const { directory, limits, tally } = verifying
  tally.open(namespace.name)
  let after: Key | undefined
  for (;;) {
    verifying.signal.throwIfAborted()
    const { rows, generation } = await directory.chunk(namespace.id, after, limits.chunkRows)
    // Rows that expire at this moment are left alone: they agree with anything.
    const live = rows.filter((row) => livenessOf({ row, generation }) === 'live')
    if (live.length > 0) await compareRows(verifying, namespace, { live, generation })
    verifying.seen += rows.length
    verifying.options.progress?.({ phase: 'directory', seen: verifying.seen })
    await verifying.options.pace?.(rows.length)
    if (rows.length < limits.chunkRows) return
    after = rows.at(-1)?.key
  }
}

async function compareRows(
  verifying: Verifying,
  namespace: NamespaceName,
  { live, generation }: { live: readonly DirectoryRow[]; generation: number | undefined },
): Promise<void> {
  const { items, tally, hashed } = verifying
  const subjects = live.map(({ key }): Subject => {
    const itemKey = composeItemKey(namespace.name, key)
    hashed.add(namespace.id, namespace.name, itemKey)
    return { namespaceId: namespace.id, namespaceName: namespace.name, itemKey, by: { key } }
  })
  const seen = await items.read(
    subjects,
    live.map(({ size }) => size),
  )
  const doubtful = subjects.filter((_, index) => judge({ row: live[index], generation }, seen[index]) !== 'agrees')
  tally.present(namespace.name, subjects.length - doubtful.length)
  for (const one of await recheck(doubtful, verifying)) {
    countRow(tally, one)
    if (one.verdict !== 'agrees') await verifying.options.found?.(one)
  }
}

function countRow(tally: Tally, { subject, verdict, state, item }: Rechecked): void {
  const name = subject.namespaceName
  if (verdict !== 'agrees') tally.difference(name, verdict, subject)
  // Deleted, flushed or expired since: no key any more.
  else if (item !== undefined && livenessOf(state) === 'live') tally.present(name, 1)
}

async function walkItems(verifying: Verifying): Promise<void> {
  const { options, limits, signal } = verifying
  const folder = limits.folder === undefined ? {} : { folder: limits.folder }
  let waiting: Subject[] = []
  for await (const items of dumpItems(options.memcachedAddress, { signal, ...folder })) {
    for (const item of items) {
      const subject = subjectOf(verifying, item)
      if (subject !== undefined) waiting.push(subject)
    }
    while (waiting.length >= limits.chunkRows) {
      await compareItems(verifying, waiting.slice(0, limits.chunkRows))
      waiting = waiting.slice(limits.chunkRows)
    }
    verifying.seen += items.length
    options.progress?.({ phase: 'items', seen: verifying.seen })
    await options.pace?.(items.length)
  }
  await compareItems(verifying, waiting)
}

/** Undefined where the item needs no look: nobody is served it, or its row was met on the way through the directory. */
function subjectOf({ options, hashed, tally }: Verifying, item: DumpedItem): Subject | undefined {
  const itemKey = item.key
  const colon = itemKey.indexOf(':')
  const namespace = colon < 0 ? undefined : options.namespaces.byName(itemKey.slice(0, colon))
  const key = itemKey.slice(colon + 1) as Key
  if (namespace === undefined) {
    if (itemKey !== stateItemKey) tally.countForeign()
    return undefined
  }
  if (!isLive(item, namespace) || isLease(item, namespace)) return undefined
  const of = { namespaceId: namespace.id, namespaceName: namespace.name, itemKey }
  if (!key.startsWith('~')) return key === '' ? undefined : { ...of, by: { key } }
  const digest = /^~([0-9a-f]{64})$/.exec(key)?.[1]
  if (digest === undefined) {
    // No key of a client is composed so: nobody can ask for it.
    tally.countForeign()
    return undefined
  }
  return hashed.has(namespace.id, namespace.name, itemKey) ? undefined : { ...of, by: { digest } }
}

async function compareItems(verifying: Verifying, subjects: readonly Subject[]): Promise<void> {
  verifying.signal.throwIfAborted()
  if (subjects.length === 0) return
  const { rows, generations } = await verifying.directory.lookUp(subjects)
  const doubtful = subjects.filter(({ itemKey, namespaceId }) => {
    const liveness = livenessOf({ row: rows.get(itemKey), generation: generations.get(namespaceId) })
    return liveness === 'dead'
  })
  for (const one of await recheck(doubtful, verifying)) {
    // Rows that are live by now were not there, or were compared, when the directory was walked.
    if (one.verdict !== 'orphan') continue
    verifying.tally.difference(one.subject.namespaceName, one.verdict, one.subject)
    await verifying.options.found?.(one)
  }
}
