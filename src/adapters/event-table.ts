import type { Announcement } from '../domain/announcement.ts'
import type { PrimaryConnection } from './primary-connection.ts'

export interface EventTableLimits {
  readonly rowsMax: number
  readonly days: number
}

/**
 * The audit table `mc_events`, on whichever database is writable, by a routine: that runs as its definer, whom a read-only database
 * refuses, while the monitor's own account may write there and would leave a transaction on a standby that nobody else has. Told
 * twice, written once. The routine wants the secret of `mc_meta`, which applications can't read: they may call every routine, and
 * must not be able to write what looks like a takeover.
 *
 * @throws where no database is writable, or the row is not known to be there
 */
export async function writeEvent(
  primary: PrimaryConnection,
  announcement: Announcement,
  { rowsMax, days }: EventTableLimits,
): Promise<void> {
  const { id, at, monitor, event, severity, about, text, facts } = announcement
  const values = [
    id,
    at.replace('T', ' ').replace('Z', ''),
    monitor,
    event,
    severity,
    about ?? '',
    facts.epoch ?? 0,
    cut(text, 1000),
    cut(JSON.stringify(facts), 4000),
  ]
  await primary.ask(
    () =>
      `CALL mc_note_event((SELECT value FROM mc_meta WHERE name = 'peer_secret'), ${values.map(literal).join(', ')}, ${rowsMax}, ${days})`,
  )
}

/** Without a quote or a backslash that an sql_mode could read in another way. */
function literal(value: string | number): string {
  return typeof value === 'number' ? String(value) : `_utf8mb4 X'${Buffer.from(value, 'utf8').toString('hex')}'`
}

function cut(text: string, charactersMax: number): string {
  return text.length > charactersMax ? `${text.slice(0, charactersMax - 1)}…` : text
}
