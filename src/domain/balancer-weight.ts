import type { NodeState } from './node-state.ts'

export interface WeighedNode {
  readonly state: NodeState
  readonly lagSeconds: number | null
  /** Further behind it stops serving; undefined without such a bound. */
  readonly maxLagSeconds: number | undefined
  /** It gives its items to a node that rebuilds. */
  readonly isDonor: boolean
}

/**
 * How many of its share of new clients a balancer should send to a node, in percent. 0 where reads are not answered from its own memcached: who
 * is connected stays connected. Half where it has something else to do that matters more.
 */
export function weightPercent({ state, lagSeconds, maxLagSeconds, isDonor }: WeighedNode): 0 | 50 | 100 {
  if (state !== 'serving') return 0
  const isLate = maxLagSeconds !== undefined && (lagSeconds ?? 0) > maxLagSeconds / 2
  return isDonor || isLate ? 50 : 100
}
