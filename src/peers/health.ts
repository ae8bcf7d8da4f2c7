import { type NodeState, nodeStates } from '../domain/node-state.ts'

/** What a node tells its peers of itself, often: `POST /v1/peer/health`. */
export interface PeerHealth {
  readonly state: NodeState
  /** How far its memcached is behind the primary; null where that can't be told. */
  readonly lagSeconds: number | null
}

/** @throws RangeError */
export function parseHealth(body: unknown): PeerHealth {
  const { state, lagSeconds } = (body ?? {}) as Record<string, unknown>
  const known = nodeStates.find((one) => one === state)
  if (known === undefined) throw new RangeError('no state is told')
  return { state: known, lagSeconds: typeof lagSeconds === 'number' ? lagSeconds : null }
}

/**
 * What is thought of a peer, from one probe to the next. It is up after `rise` good probes in a row and down after `fall` bad ones; the first
 * one counts at once, since a node that starts must know somebody. A peer that says itself that it does not serve is believed at once, and also that it
 * serves again.
 */
export interface PeerView {
  readonly up: boolean
  /** Probes in a row that speak against `up`. */
  readonly against: number
  /** It said itself that it does not serve; its word is enough for the way back, too. */
  readonly byWord: boolean
  readonly health: PeerHealth | undefined
}

/** `undefined`: no answer in time, from its listener or over HTTP. */
export type ProbeResult = PeerHealth | undefined

export interface Thresholds {
  readonly rise: number
  readonly fall: number
}

export function judgePeer(view: PeerView | undefined, result: ProbeResult, thresholds: Thresholds): PeerView {
  const good = result?.state === 'serving'
  const health = result ?? view?.health
  const settled = { against: 0, byWord: false, health }
  if (result !== undefined && !good) return { ...settled, up: false, byWord: true }
  if (view === undefined || (good && view.byWord)) return { ...settled, up: good }
  if (good === view.up) return { ...settled, up: view.up, byWord: view.byWord }
  const against = view.against + 1
  const turns = against >= (good ? thresholds.rise : thresholds.fall)
  return { up: turns ? good : view.up, against: turns ? 0 : against, byWord: false, health }
}
