/**
 * What one voter knows of one database from its own probes. Times are milliseconds of the voter's monotonic clock: a step of the wall clock changes nothing.
 */
export interface Sighting {
  readonly state: 'unknown' | 'seen' | 'lost'
  readonly since: number
  /** Probes in a row that failed, and when the first of them began. */
  readonly failures: { readonly count: number; readonly since: number } | null
}

export interface ProbeOutcome {
  readonly startedAt: number
  readonly at: number
  /** `denied`: it lives, whatever it says. */
  readonly result: 'answers' | 'denied' | 'refused' | 'silent'
}

export interface LossLimits {
  /** Nobody listens: two probes, so long apart. */
  readonly refusedMilliseconds: number
  /** Silence may be load: longer. */
  readonly silentMilliseconds: number
}

export const neverSeen: Sighting = { state: 'unknown', since: 0, failures: null }

/**
 * One failure alone is never a loss: a process that was stopped for a while finds its probe timed out when it wakes, whatever the
 * database did meanwhile.
 */
export function observe(before: Sighting, probe: ProbeOutcome, limits: LossLimits): Sighting {
  if (probe.result === 'answers' || probe.result === 'denied') {
    return { state: 'seen', since: before.state === 'seen' ? before.since : probe.at, failures: null }
  }
  const failures = {
    count: (before.failures?.count ?? 0) + 1,
    since: before.failures?.since ?? probe.startedAt,
  }
  const limit = probe.result === 'refused' ? limits.refusedMilliseconds : limits.silentMilliseconds
  const lost = before.state === 'lost' || (failures.count >= 2 && probe.at - failures.since >= limit)
  if (!lost) return { ...before, failures }
  return { state: 'lost', since: before.state === 'lost' ? before.since : probe.at, failures }
}
