import { covers, type Dialect, parsePosition, type Position } from './position.ts'

/**
 * All that a database ever had in its log, purged or not. A MariaDB position names one GTID a domain, and whoever has a later number of that
 * domain seems to cover it, also after another history: this knows the last number of each server of each domain.
 */
export type History = MariadbHistory | MysqlHistory

interface MariadbHistory {
  readonly dialect: 'mariadb'
  /** By `domain-server`. */
  readonly last: ReadonlyMap<string, number>
}

interface MysqlHistory {
  readonly dialect: 'mysql'
  readonly transactions: Position
}

/**
 * @param text MariaDB: `gtid_binlog_state`, with `gtid_slave_pos` (a database made from a copy logged nothing of what it has); MySQL: a set
 * @throws RangeError on text that no server writes
 */
export function parseHistory(dialect: Dialect, text: string): History {
  if (dialect === 'mysql') return { dialect, transactions: parsePosition(dialect, text) }
  const last = new Map<string, number>()
  for (const part of text.replace(/\s/g, '').split(',')) {
    if (part === '') continue
    const match = /^(\d+-\d+)-(\d+)$/.exec(part)
    if (match === null) throw new RangeError(`"${part}" is no MariaDB GTID: expected domain-server-sequence`)
    const [, server = '', sequence] = match
    last.set(server, Math.max(last.get(server) ?? 0, Number(sequence)))
  }
  return { dialect, last }
}

/**
 * Was every transaction that `position` names ever here? Not told apart: a server that lost its tail and used the same numbers again
 * (`sync_binlog=1` prevents it).
 */
export function holds(history: History, position: Position): boolean {
  if (history.dialect === 'mysql') return covers(history.transactions, position)
  if (position.dialect !== 'mariadb') return false
  return [...position.domains.values()].every(
    ({ domain, server, sequence }) => (history.last.get(`${domain}-${server}`) ?? -1) >= sequence,
  )
}

/**
 * Has `other` what `primary` never had? A server of which the primary's history knows nothing at all proves nothing on MariaDB: one that was
 * made from a copy forgets those before.
 */
export function strays(other: History, primary: History): boolean {
  if (other.dialect === 'mysql') return !holds(primary, other.transactions)
  if (primary.dialect !== 'mariadb') return true
  return [...other.last].some(([server, sequence]) => sequence > (primary.last.get(server) ?? Infinity))
}
