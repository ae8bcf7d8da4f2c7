import type { ClusterRecord } from '../domain/cluster-record.ts'
import { type Ballot, compareBallots, compareSlots, type Slot } from './ballot.ts'

/** What a voter keeps on disk. */
export interface AcceptorState {
  readonly promised: Ballot | null
  readonly accepted: AcceptedRecord | null
}

export interface AcceptedRecord extends Slot {
  readonly record: ClusterRecord
}

export const emptyAcceptor: AcceptorState = { promised: null, accepted: null }

export interface AcceptorAnswer {
  readonly ok: boolean
  readonly promised: Ballot | null
  readonly accepted: AcceptedRecord | null
}

export interface AcceptorStep {
  readonly state: AcceptorState
  readonly answer: AcceptorAnswer
  /** The state must be on disk before the answer leaves: a voter that forgets votes twice (R9). */
  readonly changed: boolean
}

/** Promises to take nothing from lower ballots; tells what it took so far, so that the asker goes on from there. */
export function prepare(state: AcceptorState, ballot: Ballot): AcceptorStep {
  if (state.promised !== null && compareBallots(ballot, state.promised) < 0) return unchanged(state, false)
  if (state.promised !== null && compareBallots(ballot, state.promised) === 0) return unchanged(state, true)
  return changedTo({ ...state, promised: ballot })
}

export function accept(state: AcceptorState, offer: AcceptedRecord): AcceptorStep {
  if (state.promised !== null && compareBallots(offer.ballot, state.promised) < 0) return unchanged(state, false)
  if (state.accepted !== null) {
    const order = compareSlots(offer, state.accepted)
    // Messages overtake one another: an older record of the same monitor is not taken back.
    if (order < 0) return unchanged(state, false)
    if (order === 0) return unchanged(state, true)
  }
  return changedTo({ promised: offer.ballot, accepted: offer })
}

/** May this ballot still record, as far as this voter knows? */
export function confirms(state: AcceptorState, ballot: Ballot): boolean {
  return state.promised === null || compareBallots(ballot, state.promised) >= 0
}

function unchanged(state: AcceptorState, ok: boolean): AcceptorStep {
  return { state, answer: { ok, ...state }, changed: false }
}

function changedTo(state: AcceptorState): AcceptorStep {
  return { state, answer: { ok: true, ...state }, changed: true }
}
