import { setTimeout as delay } from 'node:timers/promises'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { DirectorySnapshot, DirectoryView, Subject } from './directory-view.ts'
import type { ItemReads } from './item-reads.ts'
import { type DirectoryState, type SeenItem, settle, type Verdict } from './verdict.ts'

export interface RecheckSources {
  readonly directory: DirectoryView
  readonly items: ItemReads
  readonly log: FollowedLog
  readonly signal: AbortSignal
  /** How long the node may take to apply what the database has. */
  readonly lagMilliseconds: number
  readonly roundsMax: number
}

export interface Rechecked {
  readonly subject: Subject
  /** `unsettled`: written again and again while it was looked at, so that nothing stable can be said. */
  readonly verdict: Verdict | 'unsettled'
  readonly state: DirectoryState
  readonly item: SeenItem
}

/** The longest pause between two rounds; the first ones follow sooner. */
const pauseMaxMilliseconds = 250

/**
 * Looks at differences again until each is proved to be one, or proved not to be (verdict.ts tells why this order of the reads
 * proves it): the row as committed, then the position, which therefore covers the row's write; the log applied up to there; the item;
 * the row with the changes of open transactions; the row as committed.
 */
export async function recheck(subjects: readonly Subject[], sources: RecheckSources): Promise<Rechecked[]> {
  const settled: Rechecked[] = []
  let open: readonly Subject[] = subjects
  for (let round = 1; open.length > 0; round++) {
    sources.signal.throwIfAborted()
    const rest: Rechecked[] = []
    for (const one of await lookAgain(open, sources)) (one.verdict === 'unsettled' ? rest : settled).push(one)
    if (round === sources.roundsMax) return [...settled, ...rest]
    open = rest.map(({ subject }) => subject)
    if (open.length > 0)
      await delay(Math.min(5 * 2 ** round, pauseMaxMilliseconds), undefined, { signal: sources.signal })
  }
  return settled
}

async function lookAgain(subjects: readonly Subject[], sources: RecheckSources): Promise<Rechecked[]> {
  const { directory, items, log, lagMilliseconds } = sources
  const committed = await directory.lookUp(subjects)
  await log.whenReached(await directory.position(), lagMilliseconds)
  const seen = await items.read(
    subjects,
    subjects.map(({ itemKey }) => committed.rows.get(itemKey)?.size ?? 4096),
  )
  const dirty = await directory.lookUp(subjects, 'dirty')
  const again = await directory.lookUp(subjects)
  return subjects.map((subject, index) => {
    const item = seen[index]
    const state = stateOf(again, subject)
    const states = { committed: stateOf(committed, subject), dirty: stateOf(dirty, subject), again: state }
    return { subject, verdict: settle(states, item) ?? 'unsettled', state, item }
  })
}

function stateOf(snapshot: DirectorySnapshot, subject: Subject): DirectoryState {
  return { row: snapshot.rows.get(subject.itemKey), generation: snapshot.generations.get(subject.namespaceId) }
}
