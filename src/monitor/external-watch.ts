import type { DatabaseControl, DatabaseSight } from '../domain/database-control.ts'
import type { WatchEvent } from '../domain/watch-event.ts'
import type { Seen } from './machine-state.ts'
import type { Timers } from './monitor.ts'
import { type LossLimits, neverSeen, observe, type Sighting } from './sightings.ts'

export interface WatchConfig {
  readonly databases: readonly string[]
  readonly limits: LossLimits
  /** A state that does not last so long is not told: somebody else's change of the primary takes a moment. */
  readonly settleMilliseconds: number
  /** Galera: every member is writable. */
  readonly severalWritable: boolean
}

export interface WatchState {
  readonly seen: Readonly<Record<string, Seen>>
  readonly sightings: Readonly<Record<string, Sighting>>
  /** The writable ones as they are, since when, and whether that was told. */
  readonly writable: { readonly names: readonly string[]; readonly since: number; readonly told: boolean } | null
  /** The last that was the only one. */
  readonly primary: string | null
  readonly lost: readonly string[]
  /** Replicas that don't follow, since when, and whether that was told. */
  readonly lame: Readonly<Record<string, { readonly since: number; readonly told: boolean }>>
}

export const emptyWatch: WatchState = { seen: {}, sightings: {}, writable: null, primary: null, lost: [], lame: {} }

export interface Glance {
  readonly database: string
  readonly startedAt: number
  readonly at: number
  readonly sight: DatabaseSight
}

/** One look at one database. Pure: the state and what was seen give the next state and what is to be told. */
export function watch(
  before: WatchState,
  glance: Glance,
  config: WatchConfig,
): { state: WatchState; events: WatchEvent[] } {
  const { database, at, startedAt, sight } = glance
  const events: WatchEvent[] = []
  const result = sight.answers ? 'answers' : sight.kind
  const sighting = observe(before.sightings[database] ?? neverSeen, { startedAt, at, result }, config.limits)
  let state: WatchState = {
    ...before,
    sightings: { ...before.sightings, [database]: sighting },
    // What does not answer for a moment is taken for what it was last; what is lost for nothing.
    seen: sight.answers ? { ...before.seen, [database]: { startedAt, at, sight } } : before.seen,
  }
  state = notePresence(state, glance, events)
  state = noteReplication(state, { glance, config }, events)
  state = noteWritable(state, { at, config }, events)
  return { state, events }
}

function notePresence(state: WatchState, { database, sight }: Glance, events: WatchEvent[]): WatchState {
  const isLost = state.sightings[database]?.state === 'lost'
  const wasLost = state.lost.includes(database)
  if (isLost === wasLost) return state
  if (isLost) {
    const why = sight.answers ? '' : sight.detail
    events.push({ kind: 'database-lost', database, wasPrimary: state.primary === database, why })
    return { ...state, lost: [...state.lost, database] }
  }
  events.push({ kind: 'database-back', database })
  return { ...state, lost: state.lost.filter((name) => name !== database) }
}

function noteReplication(
  state: WatchState,
  { glance, config }: { glance: Glance; config: WatchConfig },
  events: WatchEvent[],
): WatchState {
  const { database, sight, at } = glance
  if (!sight.answers) return state
  const { replication, readOnly } = sight.facts
  const isLame =
    readOnly && replication !== undefined && (replication.receiver !== 'connected' || replication.applier !== 'running')
  const known = state.lame[database]
  if (!isLame) {
    if (known === undefined) return state
    if (known.told) events.push({ kind: 'standby-back', database })
    const { [database]: _, ...lame } = state.lame
    return { ...state, lame }
  }
  const since = known?.since ?? at
  const tells = known?.told !== true && at - since >= config.settleMilliseconds
  if (tells)
    events.push({
      kind: 'standby-lost',
      database,
      why: replication.error || `its receiver is ${replication.receiver}, its applier ${replication.applier}`,
    })
  return { ...state, lame: { ...state.lame, [database]: { since, told: known?.told === true || tells } } }
}

function noteWritable(
  state: WatchState,
  { at, config }: { at: number; config: WatchConfig },
  events: WatchEvent[],
): WatchState {
  // Nothing is said of the whole before each was looked at.
  const isKnown = (name: string): boolean => state.seen[name] !== undefined || state.lost.includes(name)
  if (!config.databases.every(isKnown)) return state
  const names = config.databases.filter((name) => {
    const sight = state.seen[name]?.sight
    return !state.lost.includes(name) && sight?.answers === true && !sight.facts.readOnly
  })
  const same = state.writable !== null && state.writable.names.join() === names.join()
  const since = same && state.writable !== null ? state.writable.since : at
  if (same && state.writable?.told) return state
  const [only] = names
  const isOne = names.length === 1 || (config.severalWritable && names.length > 0)
  if (!isOne && at - since < config.settleMilliseconds) return { ...state, writable: { names, since, told: false } }
  const writable = { names, since, told: true }
  if (names.length === 0) {
    events.push({ kind: 'no-primary', former: state.primary })
    return { ...state, writable }
  }
  if (config.severalWritable) return { ...state, writable }
  if (names.length > 1) {
    events.push({ kind: 'two-primaries', databases: names })
    return { ...state, writable }
  }
  // Also where it is the same one again: what was told of none, or of two, is over.
  const wasOver = state.writable?.told === true && state.writable.names.length !== 1
  if (only !== undefined && (only !== state.primary || wasOver)) {
    events.push({ kind: 'primary-changed', database: only, former: state.primary === only ? null : state.primary })
  }
  return { ...state, writable, primary: only ?? null }
}

export interface ExternalWatchParts {
  readonly config: WatchConfig
  /** Only `probe` is ever called: nothing is changed, not even a variable. */
  readonly databases: Readonly<Record<string, Pick<DatabaseControl, 'probe'>>>
  readonly timers: Timers
  readonly probe: { readonly everyMilliseconds: number; readonly timeoutMilliseconds: number }
  readonly tell: (event: WatchEvent) => void
}

/** Looks at databases that somebody else looks after, and tells. */
export class ExternalWatch {
  readonly #parts: ExternalWatchParts
  #state: WatchState = emptyWatch
  #stopped = false

  constructor(parts: ExternalWatchParts) {
    this.#parts = parts
  }

  get state(): WatchState {
    return this.#state
  }

  start(): void {
    for (const name of this.#parts.config.databases) void this.#follow(name)
  }

  stop(): void {
    this.#stopped = true
  }

  async #follow(database: string): Promise<void> {
    const { databases, timers, probe, config, tell } = this.#parts
    while (!this.#stopped) {
      const startedAt = timers.now()
      const sight = await databases[database]?.probe(probe.timeoutMilliseconds)
      if (this.#stopped || sight === undefined) return
      const { state, events } = watch(this.#state, { database, startedAt, at: timers.now(), sight }, config)
      this.#state = state
      for (const event of events) tell(event)
      await new Promise<void>((resolve) => void timers.after(probe.everyMilliseconds, resolve))
    }
  }
}
