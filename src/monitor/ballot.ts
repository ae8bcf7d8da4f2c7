/**
 * Who may record: a monitor draws a number higher than any it has seen, and keeps it while it acts. A voter that promised one ballot
 * takes nothing from a lower one, for ever: the promise is on its disk before it answers.
 */
export interface Ballot {
  readonly round: number
  readonly monitor: string
}

/** A place in the history of records: under one ballot they are numbered. */
export interface Slot {
  readonly ballot: Ballot
  readonly serial: number
}

export function compareBallots(a: Ballot, b: Ballot): number {
  if (a.round !== b.round) return a.round - b.round
  if (a.monitor === b.monitor) return 0
  return a.monitor < b.monitor ? -1 : 1
}

export function compareSlots(a: Slot, b: Slot): number {
  return compareBallots(a.ballot, b.ballot) || a.serial - b.serial
}

export function majorityOf(voters: number): number {
  return Math.floor(voters / 2) + 1
}
