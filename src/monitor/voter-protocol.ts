import type { AcceptedRecord } from './acceptor.ts'
import type { Ballot } from './ballot.ts'

/** What monitors ask voters (nodes and monitors), over HTTP under `/v1/voter/`. */
export type VoterRequest =
  /** Would you promise? Changes nothing: a monitor that was cut off must not disturb one that acts. */
  | { readonly kind: 'canvass'; readonly ballot: Ballot }
  | { readonly kind: 'prepare'; readonly ballot: Ballot }
  | { readonly kind: 'accept'; readonly offer: AcceptedRecord }
  /** What do you see? And: may I still act? */
  | { readonly kind: 'report'; readonly ballot: Ballot }

export interface VoterReply {
  readonly ok: boolean
  readonly promised: Ballot | null
  readonly accepted: AcceptedRecord | null
  readonly report: VoterReport | null
}

export interface VoterReport {
  readonly databases: Readonly<Record<string, 'unknown' | 'seen' | 'lost'>>
  /**
   * The end of what this node may have acknowledged (`formatPlace`); a primary must cover it. Null for a monitor, and for a node
   * that knows of none.
   */
  readonly acknowledged: string | null
}
