import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { AcceptedRecord } from './acceptor.ts'
import { compareSlots, majorityOf } from './ballot.ts'
import type { VoterReply, VoterRequest } from './voter-protocol.ts'

export interface RecordReaderParts {
  readonly voters: readonly string[]
  readonly self: string
  /** Rejects where the voter can't be asked. */
  readonly ask: (voter: string, request: VoterRequest) => Promise<VoterReply>
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number
}

export interface KnownRecord {
  readonly record: ClusterRecord
  /** When the question left: since then it may have been overtaken, before it was the newest. */
  readonly asOf: number
}

/**
 * What is recorded, for a monitor that does not act as well as for one that does. It asks voters a question that changes nothing (a
 * canvass under a ballot that nobody would promise) for what they have on disk. Where a majority has the same record, it is chosen; and
 * had a newer one been chosen before the question left, a majority would have that one instead, and the two majorities share a voter. While a
 * record is on its way to the voters they differ: then nothing new is known, and what was known ages.
 */
export class RecordReader {
  readonly #parts: RecordReaderParts
  #known: KnownRecord | null = null

  constructor(parts: RecordReaderParts) {
    this.#parts = parts
  }

  get known(): KnownRecord | null {
    return this.#known
  }

  /** Never rejects. Resolves as soon as a majority agrees, or nobody is left to answer. */
  async look(): Promise<void> {
    const { voters, self, ask, now } = this.#parts
    const asOf = now()
    const request: VoterRequest = { kind: 'canvass', ballot: { round: 0, monitor: self } }
    const heard: AcceptedRecord[] = []
    await new Promise<void>((resolve) => {
      let left = voters.length
      const took = (reply: VoterReply | undefined): void => {
        left -= 1
        if (reply?.accepted) heard.push(reply.accepted)
        const chosen = agreed(heard, majorityOf(voters.length))
        // Rounds may overtake each other: an older one must not put an older record back.
        if (chosen !== undefined && asOf >= (this.#known?.asOf ?? -Infinity)) this.#known = { record: chosen, asOf }
        if (chosen !== undefined || left === 0) resolve()
      }
      for (const voter of voters) ask(voter, request).then(took, () => took(undefined))
    })
  }
}

function agreed(heard: readonly AcceptedRecord[], needed: number): ClusterRecord | undefined {
  return heard.find((one) => heard.filter((other) => compareSlots(one, other) === 0).length >= needed)?.record
}
