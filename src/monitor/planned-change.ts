import type { PlannedChange } from '../domain/change-guard.ts'
import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { MachineState, OperatorRequest } from './machine-state.ts'
import type { Operation } from './operations.ts'

/**
 * What a guard is asked about before an operation begins: a takeover begins with its drain. Undefined: nothing that makes another
 * database the primary, or a person's request, for which it was asked before it was taken (`requestedChange`): a switchover must not
 * keep writes waiting for a hook.
 */
export function plannedChange(
  operation: Operation,
  record: ClusterRecord | null,
  { request }: MachineState,
): PlannedChange | undefined {
  if (operation.kind !== 'drain' || record === null || operation.database === record.primary) return undefined
  if (request?.kind === 'forced-takeover' && request.to === operation.database) return undefined
  return { kind: 'takeover', epoch: record.epoch + 1, to: operation.database, from: record.primary }
}

export function requestedChange(
  kind: OperatorRequest['kind'],
  to: string,
  record: ClusterRecord | null,
): PlannedChange | undefined {
  if (record === null || record.primary === to) return undefined
  return {
    kind: kind === 'switchover' ? 'switchover' : 'forced',
    epoch: record.epoch + 1,
    to,
    from: record.primary,
  }
}
