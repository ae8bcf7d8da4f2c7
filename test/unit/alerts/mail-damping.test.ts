import { describe, expect, test } from 'vitest'
import {
  type DampingState,
  due,
  emptyDamping,
  hear,
  type Mail,
  type MailRules,
  nextDue,
  wants,
} from '../../../src/alerts/mail-damping.ts'
import type { Announcement } from '../../../src/domain/announcement.ts'
import { announcement } from '../../support/announcements.ts'

const rules: MailRules = {
  freqSeconds: 3600,
  gatherMilliseconds: 3000,
  phases: ['starting', 'running', 'stopping'],
  severities: ['info', 'warning', 'critical'],
}

/** Mails with the second at which each went out. */
class Postbox {
  readonly mails: { at: number; mail: Mail }[] = []
  readonly rules: MailRules
  #state: DampingState = emptyDamping
  #now = 0

  constructor(own: Partial<MailRules> = {}) {
    this.rules = { ...rules, ...own }
  }

  /** Time passes as a timer would let it: from one due time to the next. */
  until(second: number): void {
    for (;;) {
      const at = nextDue(this.#state, this.rules)
      if (at === null || at > second * 1000) break
      this.#now = Math.max(this.#now, at)
      this.#send(false)
    }
    this.#now = second * 1000
  }

  hear(second: number, given: Partial<Announcement>): void {
    this.until(second)
    this.#state = hear(this.#state, announcement(given), { now: this.#now, rules: this.rules })
    this.#send(false)
  }

  flush(): void {
    this.#send(true)
  }

  #send(flush: boolean): void {
    const { state, mails } = due(this.#state, { now: this.#now, rules: this.rules, flush })
    this.#state = state
    for (const mail of mails) this.mails.push({ at: this.#now / 1000, mail })
  }
}

const lost = { event: 'primary-lost', severity: 'critical', about: 'db1', text: 'db1 is lost' } as const
const stuck = { event: 'stuck', severity: 'critical', about: null, text: 'a person is needed' } as const
const events = (mail: Mail | undefined): string[] => mail?.announcements.map(({ event }) => event) ?? []

describe('mails', () => {
  test('of one story come as one mail', () => {
    const box = new Postbox()
    box.hear(0, lost)
    box.hear(1, { event: 'primary-chosen' })
    box.hear(2, { event: 'primary-opened' })
    box.until(60)
    expect(box.mails.map(({ at, mail }) => [at, mail.kind, events(mail)])).toEqual([
      [3, 'news', ['primary-lost', 'primary-chosen', 'primary-opened']],
    ])
  })

  test('come at most once for each state in the time, and then tell in one summary what was held back', () => {
    const box = new Postbox()
    for (let n = 0; n < 30; n++) box.hear(n * 60, { event: 'fenced', about: 'db1', text: `time ${n}` })
    box.until(3 * 3600)
    const [first, summary, ...more] = box.mails
    expect(first?.at).toBe(3)
    expect(events(first?.mail)).toEqual(['fenced'])
    expect(summary).toMatchObject({ at: 3600, mail: { kind: 'summary', more: 9, still: [] } })
    expect(summary?.mail.announcements).toHaveLength(20)
    expect(more).toEqual([])
  })

  test('of another state are not held back by it', () => {
    const box = new Postbox()
    box.hear(0, lost)
    box.hear(100, stuck)
    box.hear(200, { ...lost, about: 'db2' })
    box.until(300)
    expect(box.mails.map(({ at, mail }) => [at, events(mail)])).toEqual([
      [3, ['primary-lost']],
      [103, ['stuck']],
      [203, ['primary-lost']],
    ])
  })

  test('tell again of a state that lasts, until it is over', () => {
    const box = new Postbox()
    box.hear(0, stuck)
    box.hear(9000, { event: 'unstuck', about: null })
    box.until(30_000)
    expect(box.mails.map(({ at, mail }) => [at, mail.kind, mail.kind === 'summary' ? mail.still.length : 0])).toEqual([
      [3, 'news', 0],
      [3600, 'summary', 1],
      [7200, 'summary', 1],
      [9003, 'news', 0],
    ])
  })

  test('of a loss that a takeover has healed are not told again', () => {
    const box = new Postbox()
    box.hear(0, lost)
    box.hear(1, { event: 'primary-chosen', about: 'db2' })
    box.until(30_000)
    expect(box.mails).toHaveLength(1)
  })

  test('go on telling of a standby that is lost when another one is back', () => {
    const box = new Postbox()
    box.hear(0, { event: 'standby-lost', about: 'db2' })
    box.hear(1, { event: 'rejoining', about: 'db3' })
    box.until(3700)
    expect(box.mails.at(-1)).toMatchObject({ at: 3600, mail: { still: [{ about: 'db2' }] } })
  })

  test('are each their own with a time of 0, and none comes again', () => {
    const box = new Postbox({ freqSeconds: 0, gatherMilliseconds: 0 })
    box.hear(0, stuck)
    box.hear(1, stuck)
    box.hear(1, stuck)
    box.until(30_000)
    expect(box.mails.map(({ mail }) => mail.kind)).toEqual(['news', 'news', 'news'])
  })

  test('that wait go out when the monitor ends', () => {
    const box = new Postbox()
    box.hear(0, stuck)
    box.flush()
    expect(box.mails).toHaveLength(1)
    box.hear(10, stuck)
    box.flush()
    expect(box.mails.at(-1)?.mail).toMatchObject({ kind: 'summary', announcements: [{ event: 'stuck' }] })
  })

  test('are bounded, whatever comes', () => {
    const box = new Postbox({ gatherMilliseconds: 60_000 })
    for (let n = 0; n < 500; n++) box.hear(0, { event: `event-${n}` })
    box.until(100)
    expect(box.mails[0]?.mail.announcements).toHaveLength(100)
  })

  test('go by the phase of the monitor and by how bad it is', () => {
    const running = { ...rules, phases: ['running'], severities: ['critical'] } as const
    expect(wants(running, 'running', announcement(lost))).toBe(true)
    expect(wants(running, 'starting', announcement(lost))).toBe(false)
    expect(wants(running, 'running', announcement({ severity: 'warning' }))).toBe(false)
  })
})
