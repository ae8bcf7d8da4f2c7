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
  const standby = standbyOf(state.config.databases, record, next.primary)
  parsePlace(next.promotion)
  return {
    ...next,
    epoch: record.epoch + 1,
    standby,
    stage: 'opening',
    instance: null,
    standbyInstance: knownInstance(record, { ...next, standby }),
    former:
      next.primary === record.primary
        ? record.former
        : { name: record.primary, instance: record.instance, until: next.promotion },
  }
}

export function run(view: View, operation: Operation): Decision {
  return view.mayRun(operationKey(operation)) ? { kind: 'run', operation } : wait
}

/** The other one of the pair; of a relay, the one that was standby before. */
function standbyOf([first, second]: readonly [string, string], record: ClusterRecord, primary: string): string {
  if (primary === first) return second
  if (primary === second) return first
  return record.standby === second ? second : first
}

/** A former primary has everything in its own log. Of a third one nothing is known until it is paired. */
function knownInstance(
  record: ClusterRecord,
  next: { readonly primary: string; readonly standby: string },
): string | null {
  if (next.standby === record.primary) return record.instance
  return next.standby === record.standby && next.primary === record.primary ? record.standbyInstance : null
}
