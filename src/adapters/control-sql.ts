import type { DatabaseFacts, DatabaseTarget, HistoryVerdict } from '../domain/database-control.ts'
import type { Dialect } from '../domain/position.ts'
import type { Ask } from './control-session.ts'

export interface ControlAccount {
  readonly user: string
  readonly password: string
}

/** All but the epoch, which is in our schema. */
export type ServerFacts = Omit<DatabaseFacts, 'epoch'>

export interface FactsContext {
  /** Who reads the log as a standby does. */
  readonly replicationUser: string
}

/**
 * How an engine words what the monitor asks for. Plain statements of one line or several; functions where an answer decides what comes
 * next. Nothing here waits behind writers that wait for a standby, save where it says so (research: `semisync.md`).
 */
export interface ControlSql {
  readonly dialect: Dialect
  /** Asked at once, answered by `facts`. */
  readonly look: string
  /** Undefined where the answers don't belong together: to be asked again. */
  readonly facts: (rows: readonly (readonly Row[])[], context: FactsContext) => ServerFacts | undefined
  /** What its own log holds, as `position`. */
  readonly position: string
  /** The same right after a commit of this session, covering it, without what others have under way. */
  readonly committed: string
  /** Waits behind writers that wait for a standby. */
  readonly readOnly: string
  /** Each transaction is on disk in the log before it is answered. */
  readonly durable: string
  readonly writable: string
  /** While it is read-only for everybody else, this session may write; and back. */
  readonly admitSelf: string
  readonly admitNobody: string
  readonly semiSync: {
    /** The variable that says whether commits wait for a standby. */
    readonly enabled: string
    readonly settings: string
    readonly enablePrimary: string
    readonly disablePrimary: string
    /** The same of a read-only database without standbys, at once: it is about to be one itself. */
    readonly standDown: string
    readonly enableStandby: string
    readonly disableStandby: string
  }
  readonly replication: {
    readonly stopReceiver: string
    readonly startApplier: string
    readonly stop: string
    readonly start: string
    readonly forget: string
    /** From where its own log ends. Values: host, port, user, password. */
    readonly point: string
    /** The same of a relay: from where it is. */
    readonly pointRelay: (ask: Ask, values: readonly unknown[]) => Promise<void>
    /** The relay log outlives a start of the applier while both threads stand. */
    readonly keepsRelayLog: boolean
  }
  /** New sessions are refused, save those of administrators (CONNECTION ADMIN); idempotent. */
  readonly shut: (ask: Ask) => Promise<void>
  /** Undoes it, if it was done. */
  readonly reopen: (ask: Ask) => Promise<void>
  /** Ends a client without an OK for a commit of its that waits. */
  readonly endSession: (id: number) => string
  /** What one history has and the other lacks. */
  readonly compare: (ask: Ask, mine: string, primary: string) => Promise<string>
  /** What a server wrote itself, lacks by now, and would ignore as a relay. */
  readonly ignoredOwn: (mine: Pick<ServerFacts, 'serverId' | 'history'>, primary: string) => string
  /** Transactions that its tables have and its own log lost: it crashed while it did not sync its log (R10). */
  readonly lostFromLog: (ask: Ask) => Promise<string>
  /** Whether a restart as standby would take its unacknowledged tail away. */
  readonly cure: (ask: Ask) => Promise<Extract<HistoryVerdict, { kind: 'errant' }>['cure']>
}

/** `ask` is bounded in time. */
export async function askFacts(
  sql: Pick<ControlSql, 'look' | 'facts'>,
  ask: (sql: string) => Promise<readonly (readonly Row[])[]>,
  context: FactsContext,
): Promise<ServerFacts> {
  for (;;) {
    const facts = sql.facts(await ask(sql.look), context)
    if (facts !== undefined) return facts
  }
}

export type Row = Readonly<Record<string, unknown>>

export function portOf(target: DatabaseTarget): number {
  return target.adminPort ?? target.port
}

/** A column of a row whose engine gives text or numbers. */
export function text(row: Row | undefined, column: string): string {
  const value = row?.[column]
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
}

export function number(row: Row | undefined, column: string): number {
  return Number(row?.[column] ?? 0)
}

/** `VARIABLE_NAME` in capitals → value. */
export function statusMap(rows: readonly Row[] | undefined): ReadonlyMap<string, string> {
  const pair = (row: Row): readonly [string, string] =>
    'Variable_name' in row ? [text(row, 'Variable_name'), text(row, 'Value')] : [text(row, 'name'), text(row, 'value')]
  return new Map((rows ?? []).map(pair).map(([name, value]) => [name.toUpperCase(), value]))
}

/**
 * Grows whenever the source was heard: heartbeats come only while there is nothing else, so the place that was read up to counts as well.
 * File number × 2³³ + place + heartbeats stays below 2⁵³ for a million files.
 */
export function heardFrom(file: string, place: number, heartbeats: number): number {
  return Number(/(\d+)$/.exec(file)?.[1] ?? 0) * 2 ** 33 + place + heartbeats
}

/** Connections of a process list. */
export interface ListedSession {
  readonly id: number
  readonly user: string
  readonly command: string
  readonly state: string
}

export function listedSessions(rows: readonly Row[]): ListedSession[] {
  return rows.map((row) => ({
    id: number(row, 'Id'),
    user: text(row, 'User'),
    command: text(row, 'Command'),
    state: text(row, 'State'),
  }))
}

export function readsTheLog({ command }: ListedSession): boolean {
  return command.startsWith('Binlog Dump')
}

/** The server's own threads. */
export function isServerThread({ user, command }: ListedSession): boolean {
  return user === 'system user' || user === 'event_scheduler' || command === 'Daemon'
}

export function isDiskFull(sessions: readonly ListedSession[]): boolean {
  return sessions.some(({ state }) => /disk space|free space|disk (is )?full/i.test(state))
}
