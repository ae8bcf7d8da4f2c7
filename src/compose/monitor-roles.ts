import type { RolesKnowledge, SeenRole } from '../domain/database-roles.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import type { Seen } from '../monitor/machine-state.ts'
import type { KnownRecord } from '../monitor/record-reader.ts'

/** What a monitor answers balancers from: what a majority said last, and what it saw itself. */
export function managedRoles(given: {
  readonly databases: readonly string[]
  readonly known: KnownRecord | null
  readonly seen: Readonly<Record<string, Seen | undefined>>
  /** Of the same clock as those two. */
  readonly now: number
}): RolesKnowledge {
  const { databases, known, seen, now } = given
  return {
    databases,
    by: 'record',
    record: known?.record ?? null,
    recordAgeMilliseconds: known === null ? Number.POSITIVE_INFINITY : now - known.asOf,
    seen: seenRoles(seen, now),
  }
}

export function seenRoles(seen: Readonly<Record<string, Seen | undefined>>, now: number): Record<string, SeenRole> {
  return Object.fromEntries(
    Object.entries(seen).flatMap(([name, one]) =>
      one === undefined || !one.sight.answers ? [] : [[name, seenRole(one.sight.facts, now - one.at)]],
    ),
  )
}

function seenRole({ readOnly, replication }: DatabaseFacts, ageMilliseconds: number): SeenRole {
  const follows = replication?.receiver === 'connected' && replication.applier === 'running'
  return { readOnly, follows, ageMilliseconds }
}
