import type { Announcement, Severity } from '../domain/announcement.ts'

/** What the monitor itself is doing, in ldirectord's words. It never reloads: `reloading` is a word of the configuration alone. */
export type MonitorPhase = 'starting' | 'running' | 'stopping'

export interface MailRules {
  /** Seconds in which one state makes one mail, and after which a state that lasts is told again. 0: each announcement its own mail, nothing again. */
  readonly freqSeconds: number
  /** Announcements that come so close together go into one mail: a takeover is one story. */
  readonly gatherMilliseconds: number
  readonly phases: readonly MonitorPhase[]
  readonly severities: readonly Severity[]
}

export interface DampingState {
  readonly entries: Readonly<Record<string, Entry>>
  /** Waiting for the next mail, with the time it is due. */
  readonly pending: readonly Announcement[]
  readonly dueAt: number | null
}

interface Entry {
  readonly mailedAt: number
  /** Held back since then; the last of them is told in the summary. */
  readonly held: readonly Announcement[]
  readonly heldMore: number
  /** A condition that lasts until something else says that it is over. */
  readonly lasts: Announcement | null
}

export type Mail =
  | { readonly kind: 'news'; readonly announcements: readonly Announcement[] }
  | {
      readonly kind: 'summary'
      readonly announcements: readonly Announcement[]
      /** Beyond those that are listed. */
      readonly more: number
      /** Nothing new, and still so. */
      readonly still: readonly Announcement[]
    }

const heldMax = 20
const pendingMax = 100
/** Events and names are few: far more than there ever are. */
const entriesMax = 200

export const emptyDamping: DampingState = { entries: {}, pending: [], dueAt: null }

/** Events that end others' states: whoever is mailed of the one is not reminded of the other any more. */
const ends: Readonly<Record<string, readonly string[]>> = {
  unstuck: ['stuck'],
  'primary-back': ['primary-lost'],
  'primary-chosen': ['primary-lost', 'primary-restarted'],
  'primary-opened': ['primary-lost', 'primary-restarted', 'stuck', 'switchover-failed'],
  'standby-back': ['standby-lost', 'primary-lost'],
  rejoining: ['standby-lost', 'quarantined'],
  'mode-paired': ['standby-lost', 'mode-solo', 'quarantined'],
  'primary-changed': ['primary-lost', 'no-primary', 'two-primaries'],
}

/** Conditions that last until they are ended; the rest are news of a moment. */
const lasting: ReadonlySet<string> = new Set([
  'stuck',
  'primary-lost',
  'standby-lost',
  'quarantined',
  'mode-solo',
  'no-primary',
  'two-primaries',
])

/** ldirectord's `emailalertstatus` (in which phases), and how bad it must be. */
export function wants(rules: MailRules, phase: MonitorPhase, { severity }: Announcement): boolean {
  return rules.phases.includes(phase) && rules.severities.includes(severity)
}

/**
 * The seed's `emailalertfreq`, for each state (an event with what it is about): the first is mailed at once; what follows within the time
 * is held and comes as a summary when the time is over; a state that lasts is told again each time.
 */
export function hear(state: DampingState, announcement: Announcement, given: Given): DampingState {
  const { now, rules } = given
  const key = stateOf(announcement)
  const entries = { ...endOthers(state.entries, announcement) }
  const entry = entries[key]
  const lasts = lasting.has(announcement.event) ? announcement : null
  const damped = entry !== undefined && rules.freqSeconds > 0 && now - entry.mailedAt < rules.freqSeconds * 1000
  if (damped) {
    const full = entry.held.length >= heldMax
    const held = full ? entry.held : [...entry.held, announcement]
    const next = { ...entry, held, heldMore: entry.heldMore + (full ? 1 : 0), lasts: lasts ?? entry.lasts }
    return { ...state, entries: { ...entries, [key]: next } }
  }
  const [oldest = '', ...others] = Object.keys(entries)
  if (entry === undefined && others.length + 1 >= entriesMax) delete entries[oldest]
  return {
    entries: { ...entries, [key]: { mailedAt: now, held: entry?.held ?? [], heldMore: entry?.heldMore ?? 0, lasts } },
    pending: [...state.pending, announcement].slice(-pendingMax),
    dueAt: state.dueAt ?? now + rules.gatherMilliseconds,
  }
}

export interface Given {
  /** Milliseconds of a monotonic clock. */
  readonly now: number
  readonly rules: MailRules
}

/** What is to be sent now. `flush`: all that waits, for the process ends. */
export function due(
  state: DampingState,
  { now, rules, flush = false }: Given & { readonly flush?: boolean },
): { state: DampingState; mails: readonly Mail[] } {
  const mails: Mail[] = []
  let { pending, dueAt } = state
  if (dueAt !== null && (flush || now >= dueAt)) {
    mails.push({ kind: 'news', announcements: pending })
    pending = []
    dueAt = null
  }
  const { entries, summary } = summarize(state.entries, { now, rules, flush })
  if (summary !== undefined) mails.push(summary)
  return { state: { entries, pending, dueAt }, mails }
}

/** When `due` has something to say, if nothing comes before; null: never. */
export function nextDue({ entries, dueAt }: DampingState, { freqSeconds }: MailRules): number | null {
  const times = Object.values(entries).map(({ mailedAt }) => mailedAt + freqSeconds * 1000)
  if (dueAt !== null) times.push(dueAt)
  return times.length === 0 ? null : Math.min(...times)
}

function summarize(
  before: DampingState['entries'],
  { now, rules, flush }: Required<Given & { flush: boolean }>,
): { entries: DampingState['entries']; summary: Mail | undefined } {
  const entries: Record<string, Entry> = {}
  const announcements: Announcement[] = []
  const still: Announcement[] = []
  let more = 0
  for (const [key, entry] of Object.entries(before)) {
    const over = now - entry.mailedAt >= rules.freqSeconds * 1000
    if (!over && !(flush && entry.held.length > 0)) {
      entries[key] = entry
      continue
    }
    announcements.push(...entry.held)
    more += entry.heldMore
    // Without a time nothing is told again.
    const remind = entry.lasts !== null && rules.freqSeconds > 0
    if (remind && entry.held.length === 0 && entry.lasts !== null) still.push(entry.lasts)
    if (remind || entry.held.length > 0) {
      entries[key] = { mailedAt: now, held: [], heldMore: 0, lasts: entry.lasts }
    }
  }
  if (announcements.length === 0 && still.length === 0) return { entries, summary: undefined }
  announcements.sort((a, b) => (a.at < b.at ? -1 : 1))
  return { entries, summary: { kind: 'summary', announcements, more, still } }
}

function endOthers(entries: DampingState['entries'], { event, about }: Announcement): DampingState['entries'] {
  const ended = ends[event]
  if (ended === undefined) return entries
  return Object.fromEntries(
    Object.entries(entries).map(([key, entry]) => {
      if (entry.lasts === null || !ended.includes(entry.lasts.event)) return [key, entry]
      // A standby that is back ends its own loss alone; a new primary ends the old one's.
      const ofOther = ['rejoining', 'standby-back', 'primary-back'].includes(event) && entry.lasts.about !== about
      return [key, ofOther ? entry : { ...entry, lasts: null }]
    }),
  )
}

function stateOf({ event, about }: Announcement): string {
  return `${event} ${about ?? ''}`
}
