import type { NodeState } from '../domain/node-state.ts'

/**
 * The states of a node. Reads are answered from its own memcached in `serving` (and while it drains from there) alone; otherwise a peer answers them, or
 * nobody does (docs/STATES.md).
 *
 * ```
 *             contents lost                         reached
 *  starting ─────────────────▶ rebuilding ─────────────────────┐
 *   ▲    │    contents found                   reached         ▼        drain            stopped
 *   │    └───────────────────▶ catching-up ──────────────────▶ serving ───▶ draining ───▶ stopped
 *   │                               ▲ too far behind             │
 *   │                               └────────────────────────────┤
 *   └──── interrupted (from each of the three) ──────────────────┘
 * ```
 */
export interface NodeCondition {
  readonly phase: Exclude<NodeState, 'draining'>
  /** Out of service for its lag alone: `reached` does not bring it back before the lag has shrunk. In `catching-up` only. */
  readonly lagging: boolean
  /** It goes away: whatever it does it still does, but whoever asks how it is is told so. */
  readonly draining: boolean
}

export type NodeEvent =
  /** memcached answers: its state item was found and is of use, or not. */
  | { readonly kind: 'contents'; readonly found: boolean }
  /** Everything is applied that was ever acknowledged, read or promised here. */
  | { readonly kind: 'reached' }
  /** memcached is away or was emptied, or the log was lost. */
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'lag'; readonly seconds: number }
  | { readonly kind: 'drain' }
  /** For good: told to, or the log can't be read. */
  | { readonly kind: 'stopped' }

export interface LagBounds {
  /** Undefined: no bound. */
  readonly maxLagSeconds: number | undefined
}

/** It comes back at this part of the bound, so that a lag that hovers about the bound does not make the node come and go. */
const returnsAt = 1 / 2

export const firstCondition: NodeCondition = { phase: 'starting', lagging: false, draining: false }

/** Pure. An event that means nothing in a state leaves it as it is. */
export function stepNode(condition: NodeCondition, event: NodeEvent, { maxLagSeconds }: LagBounds): NodeCondition {
  const { phase, lagging } = condition
  if (phase === 'stopped') return condition
  switch (event.kind) {
    case 'contents':
      if (phase !== 'starting') return condition
      return { ...condition, phase: event.found ? 'catching-up' : 'rebuilding', lagging: false }
    case 'reached':
      if (lagging || (phase !== 'catching-up' && phase !== 'rebuilding')) return condition
      return { ...condition, phase: 'serving' }
    case 'interrupted':
      return { ...condition, phase: 'starting', lagging: false }
    case 'lag':
      if (maxLagSeconds === undefined) return condition
      if (phase === 'serving' && event.seconds > maxLagSeconds)
        return { ...condition, phase: 'catching-up', lagging: true }
      if (lagging && event.seconds <= maxLagSeconds * returnsAt) return { ...condition, lagging: false }
      return condition
    case 'drain':
      return { ...condition, draining: true }
    case 'stopped':
      return { ...condition, phase: 'stopped', lagging: false }
  }
}

export function stateOf({ phase, draining }: NodeCondition): NodeState {
  return draining && phase !== 'stopped' ? 'draining' : phase
}
