import { formatPlace, type LostTail, parsePlace } from '../domain/cluster-record.ts'
import {
  type DatabaseControl,
  DatabaseControlError,
  type DatabaseFacts,
  type DatabaseHost,
  type DatabaseTarget,
  type LockedDatabase,
} from '../domain/database-control.ts'
import { describeError } from '../domain/errors.ts'
import type { Position } from '../domain/position.ts'
import type { Ballot } from './ballot.ts'
import type { Operation, OperationResult, OperationValue } from './operations.ts'

export interface ExecutorParts {
  readonly databases: Readonly<Record<string, DatabaseControl>>
  readonly hosts: Readonly<Record<string, DatabaseHost>>
  /** Where each relay reaches each database, if that is not the database's address. */
  readonly relaySources?: Readonly<Record<string, Readonly<Record<string, DatabaseTarget>>>>
  /** Asks the voters: does a majority still know of no higher ballot? */
  readonly confirm: (ballot: Ballot, signal: AbortSignal) => Promise<boolean>
  readonly timeouts: ExecutorTimeouts
  /** Asked first, before any lock is taken and anything changed; rejects where it must not be done (a hook's veto). */
  readonly mayBegin?: (operation: Operation, signal: AbortSignal) => Promise<void>
  /** Reads what a former primary has beyond a position, from its log. */
  readonly readTail?: (database: string, after: Position) => Promise<LostTail>
  /** Places where tests end or stop the process. */
  readonly passing?: (failpoint: Failpoint) => void | Promise<void>
}

export interface ExecutorTimeouts {
  readonly lockMilliseconds: number
  readonly stepMilliseconds: number
  readonly drainMilliseconds: number
}

export const executorTimeouts: ExecutorTimeouts = {
  lockMilliseconds: 1500,
  stepMilliseconds: 2000,
  drainMilliseconds: 30_000,
}

export type Failpoint =
  | 'before-fence'
  | 'after-fence'
  | 'before-drain'
  | 'after-drain'
  | 'before-writable'
  | 'after-writable'
  | 'before-repoint'
  | 'before-unpair'
  | 'after-read-only'

/**
 * Carries out what the machine decided. Two monitors may be at it at once, one of them an old one that was paused: so each operation first
 * takes the locks of the databases that it changes (whoever had them is killed), and *then* asks a majority whether its ballot is still
 * the highest. Either a successor was promised before that answer, and we stop; or after it, and then the successor's own lock ends
 * our session before it changes anything (R9).
 */
export class Executor {
  readonly #parts: ExecutorParts
  /** After a hand-over writers wait for the opening that follows: it need not connect again. The voters are asked anew all the same. */
  #kept: KeptLocks = new Map()

  constructor(parts: ExecutorParts) {
    this.#parts = parts
  }

  /** Never rejects. Once aborted nothing new is begun, and what is under way on a connection is left to itself. */
  async run(operation: Operation, ballot: Ballot, signal: AbortSignal): Promise<OperationResult> {
    const work = new Work(this.#parts, { ballot, signal, kept: this.#takeKept(operation) })
    let keeps = false
    try {
      const { mayBegin } = this.#parts
      if (mayBegin !== undefined) await work.orAborted(mayBegin(operation, signal))
      const value = await work.orAborted(carryOut(work, operation))
      keeps = operation.kind === 'hand-over'
      return { ok: true, value }
    } catch (error) {
      return { ok: false, error: describeError(error) }
    } finally {
      if (keeps) this.#kept = work.keep()
      else work.release()
    }
  }

  /** Lets go what was kept for an operation that won't come. */
  release(): void {
    for (const locked of this.#kept.values()) locked.release()
    this.#kept = new Map()
  }

  #takeKept(operation: Operation): KeptLocks {
    // A marker needs no lock, and may come in between.
    if (operation.kind === 'mark') return new Map()
    const kept = this.#kept
    this.#kept = new Map()
    return kept
  }
}

type KeptLocks = Map<string, LockedDatabase>

/** One operation with the locks that it holds. */
class Work {
  readonly #parts: ExecutorParts
  readonly #ballot: Ballot
  readonly #signal: AbortSignal
  readonly #locked: KeptLocks
  #released = false

  constructor(parts: ExecutorParts, given: { ballot: Ballot; signal: AbortSignal; kept: KeptLocks }) {
    this.#parts = parts
    this.#ballot = given.ballot
    this.#signal = given.signal
    this.#locked = given.kept
  }

  get timeouts(): ExecutorTimeouts {
    return this.#parts.timeouts
  }

  get signal(): AbortSignal {
    return this.#signal
  }

  /** The locks of all of them, then the voters' word that they are rightly ours. */
  async lock(...names: readonly string[]): Promise<readonly LockedDatabase[]> {
    const { lockMilliseconds } = this.timeouts
    const taken = await Promise.allSettled(
      names.map(async (name) => {
        const kept = this.#locked.get(name)
        if (kept?.held === true) return kept
        const locked = await this.control(name).takeLock(lockMilliseconds)
        if (this.#released) locked.release()
        else this.#locked.set(name, locked)
        return locked
      }),
    )
    const locked = taken.map((one) => {
      if (one.status === 'rejected') throw one.reason
      return one.value
    })
    await this.confirm()
    return locked
  }

  async confirm(): Promise<void> {
    this.#signal.throwIfAborted()
    if (await this.#parts.confirm(this.#ballot, this.#signal)) return
    throw new DatabaseControlError('lock-lost', 'a majority of voters does not confirm that this monitor acts')
  }

  control(name: string): DatabaseControl {
    const control = this.#parts.databases[name]
    if (control === undefined) throw new Error(`there is no database ${name}`)
    return control
  }

  /** Where a relay finds its source. */
  addressFor(relay: string, source: string): DatabaseTarget {
    const address = this.#parts.relaySources?.[relay]?.[source] ?? this.control(source).address
    return { ...address, adminPort: undefined }
  }

  host(name: string): DatabaseHost {
    const host = this.#parts.hosts[name]
    if (host === undefined) throw new Error(`nothing is known about how to restart ${name}`)
    return host
  }

  /** Undefined where it can't be read: nothing waits for it. */
  async readTail(name: string, after: Position): Promise<LostTail | undefined> {
    return this.#parts.readTail?.(name, after).catch(() => undefined)
  }

  async facts(name: string): Promise<DatabaseFacts> {
    const sight = await this.control(name).probe(this.timeouts.stepMilliseconds)
    if (!sight.answers) throw new DatabaseControlError('away', `${name}: ${sight.detail}`)
    return sight.facts
  }

  /** Before whatever can't be taken back. */
  async pass(failpoint: Failpoint): Promise<void> {
    await this.#parts.passing?.(failpoint)
    this.#signal.throwIfAborted()
  }

  async orAborted<T>(work: Promise<T>): Promise<T> {
    let stop: (() => void) | undefined
    const aborted = new Promise<never>((_, reject) => {
      stop = (): void => reject(new Error('called off'))
      if (this.#signal.aborted) stop()
      else this.#signal.addEventListener('abort', stop, { once: true })
    })
    try {
      return await Promise.race([work, aborted])
    } finally {
      if (stop !== undefined) this.#signal.removeEventListener('abort', stop)
      work.catch(() => {})
    }
  }

  release(): void {
    this.#released = true
    for (const locked of this.#locked.values()) locked.release()
  }

  /** Instead of `release`. */
  keep(): KeptLocks {
    this.#released = true
    return this.#locked
  }
}

async function carryOut(work: Work, operation: Operation): Promise<OperationValue> {
  switch (operation.kind) {
    case 'drain':
      return drain(work, operation.database)
    case 'open':
      return open(work, operation)
    case 'open-paired':
      return openPaired(work, operation)
    case 'pair':
      return pair(work, operation)
    case 'unpair':
      return unpair(work, operation.database)
    case 'attach':
      return attach(work, operation)
    case 'attach-relay':
      return attachRelay(work, operation)
    case 'hand-over':
      return handOver(work, operation)
    case 'freeze':
      return freeze(work, operation.database)
    case 'fence':
      return fence(work, operation.database)
    case 'mark':
      await work.control(operation.database).commitMarker(work.timeouts.stepMilliseconds)
      return {}
    case 'restart':
    case 'rebuild':
      return rehost(work, operation)
  }
}

async function drain(work: Work, database: string): Promise<OperationValue> {
  const [locked] = await work.lock(database)
  await work.pass('before-drain')
  await locked?.stopReceiving(work.timeouts.stepMilliseconds)
  const position = await locked?.drain(work.timeouts.drainMilliseconds)
  await work.pass('after-drain')
  return position === undefined ? {} : { position: formatPlace(position) }
}

async function open(work: Work, given: { database: string; epoch: number }): Promise<OperationValue> {
  const { stepMilliseconds } = work.timeouts
  const [locked] = await work.lock(given.database)
  const facts = await work.facts(given.database)
  if (!facts.readOnly) {
    // Whoever was at it before has made it writable already, or it was so before there was any record.
    // `solo` is recorded, so whoever waits for the standby is let go: behind them nothing becomes read-only.
    await locked?.disableSemiSync(stepMilliseconds)
    if (facts.epoch === given.epoch) return { instance: facts.instance }
    await locked?.makeReadOnly(stepMilliseconds)
  }
  await locked?.prepare({ epoch: given.epoch, semiSync: false }, stepMilliseconds)
  await work.pass('before-writable')
  await locked?.makeWritable(stepMilliseconds)
  await work.pass('after-writable')
  const { instance } = await work.facts(given.database)
  return { instance }
}

async function openPaired(
  work: Work,
  { primary, standby, epoch }: { primary: string; standby: string; epoch: number },
): Promise<OperationValue> {
  const { stepMilliseconds } = work.timeouts
  const [p, s] = await work.lock(primary, standby)
  if (p === undefined || s === undefined) return {}
  // It may still be the standby of the one that is to follow it.
  await p.stopReceiving(stepMilliseconds)
  const facts = await work.facts(primary)
  const verdict = await s.compareHistory(facts)
  if (verdict.kind === 'errant') throw new Error(`${standby} has what ${primary} lacks: ${verdict.gtids}`)
  await work.pass('before-repoint')
  await p.ensureReplicationAccount(stepMilliseconds)
  const isOpen = !facts.readOnly && facts.epoch === epoch
  if (!facts.readOnly && !isOpen) await p.makeReadOnly(stepMilliseconds)
  // Both write to their disks, and after a hand-over writers wait.
  await Promise.all([
    s.follow(work.control(primary).address, stepMilliseconds),
    isOpen ? undefined : p.standAlone(stepMilliseconds),
  ])
  const { instance: standbyInstance } = await work.facts(standby)
  await s.waitForPosition(facts.position, stepMilliseconds)
  // Enabled, then nobody but the standby reads, then the marker: whatever a node sees of this epoch, the standby has.
  await p.enableSemiSync(stepMilliseconds)
  await p.evictReaders(stepMilliseconds)
  const marked = isOpen
    ? await work.control(primary).commitMarker(stepMilliseconds)
    : await p.prepare({ epoch, semiSync: true }, stepMilliseconds)
  await s.waitForPosition(marked, stepMilliseconds)
  const lacks = await s.passedOver(facts)
  if (lacks !== '') throw new Error(`${standby} has passed over ${lacks}`)
  await work.pass('before-writable')
  await p.makeWritable(stepMilliseconds)
  await work.pass('after-writable')
  return { instance: facts.instance, standbyInstance }
}

async function pair(work: Work, { primary, standby }: { primary: string; standby: string }): Promise<OperationValue> {
  const { stepMilliseconds } = work.timeouts
  const [p, s] = await work.lock(primary, standby)
  if (p === undefined || s === undefined) return {}
  const before = await work.facts(primary)
  const { position } = await work.facts(primary)
  // Asked first: should it restart on the way, its successor under the same name is not taken for it.
  const { instance: standbyInstance } = await work.facts(standby)
  await s.waitForPosition(position, stepMilliseconds)
  // A position does not tell of what was passed over on the way to it. Asked of what was there before the position was.
  const lacks = await s.passedOver(before)
  if (lacks !== '') {
    return { errant: { gtids: `none, but it has passed over ${lacks}`, cure: 'rebuild' }, instance: standbyInstance }
  }
  await p.enableSemiSync(stepMilliseconds)
  await p.evictReaders(stepMilliseconds)
  const marked = await work.control(primary).commitMarker(stepMilliseconds)
  await s.waitForPosition(marked, stepMilliseconds)
  return { standbyInstance }
}

async function unpair(work: Work, database: string): Promise<OperationValue> {
  const [locked] = await work.lock(database)
  await work.pass('before-unpair')
  await locked?.disableSemiSync(work.timeouts.stepMilliseconds)
  return {}
}

async function attach(work: Work, operation: Extract<Operation, { kind: 'attach' }>): Promise<OperationValue> {
  const { primary, standby, anew, until } = operation
  const { stepMilliseconds } = work.timeouts
  const [p, s] = await work.lock(primary, standby)
  if (p === undefined || s === undefined) return {}
  await p.ensureReplicationAccount(stepMilliseconds)
  let verdict = await s.compareHistory(await work.facts(primary))
  if (verdict.kind === 'errant') {
    // A standby that follows may have got what the primary had not yet when it was looked at: looked at again once nothing more comes.
    await s.stopReceiving(stepMilliseconds)
    verdict = await s.compareHistory(await work.facts(primary))
  }
  if (verdict.kind === 'errant') {
    const { gtids, cure } = verdict
    const { instance } = await work.facts(standby)
    // A restart or a rebuild takes it away for good.
    const tail = until === null ? undefined : await work.readTail(standby, parsePlace(until))
    return { errant: { gtids, cure }, instance, ...(tail === undefined ? {} : { tail }) }
  }
  await work.pass('before-repoint')
  if (anew) await s.stopReceiving(stepMilliseconds)
  await s.follow(work.control(primary).address, work.timeouts.drainMilliseconds)
  return {}
}

async function attachRelay(
  work: Work,
  operation: Extract<Operation, { kind: 'attach-relay' }>,
): Promise<OperationValue> {
  const { relay, source, primary, filtered } = operation
  const [r, s] = await work.lock(relay, source)
  if (r === undefined || s === undefined) return {}
  // Under the lock of the source: nobody makes it a primary that waits before we are done.
  const { semiSync } = await work.facts(source)
  if (semiSync.primaryEnabled) throw new Error(`${source} waits for its standby: no relay may read its log`)
  const { instance, replication } = await work.facts(relay)
  let verdict = await r.compareHistory(await work.facts(primary), { filtered })
  if (verdict.kind === 'contained' && lostItsPlace(replication?.error ?? '')) {
    verdict = { kind: 'errant', gtids: replication?.error ?? '', cure: 'rebuild' }
  }
  if (verdict.kind === 'errant') return { errant: { gtids: verdict.gtids, cure: verdict.cure }, instance }
  await work.pass('before-repoint')
  // Many questions, each of them across the link.
  await r.followAsRelay(work.addressFor(relay, source), work.timeouts.drainMilliseconds)
  return {}
}

/** Its source has purged what it lacks (1236). */
function lostItsPlace(error: string): boolean {
  return /\b1236\b|purged|could not find the master (binlog|position)/i.test(error)
}

async function handOver(
  work: Work,
  { primary, standby }: { primary: string; standby: string },
): Promise<OperationValue> {
  const { stepMilliseconds } = work.timeouts
  const [p, s] = await work.lock(primary, standby)
  if (p === undefined || s === undefined) return {}
  const position = await p.makeReadOnly(stepMilliseconds)
  await work.pass('after-read-only')
  await s.waitForPosition(position, stepMilliseconds)
  return { position: formatPlace(position) }
}

async function freeze(work: Work, database: string): Promise<OperationValue> {
  const [locked] = await work.lock(database)
  await locked?.makeReadOnly(work.timeouts.stepMilliseconds)
  return {}
}

async function fence(work: Work, database: string): Promise<OperationValue> {
  const [locked] = await work.lock(database)
  const { instance } = await work.facts(database)
  await work.pass('before-fence')
  const how = await locked?.fence(work.timeouts.stepMilliseconds)
  await work.pass('after-fence')
  return { instance, complete: how === 'complete' }
}

/** A kill and a restart as standby throw away what the primary may need (R3): so the voters are asked at the last moment. */
async function rehost(
  work: Work,
  operation: Extract<Operation, { kind: 'restart' | 'rebuild' }>,
): Promise<OperationValue> {
  const host = work.host(operation.database)
  await work.confirm()
  if (operation.kind === 'restart') await host.restart('standby', work.signal)
  else await host.rebuild(work.control(operation.from).address, work.signal)
  return {}
}
