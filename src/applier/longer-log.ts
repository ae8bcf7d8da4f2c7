import type { DatabaseProbe, Databases } from '../adapters/databases.ts'
import { describeError } from '../domain/errors.ts'
import { covers, formatPosition, type Position, samePosition } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Apply } from './apply.ts'
import { followLog } from './log-stream.ts'
import { oldestPosition } from './oldest-position.ts'

/** A part of the log that the followed database has let go, and another one still has. */
export interface LongerLog {
  readonly probe: DatabaseProbe
  readonly from: Position
  /** The followed database has everything up to here, so reading it elsewhere shows nothing that might be lost (races.md R11). */
  readonly to: Position
}

/**
 * A standby that was built from a copy has a shorter log than its primary. Undefined where no database's log begins earlier than `to`, the
 * begin of the followed one's.
 */
export async function findLongerLog(
  databases: Databases,
  to: Position,
  logger: Logger,
): Promise<LongerLog | undefined> {
  // Domains are not ordered among each other: in another database's log the part before `to` has no end.
  if (to.dialect === 'mariadb' && to.domains.size !== 1) return undefined
  let longest: LongerLog | undefined
  for (const probe of await databases.probeTrue()) {
    if (probe.dialect !== to.dialect || !covers(probe.position, to)) continue
    try {
      const from = await oldestPosition(databases, probe)
      const isEarlier = covers(longest?.from ?? to, from) && !samePosition(longest?.from ?? to, from)
      if (isEarlier) longest = { probe, from, to }
    } catch (error) {
      logger.debug({ reason: describeError(error) }, 'a database does not tell where its log begins')
    }
  }
  return longest
}

/** @throws Error where that database is lost on the way: the rebuild begins anew, with what is there then */
export async function replayLongerLog(
  { probe, from, to }: LongerLog,
  given: { databases: Databases; apply: Apply; serverId: number; logger: Logger; signal: AbortSignal },
): Promise<void> {
  const { databases, apply, serverId, logger, signal } = given
  logger.info({ from: formatPosition(from), to: formatPosition(to) }, 'replaying what only another database still has')
  const over = new AbortController()
  const stop = (): void => over.abort()
  signal.addEventListener('abort', stop, { once: true })
  let lost: Error | undefined
  const stream = followLog({
    databases: databases.only(probe.address),
    serverId,
    start: apply.contains,
    signal: over.signal,
    logger,
    foreignStatements: 'skip',
    onDisconnected: (error) => {
      lost = error
      over.abort()
    },
  })
  try {
    for await (const chunks of stream) {
      const wanted = chunks.filter((chunk) => covers(to, chunk.after))
      const beyond = chunks.find((chunk) => !covers(to, chunk.after))
      // Where `to` is a transaction that holds nothing of ours, it comes together with one behind it.
      if (beyond !== undefined) wanted.push({ ...beyond, after: to, entries: [], bytes: 0, first: true, last: true })
      if (wanted.length > 0) await apply.apply(wanted)
      if (covers(apply.contains, to)) return
    }
  } finally {
    signal.removeEventListener('abort', stop)
  }
  signal.throwIfAborted()
  throw lost ?? new Error('the longer log ended too early')
}
