import { type ClusterRecord, formatPlace } from '../domain/cluster-record.ts'
import type { Position } from '../domain/position.ts'
import { accept, type AcceptorState, type AcceptorStep, confirms, emptyAcceptor, prepare } from './acceptor.ts'
import { type Ballot, compareBallots } from './ballot.ts'
import { type LossLimits, neverSeen, observe, type ProbeOutcome, type Sighting } from './sightings.ts'
import type { VoterReply, VoterReport, VoterRequest } from './voter-protocol.ts'

export interface VoterStore {
  /** Undefined where nothing was ever kept. @throws where it can't be read: then this voter must not answer */
  load(): Promise<AcceptorState | undefined>
  /** Resolves once it would survive a power cut. */
  save(state: AcceptorState): Promise<void>
}

export interface VoterParts {
  readonly name: string
  readonly store: VoterStore
  readonly limits: LossLimits
  /** Another monitor is not promised anything while one that acts was heard so recently. */
  readonly actingMilliseconds: number
  /** A node's highest position that it may have acknowledged. */
  readonly acknowledged: () => Position | undefined
  readonly now: () => number
  readonly onHeard?: (ballot: Ballot) => void
  /** On disk here; a majority may or may not have it. */
  readonly onAccepted?: (record: ClusterRecord) => void
}

/** A vote on disk and a pair of eyes: each node and each monitor has one. */
export class Voter {
  readonly name: string
  readonly #parts: VoterParts
  #state: AcceptorState = emptyAcceptor
  readonly #sightings = new Map<string, Sighting>()
  #heard: { readonly ballot: Ballot; readonly at: number } | undefined
  /** One after the other: what is on disk and what was answered must not overtake each other. */
  #last: Promise<unknown> = Promise.resolve()

  private constructor(parts: VoterParts, state: AcceptorState) {
    this.name = parts.name
    this.#parts = parts
    this.#state = state
  }

  /** @throws where what it once promised can't be read */
  static async open(parts: VoterParts): Promise<Voter> {
    return new Voter(parts, (await parts.store.load()) ?? emptyAcceptor)
  }

  /** What this voter has accepted: what a majority has recorded, or is about to. */
  get state(): AcceptorState {
    return this.#state
  }

  observe(database: string, probe: ProbeOutcome): void {
    this.#sightings.set(database, observe(this.#sightings.get(database) ?? neverSeen, probe, this.#parts.limits))
  }

  /** Rejects where the disk fails: then nothing was promised. */
  ask(request: VoterRequest): Promise<VoterReply> {
    const answer = this.#last.then(() => this.#answer(request))
    this.#last = answer.catch(() => {})
    return answer
  }

  async #answer(request: VoterRequest): Promise<VoterReply> {
    switch (request.kind) {
      case 'canvass':
        return this.#reply(confirms(this.#state, request.ballot) && !this.#hearsAnother(request.ballot))
      case 'prepare':
        return this.#keep(prepare(this.#state, request.ballot))
      case 'accept': {
        const reply = await this.#keep(accept(this.#state, request.offer))
        if (reply.ok) {
          this.#hear(request.offer.ballot)
          this.#parts.onAccepted?.(request.offer.record)
        }
        return reply
      }
      case 'report': {
        const ok = confirms(this.#state, request.ballot)
        if (ok) this.#hear(request.ballot)
        return this.#reply(ok)
      }
    }
  }

  async #keep({ state, answer, changed }: AcceptorStep): Promise<VoterReply> {
    // The answer must not leave before the disk has it: a voter that forgets a promise promises twice (R9).
    if (changed) await this.#parts.store.save(state)
    this.#state = state
    return { ...answer, report: null }
  }

  #reply(ok: boolean): VoterReply {
    return { ok, ...this.#state, report: this.#report() }
  }

  #report(): VoterReport {
    const acknowledged = this.#parts.acknowledged()
    return {
      databases: Object.fromEntries([...this.#sightings].map(([name, { state }]) => [name, state])),
      acknowledged: acknowledged === undefined ? null : formatPlace(acknowledged),
    }
  }

  #hear(ballot: Ballot): void {
    this.#heard = { ballot, at: this.#parts.now() }
    this.#parts.onHeard?.(ballot)
  }

  #hearsAnother(ballot: Ballot): boolean {
    if (this.#heard === undefined || this.#heard.ballot.monitor === ballot.monitor) return false
    if (compareBallots(ballot, this.#heard.ballot) < 0) return true
    return this.#parts.now() - this.#heard.at < this.#parts.actingMilliseconds
  }
}
