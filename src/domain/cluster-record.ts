import { formatPosition, parsePosition, type Position } from './position.ts'

/**
 * What a majority of voters has agreed upon about a managed pair. It is the only truth about who is primary: nothing is made
 * writable, and semi-sync is not turned off, before the record that says so is on the disks of a majority.
 */
export interface ClusterRecord {
  /** Rises with every opening of a primary, also of the same one after a restart: one epoch, one database that was made writable once. */
  readonly epoch: number
  readonly primary: string
  readonly standby: string
  /** `paired`: what is acknowledged is on both. `solo`: on the primary alone, so nothing is promoted without a person. */
  readonly mode: Mode
  readonly stage: Stage
  /** Where the epoch begins: what the primary had when it was chosen (`formatPlace`). What another has beyond it and the primary lacks is lost. */
  readonly promotion: string | null
  /** The running server that was opened; another one under its name has restarted. Null until it was. */
  readonly instance: string | null
  /**
   * The running standby that is known to have everything. One that restarted may have lost what it had received, acknowledged and not yet
   * applied (the relay log is thrown away): it is no candidate until it follows again.
   */
  readonly standbyInstance: string | null
  /** The primary before, until it is paired again: to tell one that lived on from one that died, and whether it may be truncated. */
  readonly former: FormerPrimary | null
  readonly cause: Cause
}

export interface FormerPrimary {
  readonly name: string
  readonly instance: string | null
  /** Up to here its successor has what it had (`formatPlace`); what it has beyond was given up. Null where nobody knows. */
  readonly until: string | null
}

export type Mode = 'paired' | 'solo'

/**
 * `opening`: chosen, not yet known to be writable. `steady`: it was made writable. `switching`: the standby is about to become
 * primary as planned; nobody else than the recorded primary is writable.
 */
export type Stage = 'opening' | 'steady' | 'switching'

export type Cause = 'first-start' | 'takeover' | 'restart' | 'switchover' | 'forced'

/** A position with its dialect, for JSON. */
export function formatPlace(position: Position): string {
  return `${position.dialect} ${formatPosition(position)}`.trimEnd()
}

/** @throws RangeError */
export function parsePlace(text: string): Position {
  const [dialect, rest = ''] = text.split(' ', 2)
  if (dialect !== 'mariadb' && dialect !== 'mysql') throw new RangeError(`"${text}" is no position`)
  return parsePosition(dialect, rest)
}

/** What is told to people, hooks and other programs, each once, by the acting monitor; `at` is added by whoever writes it down. */
export type ClusterEvent =
  | { readonly kind: 'acting'; readonly monitor: string }
  | { readonly kind: 'stood-down'; readonly monitor: string; readonly why: string }
  | {
      readonly kind: 'primary-lost'
      readonly database: string
      readonly epoch: number
      readonly voters: readonly string[]
    }
  | { readonly kind: 'primary-back'; readonly database: string; readonly epoch: number }
  | { readonly kind: 'primary-restarted'; readonly database: string; readonly epoch: number }
  | { readonly kind: 'standby-lost'; readonly database: string }
  /** Recorded by a majority; the database is not writable yet. */
  | { readonly kind: 'primary-chosen'; readonly record: ClusterRecord; readonly before: ClusterRecord | null }
  | { readonly kind: 'primary-opened'; readonly record: ClusterRecord }
  | { readonly kind: 'mode-changed'; readonly mode: Mode; readonly epoch: number; readonly primary: string }
  | { readonly kind: 'fenced'; readonly database: string; readonly complete: boolean }
  | { readonly kind: 'rejoining'; readonly database: string; readonly how: 'follow' | 'truncate' | 'rebuild' }
  /** What a former primary alone has, and loses by its return: in `paired` nobody was told of it, after a forced takeover perhaps. */
  | { readonly kind: 'tail-lost'; readonly database: string; readonly epoch: number; readonly tail: LostTail }
  | { readonly kind: 'quarantined'; readonly database: string; readonly errant: string; readonly cure: string }
  /** Something is wrong that no rule decides: a person is needed. Told once until it changes. */
  | { readonly kind: 'stuck'; readonly why: string; readonly cure: string }
  | { readonly kind: 'unstuck' }
  | { readonly kind: 'switchover-failed'; readonly why: string }
  | { readonly kind: 'alarm'; readonly about: string; readonly detail: string }

export interface LostTail {
  readonly transactions: number
  /** The first of them. */
  readonly keys: readonly LostKey[]
  /** Changes of keys altogether. */
  readonly changes: number
  /** It could not be read to its end. */
  readonly isPart: boolean
}

export interface LostKey {
  readonly namespaceId: number
  /** As text; bytes beyond ASCII and spaces as `%xx`. */
  readonly key: string
  readonly change: 'set' | 'delete' | 'touch' | 'stale'
}

export interface ClusterEvents {
  /** Must not throw and not wait: whoever needs time keeps a queue. */
  emit(event: ClusterEvent): void
}
