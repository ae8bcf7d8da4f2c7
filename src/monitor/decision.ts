import { type ClusterRecord, parsePlace } from '../domain/cluster-record.ts'
import { type Operation, operationKey } from './operations.ts'
import type { View } from './view.ts'

/** What the acting monitor does next. */
export type Decision =
  | { readonly kind: 'wait' }
  | { readonly kind: 'propose'; readonly record: ClusterRecord }
  | { readonly kind: 'run'; readonly operation: Operation }
  /** No rule may decide this. */
  | { readonly kind: 'stuck'; readonly why: string; readonly cure: string }
  /** Voters must be heard anew before the next decision. */
  | { readonly kind: 'ask-voters' }
  | { readonly kind: 'refuse-request'; readonly why: string }
  | { readonly kind: 'fulfil-request'; readonly text: string }

export const wait: Decision = { kind: 'wait' }

/** The record of the next epoch. */
export function succession(
  { state, record }: View,
  next: Pick<ClusterRecord, 'primary' | 'mode' | 'cause'> & { promotion: string },
): ClusterRecord {
  const [first, second] = state.config.databases
  parsePlace(next.promotion)
  return {
    ...next,
    epoch: record.epoch + 1,
    standby: next.primary === first ? second : first,
    stage: 'opening',
    instance: null,
    // A former primary has everything in its own log.
    standbyInstance: next.primary === record.primary ? record.standbyInstance : record.instance,
    former:
      next.primary === record.primary
        ? record.former
        : { name: record.primary, instance: record.instance, until: next.promotion },
  }
}

export function run(view: View, operation: Operation): Decision {
  return view.mayRun(operationKey(operation)) ? { kind: 'run', operation } : wait
}
