import type { ClusterEvent, ClusterRecord } from '../../../src/domain/cluster-record.ts'
import { chosenRecord, hasTail } from '../../../src/compose/recorded-role.ts'
import type { AcceptorState } from '../../../src/monitor/acceptor.ts'
import { type MachineConfig, timingsDefault } from '../../../src/monitor/machine-state.ts'
import { Monitor, type Timers } from '../../../src/monitor/monitor.ts'
import { Voter, type VoterStore } from '../../../src/monitor/voter.ts'
import type { VoterReply, VoterRequest } from '../../../src/monitor/voter-protocol.ts'
import { positionOf, targetOf, type Transaction, WorldDatabase } from './world-database.ts'
import { WorldClock } from './world-clock.ts'
import { WorldNetwork, WorldProcess } from './world-network.ts'

/** Rules that a careless implementation breaks: the simulation must see each of them. */
export interface Breaks {
  /** R3: whatever crashed starts in the role that truncates. */
  readonly startAlwaysAsStandby?: boolean
  /** R9: a voter answers before its disk has the promise. */
  readonly unsyncedVotes?: boolean
  /** R9: changes without asking voters after the lock was taken. */
  readonly unconfirmedChanges?: boolean
  /** Readers of a primary stay when it is paired. */
  readonly leavesReaders?: boolean
  /** What was received and not applied is forgotten. */
  readonly skipsDrain?: boolean
  /** R4: nothing is known of what others have. */
  readonly blindToPositions?: boolean
}

export interface WorldOptions {
  readonly seed: number
  readonly monitors: number
  readonly nodes: number
  readonly breaks?: Breaks
}

const databases = ['db1', 'db2'] as const

/** A pair, its voters, clients, and everything that can happen to them. */
export class World {
  readonly clock: WorldClock
  readonly network: WorldNetwork
  readonly databases: Readonly<Record<string, WorldDatabase>>
  readonly voters: WorldVoter[] = []
  readonly clients: WorldProcess[] = []
  readonly events: { at: number; event: ClusterEvent }[] = []
  readonly violations: string[] = []
  readonly acknowledged: { at: number; by: string; transaction: Transaction }[] = []
  readonly options: WorldOptions
  /** Who was made writable last by the monitors, and when. */
  #opened: { name: string; at: number } | undefined
  #writes = 0
  writing = true
  /** Starts of databases in the role that truncates. */
  truncations = 0

  constructor(options: WorldOptions) {
    this.options = options
    this.clock = new WorldClock(options.seed)
    this.network = new WorldNetwork(this.clock)
    const find = (name: string): WorldDatabase => this.database(name)
    this.databases = Object.fromEntries(
      databases.map((name, index) => [
        name,
        new WorldDatabase({
          name,
          serverId: index + 1,
          clock: this.clock,
          network: this.network,
          observer: {
            acknowledged: (database, transaction) => this.#onAcknowledged(database.name, transaction),
            madeWritable: (database) => this.#onWritable(database),
          },
          find,
          breaks: options.breaks ?? {},
        }),
      ]),
    )
    const monitors = Array.from({ length: options.monitors }, (_, n) => `monitor${n + 1}`)
    const nodes = Array.from({ length: options.nodes }, (_, n) => `node${n + 1}`)
    const voters = [...monitors, ...nodes]
    for (const name of voters) this.voters.push(new WorldVoter(this, { name, voters, monitors }))
    for (let n = 1; n <= 2; n++) this.#addClient(`client${n}`)
  }

  database(name: string): WorldDatabase {
    const database = this.databases[name]
    if (database === undefined) throw new Error(name)
    return database
  }

  voter(name: string): WorldVoter {
    const found = this.voters.find((one) => one.name === name)
    if (found === undefined) throw new Error(name)
    return found
  }

  /** What a majority has on disk, as far as anybody can tell. */
  get record(): ClusterRecord | null {
    const acting = this.voters.map((one) => one.monitor).find((one) => one?.acting === true)
    return acting?.record ?? null
  }

  get settled(): boolean {
    const { record } = this
    if (record?.stage !== 'steady' || record.mode !== 'paired') return false
    return !this.database(record.primary).readOnly && this.database(record.standby).readOnly
  }

  async run(milliseconds: number): Promise<void> {
    await this.clock.runUntil(this.clock.now + milliseconds)
  }

  async until(condition: () => boolean, milliseconds: number, stepMilliseconds = 50): Promise<boolean> {
    const end = this.clock.now + milliseconds
    while (!condition() && this.clock.now < end) await this.run(stepMilliseconds)
    return condition()
  }

  repair(): void {
    this.network.heal()
    for (const database of Object.values(this.databases)) {
      if (!database.process.up) this.startDatabase(database.name)
      if (database.process.stopped) database.process.goOn()
    }
    for (const voter of this.voters) {
      if (!voter.process.up) voter.start()
      if (voter.process.stopped) voter.process.goOn()
    }
  }

  startDatabase(name: string): void {
    const votes = this.voters.map(({ vote }) => vote)
    const start = { database: name, pair: databases, record: chosenRecord(votes, votes.length) }
    const truncates = this.options.breaks?.startAlwaysAsStandby === true || hasTail(start, this.database(name).position)
    if (truncates) this.truncations += 1
    this.database(name).start(truncates ? 'standby' : 'primary')
  }

  /** Once all is well again: everything that anybody was told is there. */
  check(): void {
    const { record } = this
    if (record === null) {
      this.violations.push('nobody acts at the end')
      return
    }
    const primary = this.database(record.primary)
    const lost = this.acknowledged.filter(({ transaction }) => !primary.has(transaction))
    for (const { at, by, transaction } of lost.slice(0, 3)) {
      this.violate(
        `${transaction.id} (${transaction.server}-${transaction.sequence}), acknowledged by ${by} at ${Math.round(at)}, is not on ${primary.name} in the end`,
      )
    }
  }

  violate(text: string): void {
    this.violations.push(`${Math.round(this.clock.now)}: ${text}`)
  }

  nodeSaw(node: string, transaction: Transaction): void {
    this.#acknowledge(node, transaction)
  }

  #onAcknowledged(database: string, transaction: Transaction): void {
    // The monitors' own commits are promised to nobody.
    if (/^(epoch|marker)-/.test(transaction.id)) return
    // What reached the other one before that may be told late: it is true there.
    const opened = this.#opened
    if (opened !== undefined && opened.name !== database && !this.database(opened.name).has(transaction)) {
      this.violate(
        `${database} acknowledges ${transaction.id} although ${opened.name} was opened at ${Math.round(opened.at)} and lacks it`,
      )
    }
    this.#acknowledge(database, transaction)
  }

  #acknowledge(by: string, transaction: Transaction): void {
    this.acknowledged.push({ at: this.clock.now, by, transaction })
  }

  #onWritable(database: WorldDatabase): void {
    this.#opened = { name: database.name, at: this.clock.now }
    const lacking = this.acknowledged.filter(({ transaction }) => !database.has(transaction))
    for (const { transaction, by } of lacking.slice(0, 3)) {
      this.violate(`${database.name} is opened without ${transaction.id}, acknowledged by ${by}`)
    }
    for (const voter of this.voters) {
      const ahead = voter.follower?.last
      if (ahead !== undefined && !database.has(ahead)) {
        this.violate(`${database.name} is opened without ${ahead.id}, which ${voter.name} has applied`)
      }
    }
  }

  #addClient(name: string): void {
    const process = new WorldProcess(name, this.clock)
    this.clients.push(process)
    const again = (): void => {
      process.later(this.clock.between(30, 120), again)
      if (!this.writing) return
      this.#writes += 1
      const id = `${name}-${this.#writes}`
      const database = this.database(this.clock.pick(databases))
      this.network.send(process, database.process, () => void database.write(id))
    }
    process.later(10, again)
  }
}

/** A monitor or a node. */
export class WorldVoter {
  readonly name: string
  readonly process: WorldProcess
  readonly #world: World
  readonly #isMonitor: boolean
  readonly #config: MachineConfig
  readonly #disk: WorldStore
  #offset = 0
  voter: Voter | undefined
  monitor: Monitor | undefined
  follower: WorldFollower | undefined

  constructor(world: World, given: { name: string; voters: readonly string[]; monitors: readonly string[] }) {
    this.name = given.name
    this.#world = world
    this.process = new WorldProcess(given.name, world.clock)
    this.#isMonitor = given.monitors.includes(given.name)
    const config: MachineConfig = {
      self: given.name,
      monitors: given.monitors,
      voters: given.voters,
      databases,
      targets: Object.fromEntries(databases.map((name) => [name, targetOf(name)])),
      hosts: Object.fromEntries(databases.map((name) => [name, { restart: true, rebuild: true }])),
      timings: { ...timingsDefault, settleMilliseconds: 2000, antiFlapMilliseconds: 8000 },
    }
    this.#config = config
    this.#disk = new WorldStore(this.process, world.clock, world.options.breaks?.unsyncedVotes === true)
    if (!this.#isMonitor) this.follower = new WorldFollower(world, this.process)
    this.start()
  }

  /** As it is on its disk, whether it runs or not. */
  get vote(): AcceptorState | undefined {
    return this.#disk.durable
  }

  kill(): void {
    this.monitor?.stop()
    this.monitor = undefined
    this.voter = undefined
    this.process.die()
  }

  start(): void {
    this.process.start()
    const { life } = this.process
    void Voter.open({
      name: this.name,
      store: this.#disk,
      limits: this.#config.timings,
      actingMilliseconds: this.#config.timings.actingSilentMilliseconds,
      acknowledged: () => (this.#world.options.breaks?.blindToPositions === true ? undefined : this.follower?.position),
      now: () => this.#now(),
      onHeard: (ballot) => {
        if (this.#world.options.breaks?.unconfirmedChanges !== true) this.monitor?.heard(ballot)
      },
    }).then((voter) => {
      if (this.process.life !== life) return
      this.voter = voter
      if (this.#isMonitor) this.#startMonitor(voter)
      else this.#startNode(voter)
    })
    this.#world.clock.touched()
  }

  #startMonitor(voter: Voter): void {
    const { clock } = this.#world
    const monitor = new Monitor({
      config: this.#config,
      databases: Object.fromEntries(
        databases.map((name) => [name, this.#world.database(name).controlFor(this.process)]),
      ),
      hosts: Object.fromEntries(databases.map((name) => [name, this.#host(name)])),
      voter: this.#listened(voter),
      links: { ask: (to, request) => this.#ask(to, request) },
      timers: this.#timers(),
      events: { emit: (event) => this.#world.events.push({ at: clock.now, event }) },
      executorTimeouts: { lockMilliseconds: 1000, stepMilliseconds: 1000, drainMilliseconds: 3000 },
      probe: { everyMilliseconds: 250, timeoutMilliseconds: 600 },
      // Where a process is stopped, it stops between two steps: that is where it hurts.
      passing: () =>
        new Promise((resolve) =>
          this.process.later(0, () => {
            clock.touched()
            resolve()
          }),
        ),
    })
    this.monitor = monitor
    monitor.start()
  }

  /** With a broken rule no refusal is heard. */
  #told(request: VoterRequest, reply: VoterReply): VoterReply {
    const isDeaf = this.#world.options.breaks?.unconfirmedChanges === true && request.kind === 'report'
    return isDeaf ? { ...reply, ok: true, promised: null } : reply
  }

  #listened(voter: Voter): Voter {
    if (this.#world.options.breaks?.unconfirmedChanges !== true) return voter
    const ask = async (request: VoterRequest): Promise<VoterReply> => this.#told(request, await voter.ask(request))
    return new Proxy(voter, {
      get: (target, name) => {
        if (name === 'ask') return ask
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }

  #startNode(voter: Voter): void {
    const { clock } = this.#world
    for (const name of databases) {
      const control = this.#world.database(name).controlFor(this.process)
      const again = (): void => {
        const startedAt = this.#now()
        void control.probe(600).then((sight) => {
          voter.observe(name, { startedAt, at: this.#now(), result: sight.answers ? 'answers' : sight.kind })
          this.process.later(250, again)
        })
      }
      this.process.later(clock.between(0, 250), again)
    }
    this.follower?.start()
  }

  /** Forward only, as a monotonic clock may after a machine was asleep. */
  jump(milliseconds: number): void {
    this.#offset += milliseconds
  }

  #now(): number {
    return this.#world.clock.now + this.#offset
  }

  #timers(): Timers {
    return {
      now: () => this.#now(),
      after: (milliseconds, work) => {
        let live = true
        this.process.later(milliseconds, () => {
          if (live) work()
        })
        return () => {
          live = false
        }
      },
    }
  }

  #ask(to: string, request: VoterRequest): Promise<VoterReply> {
    const { network, clock } = this.#world
    const other = this.#world.voter(to)
    return new Promise((resolve, reject) => {
      const isDeaf = this.#world.options.breaks?.unconfirmedChanges === true && request.kind === 'report'
      this.process.later(isDeaf ? 300 : 1000, () => {
        clock.touched()
        if (isDeaf) resolve({ ok: true, promised: null, accepted: null, report: null })
        else reject(new Error('no answer'))
      })
      network.send(this.process, other.process, () => {
        clock.touched()
        const { voter } = other
        if (voter === undefined) return
        void voter.ask(request).then((reply) =>
          network.send(other.process, this.process, () => {
            clock.touched()
            resolve(this.#told(request, reply))
          }),
        )
      })
    })
  }

  #host(name: string): { restart(): Promise<void>; rebuild(from: { host: string }): Promise<void> } {
    const database = this.#world.database(name)
    const { clock } = this.#world
    const reach = (work: () => void): Promise<void> =>
      new Promise((resolve) => {
        this.#world.network.send(this.process, database.process.up ? database.process : this.process, work)
        this.process.later(500, () => {
          clock.touched()
          resolve()
        })
      })
    return {
      restart: () =>
        reach(() => {
          database.kill()
          database.start('standby')
        }),
      rebuild: (from) =>
        reach(() => {
          const source = this.#world.database(from.host)
          if (!source.process.up) return
          database.kill()
          database.copyFrom(source)
          database.start('primary')
        }),
    }
  }
}

/** A voter's disk: what is written is there after a crash only once it is synced. */
class WorldStore implements VoterStore {
  durable: AcceptorState | undefined
  readonly #process: WorldProcess
  readonly #clock: WorldClock
  readonly #unsynced: boolean

  constructor(process: WorldProcess, clock: WorldClock, unsynced: boolean) {
    this.#process = process
    this.#clock = clock
    this.#unsynced = unsynced
  }

  load(): Promise<AcceptorState | undefined> {
    this.#clock.touched()
    return Promise.resolve(this.durable)
  }

  save(state: AcceptorState): Promise<void> {
    if (this.#unsynced) {
      this.#process.later(5000, () => {
        this.durable = state
      })
      return Promise.resolve()
    }
    return new Promise((resolve) => {
      this.#process.later(this.#clock.between(0.5, 4), () => {
        this.durable = state
        this.#clock.touched()
        resolve()
      })
    })
  }
}

/** A node's applier and one writer: follows by the rules that nodes have, and acknowledges what it sees of its own. */
export class WorldFollower {
  readonly #world: World
  readonly #process: WorldProcess
  last: Transaction | undefined
  #link = 0
  #writes = 0

  constructor(world: World, process: WorldProcess) {
    this.#world = world
    this.#process = process
  }

  get position(): ReturnType<typeof positionOf> | undefined {
    return this.last === undefined ? undefined : positionOf([this.last])
  }

  start(): void {
    this.#seek()
    const write = (): void => {
      this.#process.later(this.#world.clock.between(50, 150), write)
      if (!this.#world.writing) return
      this.#writes += 1
      const id = `${this.#process.name}-${this.#process.life}-${this.#writes}`
      const database = this.#world.database(this.#world.clock.pick(databases))
      this.#world.network.send(this.#process, database.process, () => void database.write(id))
    }
    this.#process.later(50, write)
  }

  #seek(): void {
    this.#link += 1
    const mine = this.#link
    const source = this.#best()
    const again = (): void => {
      if (this.#link === mine) this.#seek()
    }
    if (source === undefined) {
      this.#process.later(150, again)
      return
    }
    this.#follow(source, mine, again)
    // Silent for too long, or another one is to be followed by now.
    let seen = this.last
    let quiet = 0
    const watch = (): void => {
      if (this.#link !== mine) return
      quiet = this.last === seen ? quiet + 1 : 0
      seen = this.last
      const stays = this.#world.options.breaks?.leavesReaders === true
      if (quiet >= 3 || (this.#best() !== source && !stays)) again()
      else this.#process.later(500, watch)
    }
    this.#process.later(500, watch)
  }

  /** A primary that acknowledges alone: only there is everything. Else the standby. */
  #best(): WorldDatabase | undefined {
    const fit = databases.map((name) => this.#world.database(name)).filter((one) => one.process.up && mayFollow(one))
    return fit.find((one) => !one.readOnly) ?? fit[0]
  }

  #follow(source: WorldDatabase, mine: number, again: () => void): void {
    const { network } = this.#world
    const receive = (what: Transaction | 'heartbeat'): void => {
      if (this.#link !== mine || what === 'heartbeat') return
      this.last = what
      if (what.id.startsWith(`${this.#process.name}-`)) this.#world.nodeSaw(this.#process.name, what)
    }
    network.send(this.#process, source.process, () => {
      const attached = source.attach({
        kind: 'reader',
        semiSync: false,
        from: this.last,
        send: network.stream(source.process, this.#process),
        receive,
        ended: () => this.#process.later(20, again),
      })
      if (attached === 'unknown-position') {
        this.#process.later(150, again)
        return
      }
      // Asked again once it reads: whoever enables semi-sync ends the readers that it finds, and later ones find it enabled.
      network.send(this.#process, source.process, () => {
        if (mayFollow(source)) return
        source.detach(attached)
        this.#process.later(20, again)
      })
    })
  }
}

/** The standby; the primary only where it acknowledges alone. */
function mayFollow(database: WorldDatabase): boolean {
  return database.source !== null ? database.readOnly : !database.readOnly && !database.semiPrimary
}
