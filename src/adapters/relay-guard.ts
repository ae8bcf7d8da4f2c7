import type { Ask } from './control-session.ts'
import { type ControlSql, listedSessions, type Row, text } from './control-sql.ts'

/**
 * A relay that read the log of a primary in `paired` would have what the standby may never get. Its receiver comes back by itself, whoever ends
 * its session; and nobody may lock its account, for the monitor has no right to accounts. So such a primary lets every session begin with
 * a statement (`init_connect`) that fails for the relays' account as long as commits wait for a standby; a failure ends the session.
 */
function guardText(variable: string, user: string): string {
  return `SET @whitehole_relay = IF(SUBSTRING_INDEX(USER(), '@', 1) = '${user}' AND ${variable} = 1, (SELECT 1 UNION ALL SELECT 2), 0)`
}

/** Set before semi-sync is enabled, so that no session comes in between. It stays: its condition ends by itself. */
export async function guardAgainstRelays(ask: Ask, sql: ControlSql, user: string): Promise<void> {
  const guard = guardText(sql.semiSync.enabled, user)
  const [row] = await ask<Row>('SELECT @@global.init_connect AS value')
  const former = text(row, 'value')
  if (former.includes(guard)) return
  await ask('SET GLOBAL init_connect = ?', [former === '' ? guard : `${former}; ${guard}`])
}

/** Whatever they do: one that has just come in reads the log in a moment. */
export async function relaySessions(ask: Ask, user: string): Promise<number[]> {
  const sessions = listedSessions(await ask<Row>('SHOW PROCESSLIST'))
  return sessions.filter((session) => session.user === user).map(({ id }) => id)
}
