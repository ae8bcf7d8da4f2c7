import type { WatchEvent } from '../domain/watch-event.ts'
import type { Description } from './describe-event.ts'

/** What is seen of databases that somebody else looks after, in the same words as of a managed pair where it is the same thing. */
export function describeWatchEvent(event: WatchEvent): Description {
  switch (event.kind) {
    case 'primary-changed':
      return {
        event: 'primary-changed',
        severity: 'info',
        about: event.database,
        text:
          event.former === null
            ? `${event.database} is writable: it is the primary`
            : `${event.database} is writable: it is the primary in place of ${event.former}`,
        roles: { primary: event.database, former: event.former },
      }
    case 'no-primary':
      return {
        event: 'no-primary',
        severity: 'critical',
        about: null,
        text: `no database is writable${event.former === null ? '' : `; ${event.former} was the last`}`,
        roles: { primary: null, former: event.former },
      }
    case 'two-primaries':
      return {
        event: 'two-primaries',
        severity: 'critical',
        about: null,
        text: `${event.databases.join(' and ')} are writable: nodes write to none of them while that is so; make all but one read-only`,
      }
    case 'database-lost':
      return {
        event: event.wasPrimary ? 'primary-lost' : 'standby-lost',
        severity: event.wasPrimary ? 'critical' : 'warning',
        about: event.database,
        text: `${event.database} does not answer this monitor${event.why === '' ? '' : `: ${event.why}`}`,
      }
    case 'database-back':
      return { event: 'standby-back', severity: 'info', about: event.database, text: `${event.database} answers again` }
    case 'standby-lost':
      return {
        event: 'standby-lost',
        severity: 'warning',
        about: event.database,
        text: `the replication of ${event.database} does not run: ${event.why}`,
      }
    case 'standby-back':
      return {
        event: 'standby-back',
        severity: 'info',
        about: event.database,
        text: `${event.database} replicates again`,
      }
  }
}
