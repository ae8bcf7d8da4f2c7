/** The side of a voter that answers monitors over HTTP; the secret is shared by all voters of a cluster. */
export interface VoterDesk {
  /** Constant in time. */
  admits(secret: string | undefined): boolean
  /** @throws RangeError on what is no question */
  answer(question: unknown): Promise<unknown>
}
