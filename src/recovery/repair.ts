import type { ContentsAccess, HeldContents, RepairEntry } from '../domain/contents-access.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import { type ItemKey, keyToBytes } from '../domain/key.ts'
import type { FoundValue } from '../domain/log-values.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'
import { failpoint } from '../runtime/failpoints.ts'
import type { DirectoryRow, DirectoryView, Subject } from './directory-view.ts'
import type { ItemReads } from './item-reads.ts'
import { valueFits } from './found-value.ts'
import { judge, livenessOf } from './verdict.ts'

export interface RepairPorts {
  readonly contents: HeldContents
  readonly directory: Pick<DirectoryView, 'lookUp' | 'position'>
  readonly items: Pick<ItemReads, 'read'>
  readonly log: FollowedLog
  readonly peers: PeerReads
  readonly signal: AbortSignal
  /** How long the node may take to apply what the database has. */
  readonly lagMilliseconds: number
}

/**
 * - `repaired`: stored as the directory has it. - `removed`: an item without a live row. - `superseded`: the log has spoken of the
 *   key meanwhile, or is about to; or it agrees by now. - `away`: no peer has the value, or one did not answer.
 */
export type Repaired = 'repaired' | 'removed' | 'superseded' | 'away'

/** What a key's row looked like when no peer had its value: the log may. */
export interface Wanted {
  readonly subject: Subject
  readonly row: DirectoryRow
}

export interface RepairResult {
  readonly subject: Subject
  readonly outcome: Repaired
  /** With `away`. */
  readonly wanted?: Wanted
}

/**
 * Puts right what a verification found different, while traffic runs.
 *
 * The race (races.md R30): the repair reads v5 from a peer, a delete is applied, the repair writes v5. So the applier writes it, between
 * two batches, and only if the log has not spoken of the key since the repair began to watch it. Is that enough? The order is:
 *
 * 1. the watch begins;
 * 2. the row is read as committed: v5. Then with the changes of open transactions: still v5, of the same expiry;
 * 3. the position is read, which covers v5's write, and the log is applied up to there;
 * 4. the value of v5 is got, and judged by the row's size and checksum: whoever gave it, it is that one;
 * 5. in the applier's turn: unchanged since 1, and the namespace's generation is v5's: written.
 *
 * An entry of the key that is later than v5 is applied
 * - between 1 and 5: the watch has it;
 * - behind 5: it comes over the repair, as it should;
 * - before 1: then its row had been changed before 2, for a node sees the log a moment before the engine shows the row. Committed, it would be
 *   what 2 reads; open, it would be what 2 reads second. It is neither, so there is none.
 * And an entry before v5 can't come after 5: v5 is applied at 3.
 *
 * A death anywhere leaves what was there before, or what the directory says.
 */
export async function repair(
  subjects: readonly Subject[],
  ports: RepairPorts,
  values?: ReadonlyMap<ItemKey, FoundValue>,
): Promise<RepairResult[]> {
  const { access } = ports.contents
  if (access === undefined || subjects.length === 0) return []
  const watch = access.watch(subjects)
  try {
    const { settled, rest } = await look(subjects, ports)
    const plans = await Promise.all(settled.map((one) => plan(one, ports, values)))
    failpoint('mid-repair')
    return [
      ...rest.map((subject) => ({ subject, outcome: 'superseded' as const })),
      ...(await write(access, watch, plans)),
    ]
  } finally {
    watch.close()
  }
}

interface Settled {
  readonly subject: Subject
  /** Undefined: nothing lives under this key, and the item must go. */
  readonly row: DirectoryRow | undefined
}

interface Plan {
  readonly subject: Subject
  readonly entries: readonly RepairEntry[]
  readonly wanted?: Wanted
}

/** Steps 2 and 3: which of them still differ, and what the directory says for sure. */
async function look(
  subjects: readonly Subject[],
  { directory, items, log, lagMilliseconds }: RepairPorts,
): Promise<{ settled: Settled[]; rest: Subject[] }> {
  const committed = await directory.lookUp(subjects)
  const dirty = await directory.lookUp(subjects, 'dirty')
  await log.whenReached(await directory.position(), lagMilliseconds)
  const seen = await items.read(
    subjects,
    subjects.map(({ itemKey }) => committed.rows.get(itemKey)?.size ?? 4096),
  )
  const settled: Settled[] = []
  const rest: Subject[] = []
  for (const [index, subject] of subjects.entries()) {
    const { itemKey, namespaceId } = subject
    const row = committed.rows.get(itemKey)
    const state = { row, generation: committed.generations.get(namespaceId) }
    const open = dirty.generations.get(namespaceId) !== state.generation || !sameRow(row, dirty.rows.get(itemKey))
    const verdict = judge(state, seen[index])
    if (open || verdict === 'agrees') rest.push(subject)
    else settled.push({ subject, row: livenessOf(state) === 'live' ? row : undefined })
  }
  return { settled, rest }
}

/** A touch changes the expiry alone. */
function sameRow(a: DirectoryRow | undefined, b: DirectoryRow | undefined): boolean {
  return a?.version === b?.version && a?.expiry === b?.expiry
}

async function plan(
  { subject, row }: Settled,
  { peers }: RepairPorts,
  values: ReadonlyMap<ItemKey, FoundValue> | undefined,
): Promise<Plan> {
  const { namespaceId, namespaceName, itemKey } = subject
  if (row === undefined) return { subject, entries: [{ kind: 'remove-item', namespaceId, itemKey }] }
  const wanted = { subject, row }
  const version = versionFromNumber(BigInt(row.version))
  let found = values?.get(itemKey)
  if (found === undefined && values === undefined) {
    const namespace = { id: namespaceId, name: namespaceName, generation: row.generation }
    const answer = await peers.find(namespace, row.key, version)
    if (answer.kind === 'held') {
      const { flags, value } = answer.item
      found = { version: row.version, flags, value, stale: answer.stale === true }
    }
  }
  if (found === undefined || found.version !== row.version || !valueFits(found, row))
    return { subject, entries: [], wanted }
  return { subject, entries: entriesOf(namespaceId, row, { version, found }) }
}

function entriesOf(
  namespaceId: NamespaceId,
  row: DirectoryRow,
  { version, found }: { version: Version; found: FoundValue },
): RepairEntry[] {
  const { key, generation, expiry, flags } = row
  const versionHigh = Number(version >> 32n)
  const versionLow = Number(BigInt.asUintN(32, version))
  const common = { namespaceId, key, generation, versionHigh, versionLow, expiry }
  // The value may be a part of a larger buffer; the applier copies it once more.
  const stored: RepairEntry = { ...common, kind: 'set', flags, value: found.value }
  return found.stale ? [stored, { ...common, kind: 'stale' }] : [stored]
}

/** Step 5. */
async function write(
  access: ContentsAccess,
  watch: ReturnType<ContentsAccess['watch']>,
  plans: readonly Plan[],
): Promise<RepairResult[]> {
  const entries = plans.flatMap((one) => one.entries)
  const applied = entries.length === 0 ? [] : await access.repair(watch, entries)
  let next = 0
  return plans.map(({ subject, entries: own, wanted }): RepairResult => {
    if (wanted !== undefined) return { subject, outcome: 'away', wanted }
    const all = applied.slice(next, next + own.length).every(Boolean)
    next += own.length
    if (!all) return { subject, outcome: 'superseded' }
    return { subject, outcome: own[0]?.kind === 'remove-item' ? 'removed' : 'repaired' }
  })
}

/** About what a repair of it brings through this process. */
export function repairBytes({ subject, row }: Wanted): number {
  return keyToBytes(subject.itemKey).length + row.size
}
