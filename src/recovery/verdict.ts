import type { DirectoryRow } from './directory-view.ts'

/** What a node answers for a key: undefined is a miss, dead items and leases among them. */
export type SeenItem =
  | {
      readonly flags: string
      readonly size: number
      readonly checksum: number
      /** In decimal, where memcached keeps it as the item's CAS. */
      readonly version?: string
    }
  | undefined

/** What the directory says of a key. */
export interface DirectoryState {
  readonly row: DirectoryRow | undefined
  /** The namespace's; undefined where there is no such namespace. */
  readonly generation: number | undefined
}

export type Difference = 'absent' | 'diverged' | 'orphan'
export type Verdict = 'agrees' | Difference

/** The database's clock and memcached's differ by up to a second, and each counts in whole ones. */
export const expiryLeewaySeconds = 2

export type Liveness = 'live' | 'expiring' | 'dead'

/** `expiring`: within the leeway of its expiry; the item may be there or not. */
export function livenessOf({ row, generation }: DirectoryState): Liveness {
  if (row === undefined || row.generation !== generation) return 'dead'
  if (row.secondsLeft > expiryLeewaySeconds) return 'live'
  return row.secondsLeft >= -expiryLeewaySeconds ? 'expiring' : 'dead'
}

export function judge(state: DirectoryState, item: SeenItem): Verdict {
  const liveness = livenessOf(state)
  if (liveness === 'expiring') return 'agrees'
  if (liveness === 'dead' || state.row === undefined)
    return item === undefined || mayBeLease(item) ? 'agrees' : 'orphan'
  if (item === undefined) return 'absent'
  const { size, checksum, flags, version } = state.row
  if (mayBeLease(item) && size > 0) return 'absent'
  if (item.version !== undefined && item.version !== version) return 'diverged'
  return item.size === size && item.checksum === checksum && sameFlags(item.flags, flags) ? 'agrees' : 'diverged'
}

/** Where memcached counts CAS by itself, nothing that a plain read shows tells a lease (meta `N`) from an empty item. */
function mayBeLease({ size, flags, version }: NonNullable<SeenItem>): boolean {
  return size === 0 && flags === '0' && version === undefined
}

/** Most builds of memcached take 64 bits of flags and keep the low 32 (tried: 1.6.18, 1.6.45): that much is all a node can serve. */
export function sameFlags(kept: string, stored: string): boolean {
  return kept === stored || kept === BigInt.asUintN(32, BigInt(stored)).toString()
}

/** No write between: a touch leaves the version, and what is stored, as it is. */
export function sameWrite(a: DirectoryState, b: DirectoryState): boolean {
  return a.generation === b.generation && a.row?.version === b.row?.version
}

/**
 * Settles what a recheck read, in this order: the row as `committed`; the log applied beyond it; the item; the row `dirty`; and
 * the row committed `again`. Undefined: writes got in between, look again.
 *
 * The item was read after everything up to `committed` had been applied. So it may rightly show `committed`, or a later write. A later
 * write that this node had applied was in the log, so its row was changed, before the item was read:
 * - it is still open in the engine (the log comes first, visibility after; a semi-synchronous primary may stay in between for long): it holds
 *   its row, so it is the one write that `dirty` shows;
 * - or it is visible by now, and so `again` is not `committed`.
 * With `again` the same as `committed`, every right answer is therefore a mixture of the row and the generation of these
 * two states (a set and a flush may both be open). Any other answer is a difference, however long somebody's transaction stays open.
 *
 * It takes a purge for a row to come back to the same state: absent, written, deleted and purged in between. Purges leave
 * rows alone for longer than that.
 */
export function settle(
  states: { readonly committed: DirectoryState; readonly dirty: DirectoryState; readonly again: DirectoryState },
  item: SeenItem,
): Verdict | undefined {
  const { committed, dirty, again } = states
  if (!sameWrite(committed, again)) return undefined
  const verdict = judge(again, item)
  if (verdict === 'agrees') return verdict
  // A key may expire while it is looked at: then the item is judged by a time that is not its own.
  if (judge(committed, item) !== verdict) return undefined
  if (sameWrite(again, dirty)) return verdict
  for (const row of [again.row, dirty.row]) {
    for (const generation of [again.generation, dirty.generation]) {
      if (judge({ row, generation }, item) === 'agrees') return undefined
    }
  }
  return verdict
}
