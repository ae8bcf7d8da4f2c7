import type { LostTail } from '../domain/cluster-record.ts'

/**
 * What the machine asks the executor to do to databases: each a short sequence of steps under the databases' locks, safe to repeat
 * from its beginning, also by a successor.
 */
export type Operation =
  /** Stop receiving from the former primary and apply all that was received. Result: the position. */
  | { readonly kind: 'drain'; readonly database: string }
  /** Make the recorded primary writable in `solo`. Result: the running server. */
  | { readonly kind: 'open'; readonly database: string; readonly epoch: number }
  /** The same in `paired`: the standby attached, caught up, and its acknowledgement proved by a marker, before anything is writable. */
  | { readonly kind: 'open-paired'; readonly primary: string; readonly standby: string; readonly epoch: number }
  /** From `solo` towards `paired`, on a writable primary. Done: what the primary acknowledges from here on is on both. */
  | { readonly kind: 'pair'; readonly primary: string; readonly standby: string }
  /** Semi-sync off on the primary, after `solo` was recorded. */
  | { readonly kind: 'unpair'; readonly database: string }
  /** Let the standby follow the primary. Result: what it has that the primary lacks, if anything; then it was left alone. */
  | {
      readonly kind: 'attach'
      readonly primary: string
      readonly standby: string
      /** Also where it seems to follow: what it acknowledges does not arrive. */
      readonly anew: boolean
      /** Where its own part of the log ended (`formatPlace`), if it was primary before: what it has beyond is read before it goes. */
      readonly until: string | null
    }
  /** Let a relay follow a source that is no primary in `paired`. Result: as of `attach`. */
  | {
      readonly kind: 'attach-relay'
      readonly relay: string
      readonly source: string
      readonly primary: string
      readonly filtered: boolean
    }
  /** Stop writes on the primary and let the standby catch up. Result: where the log ends. */
  | { readonly kind: 'hand-over'; readonly primary: string; readonly standby: string }
  /** Writable without being opened (wrong settings of a restarted server). */
  | { readonly kind: 'freeze'; readonly database: string }
  /** Writable without being the recorded primary. */
  | { readonly kind: 'fence'; readonly database: string }
  | { readonly kind: 'mark'; readonly database: string }
  | { readonly kind: 'restart'; readonly database: string }
  | { readonly kind: 'rebuild'; readonly database: string; readonly from: string }

export type OperationResult =
  | { readonly ok: true; readonly value: OperationValue }
  | { readonly ok: false; readonly error: string; readonly standDown?: boolean }

export interface OperationValue {
  /** `formatPlace`. */
  readonly position?: string
  readonly instance?: string
  readonly standbyInstance?: string
  readonly errant?: { readonly gtids: string; readonly cure: 'truncate' | 'rebuild' }
  readonly complete?: boolean
  readonly tail?: LostTail
}

/** Markers and work on a server's process go beside the changes; of each kind one at a time. */
export type Track = 'change' | 'mark' | 'host'

export function trackOf({ kind }: Operation): Track {
  if (kind === 'mark') return 'mark'
  return kind === 'restart' || kind === 'rebuild' ? 'host' : 'change'
}

export function databasesOf(operation: Operation): readonly string[] {
  if ('database' in operation) return [operation.database]
  return operation.kind === 'attach-relay'
    ? [operation.source, operation.relay]
    : [operation.primary, operation.standby]
}

export function operationKey(operation: Operation): string {
  return `${operation.kind} ${databasesOf(operation).join(' ')}`
}
