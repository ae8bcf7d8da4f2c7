import { WhiteholeError } from '../domain/errors.ts'
import { type Dialect, emptyPosition, parsePosition, type Position } from '../domain/position.ts'

/**
 * Statements whose answers, joined by `serverPosition`, cover every transaction whose change was visible to a read before them on the same
 * connection. They must be statements of their own, in this order.
 *
 * MariaDB: a transaction is in `gtid_binlog_pos` before it is visible, so that alone covers it. MySQL: it is visible before it
 * is in `gtid_executed` (a group's leader commits all its transactions, then notes them), and meanwhile it is in `gtid_owned`, which it
 * leaves in the same instant: so owned first, then executed. `gtid_owned` may hold transactions that a replica is still
 * executing; waiting for them is harmless.
 */
export function positionStatements(dialect: Dialect): readonly string[] {
  return dialect === 'mariadb'
    ? ['SELECT @@global.gtid_binlog_pos AS position']
    : ['SELECT @@global.gtid_owned AS position', 'SELECT @@global.gtid_executed AS position']
}

/** @param texts the answers to `positionStatements`, in their order */
export function serverPosition(dialect: Dialect, texts: readonly string[]): Position {
  if (dialect === 'mariadb') return texts[0] === undefined ? emptyPosition(dialect) : parsePosition(dialect, texts[0])
  const [owned = '', executed = ''] = texts
  return parsePosition(dialect, [...ownedGtids(owned), executed].join(','))
}

/** `uuid:7#41:8#42,uuid:3#9` (number # thread) → `uuid:7:8`, `uuid:3`. */
export function ownedGtids(text: string): string[] {
  const sets = text.replace(/\s/g, '').split(',')
  return sets.filter((set) => /^[0-9a-f]{8}-/i.test(set)).map((set) => set.replace(/#\d+/g, ''))
}

/** @throws WhiteholeError `log-unreadable` */
export function readPosition(dialect: Dialect, text: string): Position {
  try {
    return parsePosition(dialect, text)
  } catch (error) {
    throw unreadablePosition(error)
  }
}

export function unreadablePosition(cause: unknown): WhiteholeError {
  return new WhiteholeError('log-unreadable', "its set of GTIDs can't be read; tagged GTIDs are not supported", {
    cause,
  })
}
