import { randomUUID } from 'node:crypto'
import { type Announcement, type ClusterFacts, noFacts } from '../domain/announcement.ts'
import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { Description } from './describe-event.ts'

export interface AnnounceContext {
  readonly cluster: string
  readonly monitor: string
  /** `host:port` of each database, as clients reach it. */
  readonly addresses: Readonly<Record<string, string>>
}

/**
 * A description with its identity and the facts of the record: its own, else what is recorded at that moment.
 * @param atMilliseconds Unix time
 */
export function announce(
  { record: own, roles, ...description }: Description,
  context: AnnounceContext,
  given: { readonly record: ClusterRecord | null; readonly atMilliseconds: number },
): Announcement {
  const { cluster, monitor, addresses } = context
  return {
    id: randomUUID(),
    at: new Date(given.atMilliseconds).toISOString(),
    cluster,
    monitor,
    ...description,
    facts: roles === undefined ? factsOf(own ?? given.record, addresses) : factsOfRoles(roles, addresses),
  }
}

export function factsOf(record: ClusterRecord | null, addresses: Readonly<Record<string, string>>): ClusterFacts {
  if (record === null) return noFacts
  const { epoch, mode, primary, standby, former, cause } = record
  const address = (name: string | undefined): string | null => (name === undefined ? null : (addresses[name] ?? null))
  return {
    epoch,
    mode,
    primary,
    primaryAddress: address(primary),
    standby,
    standbyAddress: address(standby),
    former: former?.name ?? null,
    formerAddress: address(former?.name),
    cause,
  }
}

function factsOfRoles(
  { primary, former }: NonNullable<Description['roles']>,
  addresses: Readonly<Record<string, string>>,
): ClusterFacts {
  const address = (name: string | null): string | null => (name === null ? null : (addresses[name] ?? null))
  return {
    ...noFacts,
    primary,
    primaryAddress: address(primary),
    former,
    formerAddress: address(former),
  }
}
