/**
 * One thing that happened to the cluster, as people and other programs are told of it: the same everywhere, in the log, the audit
 * table, a webhook, a mail, a hook's environment.
 */
export interface Announcement {
  /** A UUID. The same at each delivery, so whoever gets it twice can tell. */
  readonly id: string
  /** By the clock of the monitor that tells: ISO 8601, UTC, milliseconds. */
  readonly at: string
  /** The name of the cluster in the configuration: several may report to one place. */
  readonly cluster: string
  readonly monitor: string
  /** What happened, by a word that never changes its meaning: `primary-lost`. docs/ALERTS.md lists them. */
  readonly event: string
  readonly severity: Severity
  /** Which database or monitor it is about; null where it is the cluster as a whole. */
  readonly about: string | null
  /** One line for people, with what to do where somebody has to do something. */
  readonly text: string
  readonly facts: ClusterFacts
}

/** `critical`: writes fail, or a person is needed. `warning`: it works, with less behind it than it should have. */
export type Severity = 'info' | 'warning' | 'critical'

export const severities: readonly Severity[] = ['info', 'warning', 'critical']

/** What is recorded at that moment; null where it is not known, or where there is no such thing. */
export interface ClusterFacts {
  readonly epoch: number | null
  readonly mode: string | null
  readonly primary: string | null
  /** `host:port`. */
  readonly primaryAddress: string | null
  readonly standby: string | null
  readonly standbyAddress: string | null
  /** The primary of the epoch before, where it was another database. */
  readonly former: string | null
  readonly formerAddress: string | null
  /** Why the epoch began: `takeover`, `switchover`, `forced`, `restart`, `first-start`. */
  readonly cause: string | null
}

export const noFacts: ClusterFacts = {
  epoch: null,
  mode: null,
  primary: null,
  primaryAddress: null,
  standby: null,
  standbyAddress: null,
  former: null,
  formerAddress: null,
  cause: null,
}

/** Whoever carries announcements somewhere. */
export interface AnnouncementSink {
  /** Must not throw and not wait: whoever needs time keeps a queue. */
  take(announcement: Announcement): void
}
