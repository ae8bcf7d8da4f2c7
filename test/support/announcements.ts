import { randomUUID } from 'node:crypto'
import { type Announcement, noFacts } from '../../src/domain/announcement.ts'

/** An announcement of a test's own: a takeover by db2, unless told otherwise. */
export function announcement(change: Partial<Announcement> = {}): Announcement {
  return {
    id: randomUUID(),
    at: new Date().toISOString(),
    cluster: 'test',
    monitor: 'monitor1',
    event: 'primary-opened',
    severity: 'info',
    about: 'db2',
    text: 'db2 is the primary of epoch 7',
    ...change,
    facts: {
      ...noFacts,
      epoch: 7,
      mode: 'solo',
      primary: 'db2',
      primaryAddress: '10.0.0.2:3306',
      standby: 'db1',
      standbyAddress: '10.0.0.1:3306',
      former: 'db1',
      formerAddress: '10.0.0.1:3306',
      cause: 'takeover',
      ...change.facts,
    },
  }
}
