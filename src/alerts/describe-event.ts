import type { Severity } from '../domain/announcement.ts'
import type { ClusterEvent, ClusterRecord, LostTail } from '../domain/cluster-record.ts'

/** An event in the words of announcements, before the facts are added. */
export interface Description {
  readonly event: string
  readonly severity: Severity
  readonly about: string | null
  readonly text: string
  /** Where the event itself carries what is recorded. */
  readonly record?: ClusterRecord
  /** Where nothing is recorded: databases that somebody else looks after. */
  readonly roles?: { readonly primary: string | null; readonly former: string | null }
}

/** docs/ALERTS.md lists what comes out of here: words that others rest on. */
export function describeEvent(event: ClusterEvent): Description {
  switch (event.kind) {
    case 'acting':
      return { event: 'acting', severity: 'info', about: event.monitor, text: `${event.monitor} acts` }
    case 'stood-down':
      return {
        event: 'stood-down',
        severity: 'warning',
        about: event.monitor,
        text: `${event.monitor} acts no longer: ${event.why}`,
      }
    case 'primary-lost':
    case 'primary-back':
    case 'primary-restarted':
    case 'primary-chosen':
    case 'primary-opened':
    case 'mode-changed':
      return describePrimary(event)
    case 'standby-lost':
      return {
        event: 'standby-lost',
        severity: 'warning',
        about: event.database,
        text: `the standby ${event.database} does not work; the next loss would need a person`,
      }
    case 'fenced':
      return {
        event: 'fenced',
        severity: 'warning',
        about: event.database,
        text: event.complete
          ? `${event.database} was writable without being the primary, and is read-only now`
          : `${event.database} was writable without being the primary; the fence waits behind its writers and holds, but only a kill of the server ends it`,
      }
    case 'rejoining':
      return {
        event: 'rejoining',
        severity: 'info',
        about: event.database,
        text: `${event.database} comes back as the standby: ${rejoiningWords[event.how]}`,
      }
    case 'tail-lost':
      return {
        event: 'tail-lost',
        severity: 'warning',
        about: event.database,
        text: tailText(event.database, event.tail),
      }
    case 'quarantined':
      return {
        event: 'quarantined',
        severity: 'critical',
        about: event.database,
        text: `${event.database} has what the primary lacks (${event.errant}) and is left alone; ${event.cure}`,
      }
    case 'stuck':
      return {
        event: 'stuck',
        severity: 'critical',
        about: null,
        text: `a person is needed: ${event.why}; ${event.cure}`,
      }
    case 'unstuck':
      return { event: 'unstuck', severity: 'info', about: null, text: 'no person is needed any more' }
    case 'switchover-failed':
      return {
        event: 'switchover-failed',
        severity: 'warning',
        about: null,
        text: `the switchover failed: ${event.why}`,
      }
    case 'alarm':
      return { event: 'alarm', severity: 'warning', about: event.about, text: `${event.about}: ${event.detail}` }
  }
}

function tailText(database: string, { transactions, changes, keys, isPart }: LostTail): string {
  const named = keys.slice(0, 10).map(({ namespaceId, key }) => `${namespaceId}:${key}`)
  const more = changes > named.length || isPart ? ' …' : ''
  return `${database} alone had ${transactions} transactions with ${changes} changes of keys; its return gives them up: ${named.join(' ')}${more}`
}

type PrimaryEvent = Extract<
  ClusterEvent,
  {
    kind: 'primary-lost' | 'primary-back' | 'primary-restarted' | 'primary-chosen' | 'primary-opened' | 'mode-changed'
  }
>

function describePrimary(event: PrimaryEvent): Description {
  switch (event.kind) {
    case 'primary-lost':
      return {
        event: 'primary-lost',
        severity: 'critical',
        about: event.database,
        text: `the primary ${event.database} is lost, say ${event.voters.join(', ')}`,
      }
    case 'primary-back':
      return {
        event: 'primary-back',
        severity: 'info',
        about: event.database,
        text: `the primary ${event.database} is back`,
      }
    case 'primary-restarted':
      return {
        event: 'primary-restarted',
        severity: 'warning',
        about: event.database,
        text: `the primary ${event.database} restarted, and counts as lost until positions are compared`,
      }
    case 'primary-chosen':
      return {
        event: 'primary-chosen',
        severity: event.before !== null && event.record.cause === 'takeover' ? 'warning' : 'info',
        about: event.record.primary,
        text: `${event.record.primary} was chosen as the primary of epoch ${event.record.epoch} (${event.record.cause})${lossOf(event.record)}`,
        record: event.record,
      }
    case 'primary-opened':
      return {
        event: 'primary-opened',
        severity: 'info',
        about: event.record.primary,
        text: `${event.record.primary} is the primary of epoch ${event.record.epoch} and writable (${event.record.cause})`,
        record: event.record,
      }
    case 'mode-changed':
      return {
        event: `mode-${event.mode}`,
        severity: event.mode === 'solo' ? 'warning' : 'info',
        about: event.primary,
        text:
          event.mode === 'solo'
            ? `${event.primary} goes on alone: what is acknowledged is on one database`
            : `what ${event.primary} acknowledges is on both databases`,
      }
  }
}

const rejoiningWords = {
  follow: 'it follows the primary',
  truncate: 'it is restarted without what nobody acknowledged',
  rebuild: 'it is filled from the primary',
} as const

function lossOf({ cause }: ClusterRecord): string {
  return cause === 'forced' ? '; by force: what its former primary alone had is lost' : ''
}
