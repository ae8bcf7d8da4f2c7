import { type NodeState, nodeStates } from '../domain/node-state.ts'

/** What a node tells its peers of itself, often: `POST /v1/peer/health`. */
export interface PeerHealth {
  readonly state: NodeState
  readonly lagSeconds: number | null
}

/** @throws RangeError */
export function parseHealth(body: unknown): PeerHealth {
  const { state, lagSeconds } = (body ?? {}) as Record<string, unknown>
  const known = nodeStates.find((one) => one === state)
  if (known === undefined) throw new RangeError('no state is told')
  return { state: known, lagSeconds: typeof lagSeconds === 'number' ? lagSeconds : null }
}
