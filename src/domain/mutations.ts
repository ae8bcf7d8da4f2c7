import type { Mutation, Outcome } from './mutation.ts'

/** Where the gateway hands in what clients change; the writer implements it. */
export interface Mutations {
  /** One for each client connection: what goes through one session keeps its order, across keys too. */
  openSession(): MutationSession
}

export interface MutationSession {
  /**
   * Resolves once the mutation is in the log that this node follows and applied here, with the outcome decided on the primary.
   * Rejects with a WhiteholeError: `not-written`, `outcome-unknown`, `queue-full`, `unknown-namespace`, `value-too-large`.
   * Mutations may be submitted without waiting for earlier ones.
   */
  submit(mutation: Mutation): Promise<Outcome>
  close(): void
}
