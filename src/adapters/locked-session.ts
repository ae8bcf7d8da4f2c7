import { setTimeout as sleep } from 'node:timers/promises'
import {
  DatabaseControlError,
  type DatabaseFacts,
  type DatabaseTarget,
  type HistoryVerdict,
  type LockedDatabase,
} from '../domain/database-control.ts'
import { covers, formatPosition, parsePosition, type Position } from '../domain/position.ts'
import { type Ask, ControlSession, Deadline, sqlErrorNumber, toldError } from './control-session.ts'
import {
  askFacts,
  type ControlAccount,
  type ControlSql,
  isServerThread,
  listedSessions,
  portOf,
  readsTheLog,
  type Row,
  type ServerFacts,
  text,
} from './control-sql.ts'

import { guardAgainstRelays, relaySessions } from './relay-guard.ts'

export interface LockedSessionParts {
  readonly name: string
  /** Holds the lock. */
  readonly session: ControlSession
  readonly sql: ControlSql
  readonly account: ControlAccount
  readonly replication: ControlAccount
  /** With which relays read a log; undefined where there are none. */
  readonly relay?: ControlAccount | undefined
  readonly address: DatabaseTarget
  /** Another session with the same database, for what must be withdrawn. */
  readonly connect: (deadline: Deadline) => Promise<ControlSession>
}

const pollMilliseconds = 5
const withdrawMilliseconds = 2000
const compareMilliseconds = 5000
const standbysGoneMilliseconds = 500
const notEnded = new Set([1094, 1095])
const interrupted = new Set([1317, 1205, 1028])
const noSchema = new Set([1146, 1049, 1142])

/** All changes go over the one session that holds the lock; once it is gone, nothing more comes from here. */
export class LockedSession implements LockedDatabase {
  readonly #parts: LockedSessionParts
  readonly #sql: ControlSql

  constructor(parts: LockedSessionParts) {
    this.#parts = parts
    this.#sql = parts.sql
  }

  get held(): boolean {
    return this.#parts.session.open
  }

  async stopReceiving(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => {
      const { replication } = await this.#facts(ask)
      if (replication === undefined || replication.receiver === 'stopped') return
      const { keepsRelayLog, startApplier, stopReceiver } = this.#sql.replication
      // MariaDB throws the relay log away at any start while both threads stand, so the applier must run before the receiver stops.
      if (replication.applier === 'stopped' && !keepsRelayLog) await ask(startApplier)
      await ask(stopReceiver)
    })
  }

  async drain(timeoutMilliseconds: number): Promise<Position> {
    return this.#change(timeoutMilliseconds, async (ask, deadline) => {
      await this.#drain(ask, deadline)
      return this.#position(ask)
    })
  }

  async enableSemiSync(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => this.#enableSemiSync(ask))
  }

  async disableSemiSync(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => ask(this.#sql.semiSync.disablePrimary))
  }

  async evictReaders(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => {
      const readers = listedSessions(await ask<Row>('SHOW PROCESSLIST')).filter(
        (session) => readsTheLog(session) && session.user !== this.#parts.replication.user,
      )
      for (const { id } of readers) await ended(ask, this.#sql.endSession(id))
      const { relay } = this.#parts
      if (relay === undefined) return
      for (const id of await relaySessions(ask, relay.user)) await ended(ask, this.#sql.endSession(id))
    })
  }

  async standAlone(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => this.#standAlone(ask))
  }

  async prepare(given: { epoch: number; semiSync: boolean }, timeoutMilliseconds: number): Promise<Position> {
    return this.#change(timeoutMilliseconds, async (ask) => {
      await this.#standAlone(ask)
      if (given.semiSync) await this.#enableSemiSync(ask)
      else await ask(this.#sql.semiSync.disablePrimary)
      await this.#commitEpoch(ask, given.epoch)
      return this.#position(ask)
    })
  }

  async makeWritable(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => {
      await this.#sql.reopen(ask)
      await ask(this.#sql.writable)
    })
  }

  async makeReadOnly(timeoutMilliseconds: number): Promise<Position> {
    const deadline = new Deadline(timeoutMilliseconds)
    return this.#change(timeoutMilliseconds + withdrawMilliseconds, async (ask) => {
      const withdrawing = new AbortController()
      const withdrawal = this.#withdrawAt(deadline, withdrawing.signal)
      try {
        // Should this process die meanwhile, the server gives up by itself.
        await ask(`SET SESSION lock_wait_timeout = ${Math.max(1, Math.ceil(timeoutMilliseconds / 1000))}`)
        await ask(this.#sql.readOnly)
        return await this.#position(ask)
      } catch (error) {
        if (!interrupted.has(sqlErrorNumber(error) ?? 0)) throw error
        throw new DatabaseControlError(
          'timed-out',
          `${this.#parts.name} was not read-only in time: something holds it up`,
        )
      } finally {
        withdrawing.abort()
        await withdrawal
      }
    })
  }

  async fence(timeoutMilliseconds: number): Promise<'complete' | 'pending'> {
    return this.#change(timeoutMilliseconds, async (ask, deadline) => {
      await this.#sql.shut(ask)
      const sessions = listedSessions(await ask<Row>('SHOW PROCESSLIST'))
      for (const session of sessions.filter((one) => this.#mustGo(one))) {
        await ended(ask, this.#sql.endSession(session.id))
      }
      const isDone = await this.#parts.session.askAndLeave(this.#sql.readOnly, deadline)
      return isDone ? 'complete' : 'pending'
    })
  }

  async follow(source: DatabaseTarget, timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask, deadline) => {
      const facts = await this.#facts(ask)
      if (!followsAlready(facts, source)) await this.#follow(ask, { source, facts, deadline })
      await this.#sql.reopen(ask)
    })
  }

  async followAsRelay(source: DatabaseTarget, timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (ask) => {
      const { semiSync, replication: words, readOnly, durable } = this.#sql
      const { relay } = this.#parts
      if (relay === undefined) throw this.#refusal('is to be a relay, and no account for relays is configured')
      const facts = await this.#facts(ask)
      await ask(`${words.stop}; ${durable}`)
      if (!facts.readOnly) await ask(semiSync.disablePrimary)
      await ask(readOnly)
      if (facts.semiSync.primaryEnabled) await this.#endStandbys(ask)
      await ask(`${semiSync.standDown}; ${semiSync.disableStandby}`)
      await words.pointRelay(ask, [source.host, source.port, relay.user, relay.password])
      await ask(words.start)
      await this.#sql.reopen(ask)
    })
  }

  async ensureReplicationAccount(timeoutMilliseconds: number): Promise<void> {
    await this.#change(timeoutMilliseconds, async (_ask, deadline) => {
      const { address, replication } = this.#parts
      const at = { host: address.host, port: portOf(address) }
      const session = await ControlSession.open({ ...at, ...replication }, deadline).catch((error: unknown) => {
        const told = toldError(error)
        // The account may be good for the standby's address alone: then its receiver tells.
        if (told.code === 'refused') return undefined
        throw told
      })
      if (session === undefined) return
      try {
        const grants = await session.ask<Row>('SHOW GRANTS FOR CURRENT_USER', deadline)
        const words = grants.flatMap((row) => Object.values(row).map(String)).join(' ')
        if (/REPLICATION SLAVE|ALL PRIVILEGES/.test(words) && /CONNECTION.ADMIN|SUPER|ALL PRIVILEGES/.test(words))
          return
        throw this.#refusal(`has an account ${replication.user} without the rights of a standby: run "whitehole init"`)
      } finally {
        session.close()
      }
    })
  }

  async waitForPosition(position: Position, timeoutMilliseconds: number): Promise<void> {
    const until = new Deadline(timeoutMilliseconds)
    await this.#change(timeoutMilliseconds + withdrawMilliseconds, async (ask) => {
      for (;;) {
        const now = await this.#position(ask)
        if (covers(now, position)) return
        if (until.over) {
          throw new DatabaseControlError(
            'timed-out',
            `${this.#parts.name} has ${formatPosition(now)} and not yet ${formatPosition(position)}`,
          )
        }
        await sleep(pollMilliseconds)
      }
    })
  }

  async compareHistory(primary: DatabaseFacts, relay?: { readonly filtered: boolean }): Promise<HistoryVerdict> {
    return this.#change(compareMilliseconds, async (ask) => {
      const lost = relay?.filtered === true ? '' : await this.#sql.lostFromLog(ask)
      if (lost !== '')
        return { kind: 'errant', gtids: `up to ${lost}, in its tables but not in its log`, cure: 'rebuild' }
      const facts = await this.#facts(ask)
      const gtids = await this.#sql.compare(ask, facts.history, primary.history)
      if (gtids !== '') return { kind: 'errant', gtids, cure: await this.#sql.cure(ask) }
      const ignored = relay === undefined ? '' : this.#sql.ignoredOwn(facts, primary.history)
      if (ignored === '') return { kind: 'contained' }
      return { kind: 'errant', gtids: `none, but as a relay it would pass over its own ${ignored}`, cure: 'rebuild' }
    })
  }

  async passedOver(primary: DatabaseFacts): Promise<string> {
    return this.#change(compareMilliseconds, async (ask) => {
      const { history } = await this.#facts(ask)
      return this.#sql.compare(ask, primary.history, history)
    })
  }

  release(): void {
    this.#parts.session.close()
  }

  /** @throws DatabaseControlError; once the session is lost, `lock-lost` */
  async #change<T>(timeoutMilliseconds: number, work: (ask: Ask, deadline: Deadline) => Promise<T>): Promise<T> {
    const { session, name } = this.#parts
    const lost = (): DatabaseControlError => new DatabaseControlError('lock-lost', `the lock of ${name} is lost`)
    if (!session.open) throw lost()
    const deadline = new Deadline(timeoutMilliseconds)
    try {
      return await work(session.asking(deadline), deadline)
    } catch (error) {
      const told = toldError(error)
      if (told.code === 'away' && !session.open) throw lost()
      throw told
    }
  }

  async #facts(ask: Ask): Promise<ServerFacts> {
    return askFacts(this.#sql, (sql) => ask<Row[]>(sql), { replicationUser: this.#parts.replication.user })
  }

  async #position(ask: Ask): Promise<Position> {
    const [row] = await ask<Row>(this.#sql.position)
    return parsePosition(this.#sql.dialect, text(row, 'position'))
  }

  async #drain(ask: Ask, deadline: Deadline): Promise<void> {
    const { replication: words } = this.#sql
    const { replication } = await this.#facts(ask)
    if (replication === undefined) return
    if (replication.receiver !== 'stopped') throw this.#refusal('still receives: stop that before it is drained')
    const { received } = replication
    if (covers(await this.#position(ask), received)) return
    if (replication.applier === 'stopped') {
      if (!words.keepsRelayLog) {
        throw this.#refusal(
          'has received what it did not apply, and its replication has stopped: a start would lose it',
        )
      }
      await ask(words.startApplier)
    }
    while (!covers(await this.#position(ask), received)) {
      const now = await this.#facts(ask)
      const error = now.replication?.error ?? ''
      if (now.replication?.applier !== 'running' && error !== '') throw this.#refusal(`can't apply its log: ${error}`)
      if (deadline.over) throw new DatabaseControlError('timed-out', `${this.#parts.name} did not apply all in time`)
      await sleep(pollMilliseconds)
    }
  }

  /** "infinite" is the engine's largest number; a status that fell back comes back only by off and on. */
  async #enableSemiSync(ask: Ask): Promise<void> {
    const { semiSync } = this.#sql
    const { relay } = this.#parts
    await ask(semiSync.settings)
    if (relay !== undefined) await guardAgainstRelays(ask, this.#sql, relay.user)
    const facts = await this.#facts(ask)
    if (facts.semiSync.primaryEnabled && !facts.semiSync.primaryActive) await ask(semiSync.disablePrimary)
    await ask(semiSync.enablePrimary)
  }

  async #standAlone(ask: Ask): Promise<void> {
    const facts = await this.#facts(ask)
    if (!facts.readOnly) throw this.#refusal('is writable already')
    this.#requireDrained(facts)
    const { replication, semiSync } = this.#sql
    if (facts.replication !== undefined) await ask(`${replication.stop}; ${replication.forget}`)
    await ask(`${this.#sql.durable}; ${semiSync.disableStandby}`)
  }

  #requireDrained({ replication, position }: ServerFacts): void {
    if (replication === undefined || covers(position, replication.received)) return
    throw this.#refusal(
      `has received ${formatPosition(replication.received)} and applied ${formatPosition(position)}: drain it first`,
    )
  }

  /** With the marker's row, so that it is a transaction also where the epoch stands there already. */
  async #commitEpoch(ask: Ask, epoch: number): Promise<void> {
    await ask(this.#sql.admitSelf)
    try {
      await ask(
        `START TRANSACTION; UPDATE memcached.mc_meta SET value = ${epoch} WHERE name = 'epoch';
         UPDATE memcached.mc_meta SET value = value + 1 WHERE name = 'marker'; COMMIT`,
      )
    } catch (error) {
      // Before the first init there is nothing to write to.
      if (!noSchema.has(sqlErrorNumber(error) ?? 0)) throw error
      await ask('ROLLBACK')
    }
    await ask(this.#sql.admitNobody)
  }

  async #follow(
    ask: Ask,
    { source, facts, deadline }: { source: DatabaseTarget; facts: ServerFacts; deadline: Deadline },
  ): Promise<void> {
    const { semiSync, replication: words, readOnly, durable } = this.#sql
    const { replication } = facts
    if (replication !== undefined && this.#mayDrain(facts)) {
      if (replication.receiver !== 'stopped') {
        if (replication.applier === 'stopped') await ask(words.startApplier)
        await ask(words.stopReceiver)
      }
      await this.#drain(ask, deadline)
    }
    await ask(words.stop)
    const lost = await this.#sql.lostFromLog(ask)
    if (lost !== '') throw this.#refusal(`has ${lost} in its tables and not in its log: rebuild it`)
    await ask(durable)
    // Whoever still waits here was fenced, so no OK is told, and what they wait with the new primary has too (compared by our caller).
    // Behind them read_only would wait for ever. Where it is read-only already nobody waits, and there is a quicker way below.
    if (!facts.readOnly) await ask(semiSync.disablePrimary)
    await ask(readOnly)
    if (facts.semiSync.primaryEnabled) await this.#endStandbys(ask)
    await ask(`${semiSync.standDown}; ${semiSync.enableStandby}`)
    const { user, password } = this.#parts.replication
    await ask(words.point, [source.host, portOf(source), user, password])
    await ask(words.start)
  }

  /** Those that followed it until now: whatever it applies as a standby must not wait for them. */
  async #endStandbys(ask: Ask): Promise<void> {
    const deadline = new Deadline(standbysGoneMilliseconds)
    for (;;) {
      const { semiSync } = await this.#facts(ask)
      if (semiSync.clients === 0 || deadline.over) return
      for (const id of semiSync.attached) await ended(ask, `KILL CONNECTION ${id}`)
      await sleep(pollMilliseconds)
    }
  }

  /** What MariaDB received is lost already where both threads stand; what it lacks then comes from the new source. */
  #mayDrain({ replication }: ServerFacts): boolean {
    const stands = replication?.receiver === 'stopped' && replication.applier === 'stopped'
    return !stands || this.#sql.replication.keepsRelayLog
  }

  #mustGo(session: ReturnType<typeof listedSessions>[number]): boolean {
    const { account, replication } = this.#parts
    return !isServerThread(session) && session.user !== account.user && session.user !== replication.user
  }

  /** Ends our own statement when the time is over; the session and its lock stay. */
  async #withdrawAt(deadline: Deadline, signal: AbortSignal): Promise<void> {
    try {
      await sleep(deadline.leftMilliseconds, undefined, { signal })
    } catch {
      return
    }
    try {
      const other = await this.#parts.connect(new Deadline(withdrawMilliseconds))
      await other
        .ask(`KILL QUERY ${this.#parts.session.id}`, new Deadline(withdrawMilliseconds))
        .finally(() => other.close())
    } catch {
      // Then lock_wait_timeout ends it, or the deadline of the session.
    }
  }

  #refusal(text_: string): DatabaseControlError {
    return new DatabaseControlError('refused', `${this.#parts.name} ${text_}`)
  }
}

function followsAlready({ replication, semiSync, readOnly }: ServerFacts, source: DatabaseTarget): boolean {
  return (
    replication !== undefined &&
    replication.source.host === source.host &&
    replication.source.port === portOf(source) &&
    replication.receiver !== 'stopped' &&
    replication.applier === 'running' &&
    readOnly &&
    semiSync.standbyEnabled &&
    !semiSync.primaryEnabled
  )
}

/** Who is gone already is no error; nor is an administrator whom MySQL protects from us (SYSTEM_USER). */
async function ended(ask: Ask, statement: string): Promise<void> {
  try {
    await ask(statement)
  } catch (error) {
    if (!notEnded.has(sqlErrorNumber(error) ?? 0)) throw error
  }
}
