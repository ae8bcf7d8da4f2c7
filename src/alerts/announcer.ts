import type { Announcement, AnnouncementSink } from '../domain/announcement.ts'
import type { Logger } from '../runtime/logger.ts'

/** Hands each announcement to every sink. None can hold up or break another one, or whoever announces. */
export class Announcer implements AnnouncementSink {
  readonly #sinks: readonly AnnouncementSink[]
  readonly #logger: Logger
  readonly #counts = new Map<string, { event: string; severity: string; count: number }>()

  constructor(sinks: readonly AnnouncementSink[], logger: Logger) {
    this.#sinks = sinks
    this.#logger = logger
  }

  take(announcement: Announcement): void {
    this.#count(announcement)
    this.#log(announcement)
    for (const sink of this.#sinks) {
      try {
        sink.take(announcement)
      } catch (error) {
        this.#logger.error({ error: String(error) }, 'an announcement was not taken')
      }
    }
  }

  /** For metrics: how often each event came. */
  counts(): Iterable<{ readonly event: string; readonly severity: string; readonly count: number }> {
    return this.#counts.values()
  }

  #count({ event, severity }: Announcement): void {
    const key = `${event} ${severity}`
    const one = this.#counts.get(key)
    if (one === undefined) this.#counts.set(key, { event, severity, count: 1 })
    else one.count += 1
  }

  #log({ id, event, severity, about, text, facts }: Announcement): void {
    const known = Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== null))
    this.#logger[levels[severity]]({ event, id, about, ...known }, text)
  }
}

const levels = { info: 'info', warning: 'warn', critical: 'error' } as const
