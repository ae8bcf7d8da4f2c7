import type { ChangeGuard } from '../domain/change-guard.ts'
import type { ClusterEvents, ClusterRecord } from '../domain/cluster-record.ts'
import type { DatabaseControl, DatabaseHost } from '../domain/database-control.ts'
import { type Ballot, majorityOf } from './ballot.ts'
import { decide } from './decide.ts'
import { Executor, type ExecutorParts, type ExecutorTimeouts } from './executor.ts'
import { step, startMachine } from './machine.ts'
import {
  type Command,
  everyDatabase,
  type MachineConfig,
  type MachineEvent,
  type MachineState,
  type OperatorRequest,
} from './machine-state.ts'
import { type Operation, operationKey } from './operations.ts'
import { plannedChange, requestedChange } from './planned-change.ts'
import type { Voter } from './voter.ts'
import type { VoterReply, VoterRequest } from './voter-protocol.ts'

/** Time as the process has it, so that a simulation can give it another one. */
export interface Timers {
  /** Milliseconds of a monotonic clock. */
  now(): number
  /** @returns how to call it off */
  after(milliseconds: number, work: () => void): () => void
}

export interface VoterLinks {
  /** Rejects where the voter can't be asked. */
  ask(voter: string, request: VoterRequest): Promise<VoterReply>
}

export interface MonitorParts {
  readonly config: MachineConfig
  readonly databases: Readonly<Record<string, DatabaseControl>>
  readonly hosts: Readonly<Record<string, DatabaseHost>>
  readonly voter: Voter
  readonly links: VoterLinks
  readonly timers: Timers
  readonly events: ClusterEvents
  readonly executorTimeouts: ExecutorTimeouts
  readonly probe: { readonly everyMilliseconds: number; readonly timeoutMilliseconds: number }
  readonly passing?: ExecutorParts['passing']
  /** Asked before another database becomes the primary. */
  readonly guard?: ChangeGuard
  readonly readTail?: ExecutorParts['readTail']
}

const tickMilliseconds = 100
const confirmMilliseconds = 1000
/** For a first look across a slow link: connection, handshake, questions. */
const farMilliseconds = 3000

/** Feeds the machine with what happens, and does what it says. Decides nothing. */
export class Monitor {
  readonly #parts: MonitorParts
  readonly #executor: Executor
  #state: MachineState
  #stopped = false
  readonly #ending = new AbortController()
  readonly #cancels = new Set<() => void>()
  readonly #running = new Map<number, AbortController>()
  readonly #probing = new Set<string>()
  readonly #answers = new Map<number, (answer: { ok: boolean; text: string }) => void>()
  #requests = 0

  constructor(parts: MonitorParts) {
    this.#parts = parts
    const { databases, hosts, executorTimeouts: timeouts, passing, readTail } = parts
    const relays = parts.config.relays ?? []
    this.#executor = new Executor({
      databases,
      relaySources: Object.fromEntries(relays.map(({ name, sources }) => [name, sources])),
      hosts,
      timeouts,
      confirm: (ballot) => this.#confirm(ballot),
      ...(passing === undefined ? {} : { passing }),
      ...(parts.guard === undefined ? {} : { mayBegin: (operation, signal) => this.#mayBegin(operation, signal) }),
      ...(readTail === undefined ? {} : { readTail }),
    })
    const round = parts.voter.state.promised?.round ?? 0
    this.#state = startMachine(parts.config, { now: parts.timers.now(), round })
  }

  get state(): MachineState {
    return this.#state
  }

  /** What a majority has recorded as this monitor knows it: its own decision if it acts, else what its voter took last. */
  get record(): ClusterRecord | null {
    const { leadership } = this.#state
    if (leadership.kind === 'acting' && leadership.chosen !== null) return leadership.chosen
    return this.#parts.voter.state.accepted?.record ?? null
  }

  get acting(): boolean {
    return this.#state.leadership.kind === 'acting'
  }

  start(): void {
    this.#every(tickMilliseconds, () => this.#feed({ kind: 'tick', now: this.#now() }))
    for (const database of everyDatabase(this.#parts.config)) {
      this.#every(this.#parts.probe.everyMilliseconds, () => this.#probe(database))
      this.#probe(database)
    }
  }

  stop(): void {
    this.#stopped = true
    this.#ending.abort()
    for (const cancel of this.#cancels) cancel()
    for (const running of this.#running.values()) running.abort()
    this.#executor.release()
    for (const answer of this.#answers.values()) answer({ ok: false, text: 'this monitor is stopping' })
  }

  /** The voter of this process was asked by a monitor that acts. */
  heard(ballot: Ballot): void {
    this.#feed({ kind: 'heard', now: this.#now(), ballot })
  }

  /** Resolves once it is done or refused. */
  async request(kind: OperatorRequest['kind'], to: string): Promise<{ ok: boolean; text: string }> {
    const { guard } = this.#parts
    const change = this.acting ? requestedChange(kind, to, this.record) : undefined
    if (guard !== undefined && change !== undefined) {
      // Before the machine knows of it: nobody waits for the hooks but whoever asked.
      const answer = await guard.mayBegin(change, this.#ending.signal)
      if (!answer.go) return { ok: false, text: answer.why }
    }
    if (this.#stopped) return { ok: false, text: 'this monitor is stopping' }
    this.#requests += 1
    const id = this.#requests
    return new Promise((resolve) => {
      this.#answers.set(id, resolve)
      this.#feed({ kind: 'requested', now: this.#now(), request: { id, kind, to } })
    })
  }

  async #mayBegin(operation: Operation, signal: AbortSignal): Promise<void> {
    const { guard } = this.#parts
    const change = plannedChange(operation, this.record, this.#state)
    if (guard === undefined || change === undefined) return
    const answer = await guard.mayBegin(change, signal)
    if (!answer.go) throw new Error(answer.why)
    // Hooks take their time: the primary may be back by now, and then its standby must not be taken from it.
    const now = decide(this.#state, this.record)
    if (now.kind === 'run' && operationKey(now.operation) === operationKey(operation)) return
    throw new Error('while the hooks ran it became needless')
  }

  #feed(event: MachineEvent): void {
    if (this.#stopped) return
    const { state, commands } = step(this.#state, event)
    this.#state = state
    for (const command of commands) this.#carryOut(command)
  }

  #carryOut(command: Command): void {
    switch (command.kind) {
      case 'ask':
        this.#ask(command.voter, command.request)
        return
      case 'probe':
        this.#probe(command.database, true)
        return
      case 'run':
        this.#run(command)
        return
      case 'cancel':
        this.#running.get(command.id)?.abort()
        return
      case 'tell':
        this.#parts.events.emit(command.event)
        return
      case 'answer':
        this.#answers.get(command.id)?.(command)
        this.#answers.delete(command.id)
        return
    }
  }

  #ask(voter: string, request: VoterRequest): void {
    const askedAt = this.#now()
    this.#askVoter(voter, request).then(
      (reply) => this.#feed({ kind: 'reply', now: this.#now(), voter, request, askedAt, reply }),
      () => {},
    )
  }

  #askVoter(voter: string, request: VoterRequest): Promise<VoterReply> {
    const own = voter === this.#parts.config.self
    return own ? this.#parts.voter.ask(request) : this.#parts.links.ask(voter, request)
  }

  #run({ id, operation, ballot }: Extract<Command, { kind: 'run' }>): void {
    const abort = new AbortController()
    this.#running.set(id, abort)
    void this.#executor.run(operation, ballot, abort.signal).then((result) => {
      this.#running.delete(id)
      this.#feed({ kind: 'done', now: this.#now(), id, result })
      if (this.#stopped || !this.acting) this.#executor.release()
    })
  }

  /** One at a time for each database; `again`: another one at once, for the one under way began too early. */
  #probe(database: string, again = false): void {
    const control = this.#parts.databases[database]
    if (control === undefined || this.#stopped) return
    if (this.#probing.has(database) && !again) return
    const startedAt = this.#now()
    if (!again) this.#probing.add(database)
    const isFar = this.#parts.config.relays?.some(({ name }) => name === database) === true
    const timeout = isFar ? farMilliseconds : this.#parts.probe.timeoutMilliseconds
    void control.probe(timeout).then((sight) => {
      if (!again) this.#probing.delete(database)
      const at = this.#now()
      this.#parts.voter.observe(database, { startedAt, at, result: sight.answers ? 'answers' : sight.kind })
      this.#feed({ kind: 'sight', now: at, database, startedAt, sight })
      // Silence took more than its turn: writers wait for the second probe, which is not to wait for the next turn.
      if (!again && at - startedAt >= this.#parts.probe.everyMilliseconds) this.#probe(database)
    })
  }

  /** Asked after the locks were taken: see the executor. */
  #confirm(ballot: Ballot): Promise<boolean> {
    const { voters } = this.#parts.config
    const needed = majorityOf(voters.length)
    return new Promise((resolve) => {
      let confirmed = 0
      const cancel = this.#parts.timers.after(confirmMilliseconds, () => resolve(false))
      for (const voter of voters) {
        this.#askVoter(voter, { kind: 'report', ballot }).then(
          ({ ok }) => {
            if (ok) confirmed += 1
            if (confirmed < needed) return
            cancel()
            resolve(true)
          },
          () => {},
        )
      }
    })
  }

  #every(milliseconds: number, work: () => void): void {
    let cancel: () => void = () => {}
    const again = (): void => {
      this.#cancels.delete(cancel)
      if (this.#stopped) return
      cancel = this.#parts.timers.after(milliseconds, again)
      this.#cancels.add(cancel)
      work()
    }
    again()
  }

  #now(): number {
    return this.#parts.timers.now()
  }
}
