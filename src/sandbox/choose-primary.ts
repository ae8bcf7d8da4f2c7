import { covers, formatPosition, type Position } from '../domain/position.ts'

/** Both databases of a pair answer, neither is writable: which one may become so? */
export interface Candidate {
  readonly name: string
  /** The end of its own log, relay log drained. */
  readonly position: Position
}

export type Choice =
  | { readonly kind: 'promote'; readonly primary: string; readonly standby: string; readonly warning?: string }
  /** A person must decide: each has what the other lacks. */
  | { readonly kind: 'diverged'; readonly message: string }

/**
 * The recorded primary goes on if it has everything that the standby has: only it can hold writes that nobody else has. A standby
 * takes over only where the recorded primary lacks what the standby has and has nothing of its own (its disk was lost):
 * so a former standby never becomes writable while the recorded primary is ahead.
 */
export function choosePrimary(recorded: Candidate, other: Candidate): Choice {
  if (covers(recorded.position, other.position)) {
    return { kind: 'promote', primary: recorded.name, standby: other.name }
  }
  if (covers(other.position, recorded.position)) {
    return {
      kind: 'promote',
      primary: other.name,
      standby: recorded.name,
      warning: `${recorded.name}, the recorded primary, is at "${formatPosition(recorded.position)}" and lacks what ${other.name} has ("${formatPosition(other.position)}"): it lost data. ${other.name} is the primary from now on, and ${recorded.name} catches up from it`,
    }
  }
  return { kind: 'diverged', message: divergence(recorded, other) }
}

export function divergence(a: Candidate, b: Candidate): string {
  return `${a.name} (at "${formatPosition(a.position)}") and ${b.name} (at "${formatPosition(b.position)}") have diverged: each has writes that the other lacks, and they are never merged. Decide whose to give up, run "whitehole down", move its folder away, and run "whitehole up" again`
}
