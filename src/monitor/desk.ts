import { createHash, timingSafeEqual } from 'node:crypto'
import type { VoterDesk } from '../domain/voter-desk.ts'
import type { Voter } from './voter.ts'
import { parseVoterRequest } from './voter-messages.ts'

/** The voter of this process, for monitors of other processes. */
export class Desk implements VoterDesk {
  readonly #voter: Voter
  readonly #secret: Buffer

  constructor(voter: Voter, secret: string) {
    this.#voter = voter
    this.#secret = digest(secret)
  }

  admits(secret: string | undefined): boolean {
    return secret !== undefined && timingSafeEqual(digest(secret), this.#secret)
  }

  async answer(question: unknown): Promise<unknown> {
    return this.#voter.ask(parseVoterRequest(question))
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
