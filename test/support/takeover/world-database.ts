import {
  type DatabaseControl,
  DatabaseControlError,
  type DatabaseFacts,
  type DatabaseSight,
  type DatabaseTarget,
  type HistoryVerdict,
  type LockedDatabase,
} from '../../../src/domain/database-control.ts'
import { type MariadbPosition, parsePosition, type Position } from '../../../src/domain/position.ts'
import type { WorldClock } from './world-clock.ts'
import { type WorldNetwork, WorldProcess } from './world-network.ts'

export interface Transaction {
  readonly server: number
  readonly sequence: number
  readonly id: string
}

/** Somebody who reads a database's log: its standby, or a node. */
interface Attached {
  readonly id: number
  readonly kind: 'standby' | 'reader'
  readonly semiSync: boolean
  readonly send: (work: () => void) => void
  readonly receive: (transaction: Transaction | 'heartbeat') => void
  readonly ended: () => void
  open: boolean
}

export interface WorldObserver {
  /** COMMIT was answered with OK. */
  acknowledged(database: WorldDatabase, transaction: Transaction): void
  madeWritable(database: WorldDatabase): void
}

interface Parts {
  readonly name: string
  readonly serverId: number
  readonly clock: WorldClock
  readonly network: WorldNetwork
  readonly observer: WorldObserver
  /** The other databases, by name. */
  readonly find: (name: string) => WorldDatabase
  readonly breaks: {
    readonly leavesReaders?: boolean
    readonly skipsDrain?: boolean
    readonly blindToPositions?: boolean
  }
}

/**
 * A MariaDB as the takeover sees it: a log that survives, a relay log that does not, semi-sync as a fence, and the ways out of it that
 * research/semisync.md found.
 */
export class WorldDatabase {
  readonly process: WorldProcess
  readonly #parts: Parts
  log: Transaction[] = []
  relay: Transaction[] = []
  readOnly = true
  locked = false
  semiPrimary = false
  semiStandby = false
  source: string | null = null
  receiver: 'connected' | 'connecting' | 'stopped' = 'stopped'
  applying = false
  epoch: number | undefined
  applyMilliseconds = 4
  heartbeats = 0
  #receiving = 0
  #heardAt = 0
  #attached = new Map<number, Attached>()
  #acknowledgedLength = 0
  #waiters: { length: number; done: (ok: boolean) => void }[] = []
  #lock: Session | undefined
  /** Where a start as standby would cut the log: what the engine had not committed for sure. */
  #crashTail: number | undefined
  #ids = 0
  /** The life of the process in which the next one is being applied. */
  #applyingLife = 0
  #unacknowledged = 0

  constructor(parts: Parts) {
    this.#parts = parts
    this.process = new WorldProcess(parts.name, parts.clock)
    this.#boot()
  }

  get name(): string {
    return this.#parts.name
  }

  get instance(): string {
    return `${this.name}#${this.process.life}`
  }

  get position(): MariadbPosition {
    return positionOf(this.log)
  }

  get waiting(): number {
    return this.#waiters.length
  }

  has(transaction: Transaction): boolean {
    return this.log[transaction.sequence - 1]?.id === transaction.id
  }

  kill(): void {
    const waiting = Math.min(...this.#waiters.map(({ length }) => length - 1), this.log.length)
    const last = this.log.at(-1)
    // The last commit of a primary is not yet safe in the engine (R3: truncated 3 times of 3).
    this.#crashTail = last?.server === this.#parts.serverId ? Math.min(waiting, this.log.length - 1) : waiting
    const attached = [...this.#attached.values()]
    this.#attached.clear()
    this.#waiters = []
    this.process.die()
    for (const one of attached) {
      if (one.open && !this.#parts.network.isCut(this.name, 'anybody')) this.#parts.clock.after(2, one.ended)
    }
    this.relay = []
    this.#lock = undefined
  }

  start(role: 'primary' | 'standby'): void {
    if (role === 'standby' && this.#crashTail !== undefined)
      this.log.length = Math.min(this.#crashTail, this.log.length)
    this.#crashTail = undefined
    this.readOnly = true
    this.locked = false
    this.semiPrimary = false
    this.semiStandby = false
    this.receiver = 'stopped'
    this.applying = false
    this.heartbeats = 0
    this.#acknowledgedLength = 0
    this.#unacknowledged = 0
    this.process.start()
    this.#boot()
  }

  copyFrom(other: WorldDatabase): void {
    this.log = [...other.log]
    this.epoch = other.epoch
  }

  /** A writer's statement. @returns the transaction and whether COMMIT came back with OK; undefined: refused with 1290 */
  write(id: string): { transaction: Transaction; committed: Promise<boolean> } | undefined {
    if (this.readOnly || this.locked) return undefined
    return this.#commit(id)
  }

  /** Somebody connects for this database's log from a position on. */
  attach(given: Omit<Attached, 'id' | 'open'> & { from: Transaction | undefined }): Attached | 'unknown-position' {
    const { from } = given
    if (from !== undefined && !this.has(from)) return 'unknown-position'
    this.#ids += 1
    const attached: Attached = { ...given, id: this.#ids, open: true }
    this.#attached.set(attached.id, attached)
    for (const transaction of this.log.slice(from?.sequence ?? 0)) this.#push(attached, transaction)
    return attached
  }

  detach(attached: Attached): void {
    attached.open = false
    this.#attached.delete(attached.id)
  }

  facts(): DatabaseFacts {
    return {
      instance: this.instance,
      version: 'world',
      serverId: this.#parts.serverId,
      readOnly: this.readOnly,
      epoch: this.epoch,
      position: this.#parts.breaks.blindToPositions === true && this.source !== null ? positionOf([]) : this.position,
      history: historyOf(this.log),
      replication:
        this.source === null
          ? undefined
          : {
              source: { host: this.source, port: 1 },
              receiver: this.receiver,
              applier: this.applying ? 'running' : 'stopped',
              received: positionOf(
                this.#parts.breaks.blindToPositions === true ? [] : this.relay.length > 0 ? this.relay : this.log,
              ),
              heartbeats: this.heartbeats,
              error: '',
            },
      semiSync: {
        primaryEnabled: this.semiPrimary,
        primaryActive: this.semiPrimary,
        clients: [...this.#attached.values()].filter(({ semiSync }) => semiSync).length,
        attached: [...this.#attached.values()].filter(({ kind }) => kind === 'standby').map(({ id }) => `${id}`),
        waiting: this.#waiters.length,
        unacknowledged: this.#unacknowledged,
        standbyEnabled: this.semiStandby,
      },
      diskFull: false,
      clockSeconds: 0,
    }
  }

  /** A monitor process's side of the port. */
  controlFor(monitor: WorldProcess): DatabaseControl {
    return new WorldControl({ database: this, monitor, clock: this.#parts.clock, network: this.#parts.network })
  }

  takeLock(): Session {
    this.#lock?.kill()
    const session = new Session(this.process.life)
    this.#lock = session
    return session
  }

  stopReceiving(): void {
    this.receiver = 'stopped'
    this.#receiving += 1
  }

  drained(): Promise<void> {
    return this.#until(() => this.relay.length === 0 || this.#parts.breaks.skipsDrain === true)
  }

  reaches(position: Position): Promise<void> {
    const wanted = position.dialect === 'mariadb' ? (position.domains.get(0)?.sequence ?? 0) : 0
    return this.#until(() => this.log.length >= wanted)
  }

  enableSemiSync(): void {
    if (!this.semiPrimary) this.#acknowledgedLength = 0
    this.semiPrimary = true
  }

  disableSemiSync(): void {
    this.semiPrimary = false
    const waiters = this.#waiters
    this.#waiters = []
    this.#unacknowledged += waiters.length
    for (const { done } of waiters) done(true)
  }

  evictReaders(): void {
    if (this.#parts.breaks.leavesReaders === true) return
    for (const attached of this.#attached.values()) {
      if (attached.kind !== 'reader') continue
      this.detach(attached)
      this.#parts.clock.after(2, attached.ended)
    }
  }

  standAlone(): void {
    if (!this.readOnly) throw new DatabaseControlError('refused', 'is writable already')
    this.stopReceiving()
    this.applying = false
    this.source = null
    // RESET SLAVE ALL: whoever did not drain has lost it.
    this.relay = []
    this.semiStandby = false
  }

  async prepare(given: { epoch: number; semiSync: boolean }): Promise<Position> {
    this.standAlone()
    if (given.semiSync) this.enableSemiSync()
    else this.disableSemiSync()
    if (this.epoch !== given.epoch) {
      this.epoch = given.epoch
      const { committed } = this.#commit(`epoch-${given.epoch}-${this.name}`)
      if (!(await committed)) throw new DatabaseControlError('away', 'died')
    }
    return this.position
  }

  makeWritable(): void {
    this.readOnly = false
    this.locked = false
    this.#parts.observer.madeWritable(this)
  }

  async makeReadOnly(): Promise<Position> {
    // Statements under way end first, later ones wait for the change and then get 1290.
    this.readOnly = true
    await this.#until(() => this.#waiters.length === 0 || !this.readOnly)
    return this.position
  }

  /** Whoever waits is let go without an OK; the change stays pending behind their commits, which show nothing. */
  fence(): 'complete' | 'pending' {
    this.locked = true
    for (const waiter of this.#waiters) waiter.done = () => {}
    if (this.#waiters.length > 0) return 'pending'
    this.readOnly = true
    return 'complete'
  }

  errant(primary: DatabaseFacts): HistoryVerdict {
    const theirs = JSON.parse(primary.history) as Record<string, number>
    const mine = JSON.parse(historyOf(this.log)) as Record<string, number>
    const surplus = Object.entries(mine).filter(([server, sequence]) => sequence > (theirs[server] ?? 0))
    if (surplus.length === 0) return { kind: 'contained' }
    const waitingFrom = Math.min(...this.#waiters.map(({ length }) => length), Infinity)
    const inWaiters = surplus.every(([server]) =>
      this.log.every(
        (one) => `${one.server}` !== server || one.sequence <= (theirs[server] ?? 0) || one.sequence >= waitingFrom,
      ),
    )
    return { kind: 'errant', gtids: JSON.stringify(surplus), cure: inWaiters ? 'truncate' : 'rebuild' }
  }

  passedOver(primary: DatabaseFacts): string {
    const theirs = JSON.parse(primary.history) as Record<string, number>
    const mine = JSON.parse(historyOf(this.log)) as Record<string, number>
    const missing = Object.entries(theirs).filter(([server, sequence]) => sequence > (mine[server] ?? 0))
    return missing.length === 0 ? '' : JSON.stringify(missing)
  }

  /** @param alive throws once the session was ended: a later statement of it is not executed */
  async follow(source: string, alive: () => void): Promise<void> {
    if (this.source === source && this.receiver !== 'stopped' && this.applying && this.semiStandby) return
    this.stopReceiving()
    this.applying = true
    this.#apply()
    await this.drained()
    alive()
    this.disableSemiSync()
    await this.#until(() => this.#parts.clock.random() < 0.5)
    alive()
    this.readOnly = true
    this.locked = false
    this.semiStandby = true
    this.source = source
    this.receiver = 'connecting'
    this.applying = true
    this.#connect()
  }

  #boot(): void {
    const beat = (): void => {
      for (const attached of this.#attached.values()) {
        if (attached.kind === 'standby') this.#push(attached, 'heartbeat')
      }
      if (this.receiver === 'connected' && this.#parts.clock.now - this.#heardAt > 3000) this.receiver = 'connecting'
      if (this.receiver === 'connecting') this.#connect()
      this.process.later(400, beat)
    }
    this.process.later(this.#parts.clock.between(0, 400), beat)
  }

  #commit(id: string): { transaction: Transaction; committed: Promise<boolean> } {
    const transaction = { server: this.#parts.serverId, sequence: this.log.length + 1, id }
    this.#append(transaction)
    const length = this.log.length
    const committed = new Promise<boolean>((resolve) => {
      const done = (ok: boolean): void => {
        this.#parts.clock.touched()
        if (ok) this.#parts.observer.acknowledged(this, transaction)
        resolve(ok)
      }
      if (!this.semiPrimary || this.#acknowledgedLength >= length) done(true)
      else this.#waiters.push({ length, done })
    })
    return { transaction, committed }
  }

  #append(transaction: Transaction): void {
    this.log.push(transaction)
    for (const attached of this.#attached.values()) this.#push(attached, transaction)
  }

  #push(attached: Attached, what: Transaction | 'heartbeat'): void {
    if (attached.open) attached.send(() => attached.receive(what))
  }

  #acknowledge(length: number): void {
    this.#acknowledgedLength = Math.max(this.#acknowledgedLength, length)
    const released = this.#waiters.filter((waiter) => waiter.length <= this.#acknowledgedLength)
    this.#waiters = this.#waiters.filter((waiter) => waiter.length > this.#acknowledgedLength)
    for (const { done } of released) done(true)
  }

  #connect(): void {
    if (this.source === null) return
    const source = this.#parts.find(this.source)
    const { network, clock } = this.#parts
    this.#receiving += 1
    const mine = this.#receiving
    const current = (): boolean => this.#receiving === mine && this.receiver !== 'stopped'
    network.send(this.process, source.process, () => {
      const semiSync = this.semiStandby
      const back = network.stream(this.process, source.process)
      const attached = source.attach({
        kind: 'standby',
        semiSync,
        from: this.relay.at(-1) ?? this.log.at(-1),
        send: network.stream(source.process, this.process),
        receive: (what) => {
          if (!current()) return
          this.receiver = 'connected'
          this.#heardAt = clock.now
          if (what === 'heartbeat') {
            this.heartbeats += 1
            return
          }
          this.relay.push(what)
          if (semiSync) back(() => source.#acknowledge(what.sequence))
          this.#apply()
        },
        ended: () => {
          if (this.process.up && current()) this.receiver = 'connecting'
        },
      })
      if (attached === 'unknown-position') return
      // A standby that left is noticed, if the link is there.
      const watch = (): void => {
        if (!attached.open) return
        const gone = !current() || !this.process.up
        if (gone && !network.isCut(this.name, source.name)) source.detach(attached)
        else source.process.later(50, watch)
      }
      source.process.later(50, watch)
    })
  }

  #apply(): void {
    if (this.#applyingLife === this.process.life) return
    this.#applyingLife = this.process.life
    this.process.later(this.#parts.clock.between(0.2, this.applyMilliseconds), () => {
      this.#applyingLife = 0
      const next = this.relay[0]
      if (next === undefined || !this.applying) return
      this.relay.shift()
      if (next.sequence === this.log.length + 1) {
        this.#append(next)
        const epoch = /^epoch-(\d+)-/.exec(next.id)?.[1]
        if (epoch !== undefined) this.epoch = Number(epoch)
      }
      if (this.relay.length > 0) this.#apply()
    })
  }

  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (condition()) {
          this.#parts.clock.touched()
          resolve()
        } else this.process.later(2, look)
      }
      look()
    })
  }
}

class Session {
  readonly life: number
  alive = true
  onKill: () => void = () => {}

  constructor(life: number) {
    this.life = life
  }

  kill(): void {
    this.alive = false
    this.onKill()
  }
}

interface ControlParts {
  readonly database: WorldDatabase
  readonly monitor: WorldProcess
  readonly clock: WorldClock
  readonly network: WorldNetwork
}

class WorldControl implements DatabaseControl {
  readonly #parts: ControlParts
  readonly dialect = 'mariadb'

  constructor(parts: ControlParts) {
    this.#parts = parts
  }

  get name(): string {
    return this.#parts.database.name
  }

  get address(): DatabaseTarget {
    return targetOf(this.name)
  }

  async probe(timeoutMilliseconds: number): Promise<DatabaseSight> {
    const { database, monitor, network, clock } = this.#parts
    const isRefused =
      !database.process.up && !network.isCut(monitor.name, this.name) && !network.isCut(this.name, monitor.name)
    if (isRefused) {
      return new Promise((resolve) => {
        monitor.later(1, () => {
          clock.touched()
          resolve({ answers: false, kind: 'refused', detail: 'refused' })
        })
      })
    }
    try {
      return { answers: true, facts: await this.call(timeoutMilliseconds, () => database.facts()) }
    } catch {
      return { answers: false, kind: 'silent', detail: 'silent' }
    }
  }

  async takeLock(timeoutMilliseconds: number): Promise<LockedDatabase> {
    const { database } = this.#parts
    const session = await this.call(timeoutMilliseconds, () => database.takeLock())
    return new WorldLock(this, session, database)
  }

  async commitMarker(timeoutMilliseconds: number): Promise<Position> {
    const { database } = this.#parts
    return this.call(timeoutMilliseconds, async () => {
      const written = database.write(`marker-${this.#parts.clock.now}-${this.#parts.monitor.name}`)
      if (written === undefined) throw new DatabaseControlError('read-only', 'read-only')
      await written.committed
      return positionOf([written.transaction])
    })
  }

  close(): void {}

  /** A statement: sent, executed whenever the server gets to it, answered; or given up by us, and executed nevertheless. */
  call<T>(timeoutMilliseconds: number, work: () => T | Promise<T>): Promise<T> {
    const { database, monitor, network, clock } = this.#parts
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clock.touched()
        finish()
      }
      monitor.later(timeoutMilliseconds, () => settle(() => reject(new DatabaseControlError('timed-out', 'timed out'))))
      const there = network.stream(monitor, database.process)
      const back = network.stream(database.process, monitor)
      there(() => {
        clock.touched()
        let result: Promise<T>
        try {
          result = Promise.resolve(work())
        } catch (error) {
          result = Promise.reject(error)
        }
        result.then(
          (value) => back(() => settle(() => resolve(value))),
          (error: unknown) => back(() => settle(() => reject(error))),
        )
      })
    })
  }
}

class WorldLock implements LockedDatabase {
  readonly #control: WorldControl
  readonly #session: Session
  readonly #database: WorldDatabase
  held = true

  constructor(control: WorldControl, session: Session, database: WorldDatabase) {
    this.#control = control
    this.#session = session
    this.#database = database
  }

  stopReceiving(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.stopReceiving())
  }

  drain(milliseconds: number): Promise<Position> {
    return this.#say(milliseconds, async (database) => {
      await database.drained()
      return database.position
    })
  }

  enableSemiSync(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.enableSemiSync())
  }

  disableSemiSync(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.disableSemiSync())
  }

  evictReaders(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.evictReaders())
  }

  standAlone(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.standAlone())
  }

  prepare(given: { epoch: number; semiSync: boolean }, milliseconds: number): Promise<Position> {
    return this.#say(milliseconds, (database) => database.prepare(given))
  }

  makeWritable(milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.makeWritable())
  }

  async makeReadOnly(milliseconds: number): Promise<Position> {
    try {
      return await this.#say(milliseconds, (database) => database.makeReadOnly())
    } catch (error) {
      void this.#control
        .call(milliseconds, () => {
          if (this.#session.alive && this.#database.waiting > 0) this.#database.readOnly = false
        })
        .catch(() => {})
      throw error
    }
  }

  fence(milliseconds: number): Promise<'complete' | 'pending'> {
    return this.#say(milliseconds, (database) => database.fence())
  }

  follow(source: DatabaseTarget, milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database, alive) => database.follow(source.host, alive))
  }

  followAsRelay(): Promise<void> {
    return Promise.reject(new Error('there is no relay in this world'))
  }

  ensureReplicationAccount(): Promise<void> {
    return Promise.resolve()
  }

  waitForPosition(position: Position, milliseconds: number): Promise<void> {
    return this.#say(milliseconds, (database) => database.reaches(position))
  }

  compareHistory(primary: DatabaseFacts): Promise<HistoryVerdict> {
    return this.#say(2000, (database) => database.errant(primary))
  }

  passedOver(primary: DatabaseFacts): Promise<string> {
    return this.#say(2000, (database) => database.passedOver(primary))
  }

  release(): void {
    this.held = false
  }

  async #say<T>(
    milliseconds: number,
    work: (database: WorldDatabase, alive: () => void) => T | Promise<T>,
  ): Promise<T> {
    if (!this.held) throw new DatabaseControlError('lock-lost', 'released')
    const alive = (): void => {
      const usable = this.#session.alive && this.#session.life === this.#database.process.life
      if (!usable) throw new DatabaseControlError('lock-lost', 'the session was ended')
    }
    try {
      return await this.#control.call(milliseconds, () => {
        alive()
        return Promise.race([
          work(this.#database, alive),
          new Promise<never>((_, reject) => {
            this.#session.onKill = () => reject(new DatabaseControlError('lock-lost', 'killed'))
          }),
        ])
      })
    } catch (error) {
      if (error instanceof DatabaseControlError && error.code === 'timed-out') this.held = false
      throw error
    }
  }
}

export function targetOf(name: string): DatabaseTarget {
  return { host: name, port: 1, adminPort: undefined }
}

export function positionOf(log: readonly Transaction[]): MariadbPosition {
  const last = log.at(-1)
  const text = last === undefined ? '' : `0-${last.server}-${last.sequence}`
  return parsePosition('mariadb', text) as MariadbPosition
}

function historyOf(log: readonly Transaction[]): string {
  const last: Record<string, number> = {}
  for (const { server, sequence } of log) last[server] = sequence
  return JSON.stringify(last)
}
