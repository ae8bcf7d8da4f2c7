import type { Databases } from '../adapters/databases.ts'
import type { WritableCatalogue } from '../domain/catalogue.ts'
import type { RefillProgress, Refills } from '../domain/donation.ts'
import { formatPosition, type Position } from '../domain/position.ts'
import { failpoint } from '../runtime/failpoints.ts'
import type { Logger } from '../runtime/logger.ts'
import type { ApplyCounters } from './apply.ts'
import { readNamespaces } from './catalogue-snapshot.ts'
import type { DatabaseClock } from './database-clock.ts'
import { findLongerLog, type LongerLog } from './longer-log.ts'
import { MemcachedRefill } from './memcached-refill.ts'
import type { MemcachedSession } from './memcached-session.ts'
import { formatMarks, formatNamespaces } from './state-item.ts'

export interface RebuildOptions {
  readonly session: MemcachedSession
  readonly catalogue: WritableCatalogue
  readonly databases: Databases
  readonly clock: DatabaseClock
  readonly counters: ApplyCounters
  readonly refills: Refills
  readonly logger: Logger
  /** The contents belong to it at least. */
  readonly epoch: number
}

/** What memcached contains now, and where its filling goes on. */
export interface Rebuilt {
  readonly contains: Position
  readonly mayContain: Position
  readonly epoch: number
  /** Undefined: everything has to come from the log. */
  readonly peer: string | undefined
  readonly keys: number
  /** Comes before the followed database's own log. */
  readonly longerLog: LongerLog | undefined
  /** The log that is replayed does not reach back to its beginning. */
  readonly truncated: boolean
}

/**
 * Begins memcached anew: with a peer's items, or empty, to be filled from the oldest entry of the log that is retained. Either way
 * the log goes on from `contains`, and nobody reads before `mayContain`.
 */
export async function rebuild(options: RebuildOptions, signal: AbortSignal): Promise<Rebuilt> {
  return (await rebuildFromPeer(options, signal)) ?? (await beginFromLog(options, signal))
}

/** Undefined: no peer can give now. */
export async function rebuildFromPeer(options: RebuildOptions, signal: AbortSignal): Promise<Rebuilt | undefined> {
  const { session, catalogue, clock, counters, refills, databases, logger } = options
  const sink = new MemcachedRefill({
    session,
    catalogue,
    counters,
    clock: {
      databaseNowSeconds: () => clock.nowSeconds(),
      memcachedNowSeconds: () => session.nowSeconds(),
    },
    sampleClock: (seconds, sampledAt) => clock.sample(seconds, sampledAt),
    isLost: async (position) => (await databases.lost([position]).catch(() => undefined)) === true,
  })
  const taken = await refills.run(sink, signal)
  if (taken === undefined) return undefined
  const { head, position, peer, keys } = taken
  const marks = { contains: head.position, mayContain: position, epoch: Math.max(head.epoch, options.epoch) }
  await writeState(options, marks)
  failpoint('after-snapshot-before-log')
  logger.info({ peer, keys, from: formatPosition(head.position), to: formatPosition(position) }, 'took a peer’s items')
  return { ...marks, peer, keys, longerLog: undefined, truncated: false }
}

async function beginFromLog(options: RebuildOptions, signal: AbortSignal): Promise<Rebuilt> {
  const { session, catalogue, clock, databases, logger } = options
  logger.info({}, 'no peer gives its items: rebuilding from the log')
  const snapshot = await readNamespaces(databases, logger, signal)
  clock.sample(snapshot.clockSeconds)
  const base = await session.empty()
  catalogue.reset(base, snapshot.namespaces)
  const longerLog = await findLongerLog(databases, snapshot.oldest, logger)
  const contains = longerLog?.from ?? snapshot.oldest
  const marks = { contains, mayContain: snapshot.position, epoch: options.epoch }
  await writeState(options, marks)
  const truncated = formatPosition(contains) !== ''
  if (truncated) {
    logger.warn(
      { from: formatPosition(contains) },
      'the log does not reach back to its beginning: older keys are lost, unless a peer still has them',
    )
  }
  return { ...marks, peer: undefined, keys: 0, longerLog, truncated }
}

async function writeState(
  { session, catalogue }: RebuildOptions,
  marks: Pick<Rebuilt, 'contains' | 'mayContain' | 'epoch'>,
): Promise<void> {
  const { baseWatermark, staleItems } = catalogue
  const namespaces = formatNamespaces({ baseWatermark, staleItems, namespaces: catalogue.all() })
  await session.writeState(formatMarks(marks) + namespaces)
}

/** For status, log and metrics. */
export interface RebuildProgress {
  readonly from: 'peer' | 'log'
  readonly peer: string | null
  /** Items taken from the peer, or entries of the log applied. */
  readonly keys: number
  /** Null where nobody can tell. */
  readonly keysExpected: number | null
  readonly percent: number | null
  readonly keysPerSecond: number
  readonly remainingSeconds: number | null
}

export function describeRefill({ peer, keys, keysExpected, seconds }: RefillProgress): RebuildProgress {
  const keysPerSecond = seconds > 0 ? keys / seconds : 0
  return {
    from: 'peer',
    peer,
    keys,
    keysExpected,
    percent: keysExpected === 0 ? 100 : Math.round((keys / keysExpected) * 1000) / 10,
    keysPerSecond: Math.round(keysPerSecond),
    remainingSeconds: keysPerSecond === 0 ? null : Math.round(((keysExpected - keys) / keysPerSecond) * 10) / 10,
  }
}
