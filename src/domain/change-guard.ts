/**
 * Between the monitor's executor and the hooks: asked before another database becomes the primary, while nothing is changed yet: no
 * lock is taken, the standby still receives. A `no` costs nothing; the executor's operation fails with its reason, and the monitor
 * comes back to it.
 *
 * The order matters (R9): the guard is asked *before* the locks and before a majority confirms the ballot. An answer may take as long as
 * the hooks' time limits; should another monitor have stood in meanwhile, the confirmation that follows says so.
 */
export interface ChangeGuard {
  /** Never rejects, and answers within the hooks' time limits. Once aborted, the answer is `no`. */
  mayBegin(change: PlannedChange, signal: AbortSignal): Promise<GuardAnswer>
}

export interface PlannedChange {
  /** `takeover`: the primary is lost. `forced`: a person says so. */
  readonly kind: 'takeover' | 'switchover' | 'forced'
  /** The epoch that would begin. */
  readonly epoch: number
  /** The database that would become the primary, and the one that is. */
  readonly to: string
  readonly from: string
}

export type GuardAnswer = { readonly go: true } | { readonly go: false; readonly why: string }
