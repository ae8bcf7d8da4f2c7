import type { Announcement, AnnouncementSink } from '../domain/announcement.ts'
import {
  type DampingState,
  due,
  emptyDamping,
  hear,
  type MailRules,
  type MonitorPhase,
  nextDue,
  wants,
} from './mail-damping.ts'
import { composeMail, type MailAddresses, type MailMessage } from './mail-text.ts'

export interface MailSinkParts {
  readonly rules: MailRules
  readonly addresses: MailAddresses
  readonly phase: () => MonitorPhase
  /** A queue that sees to it that it arrives. */
  readonly send: (message: MailMessage) => void
}

/** Gathers and damps; see `mail-damping.ts`. */
export class MailSink implements AnnouncementSink {
  readonly #parts: MailSinkParts
  #state: DampingState = emptyDamping
  #timer: NodeJS.Timeout | undefined

  constructor(parts: MailSinkParts) {
    this.#parts = parts
  }

  take(announcement: Announcement): void {
    const { rules, phase } = this.#parts
    if (!wants(rules, phase(), announcement)) return
    this.#state = hear(this.#state, announcement, { now: performance.now(), rules })
    this.#look()
  }

  /** What waits goes out now. */
  close(): void {
    this.#look(true)
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #look(flush = false): void {
    const { rules, addresses, send } = this.#parts
    const now = performance.now()
    const { state, mails } = due(this.#state, { now, rules, flush })
    this.#state = state
    for (const mail of mails) send(composeMail(mail, addresses))
    clearTimeout(this.#timer)
    const at = nextDue(state, rules)
    if (at === null) return
    this.#timer = setTimeout(() => this.#look(), Math.max(1, Math.ceil(at - now)))
    this.#timer.unref()
  }
}
