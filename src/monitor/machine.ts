import type { ClusterEvent, ClusterRecord } from '../domain/cluster-record.ts'
import type { DatabaseSight } from '../domain/database-control.ts'
import { decide } from './decide.ts'
import type { Decision } from './decision.ts'
import { askReports, type Election, onHeard, onReply, onTick, patienceUntil, propose } from './leadership.ts'
import {
  type Acting,
  type Command,
  emptyMemory,
  everyDatabase,
  type MachineConfig,
  type MachineEvent,
  type MachineState,
  type Memory,
} from './machine-state.ts'
import {
  databasesOf,
  type Operation,
  operationKey,
  type OperationResult,
  type OperationValue,
  trackOf,
} from './operations.ts'
import { newsOf } from './news.ts'
import { noteMarked, noteSight, noteStandby } from './notes.ts'
import { neverSeen, observe } from './sightings.ts'
import { View } from './view.ts'

export interface Step {
  readonly state: MachineState
  readonly commands: readonly Command[]
}

export function startMachine(config: MachineConfig, given: { now: number; round: number }): MachineState {
  const { now, round } = given
  return {
    config,
    now,
    round,
    leadership: { kind: 'watching', patienceUntil: patienceUntil({ config, now }) },
    seen: {},
    sightings: {},
    validFrom: {},
    reports: {},
    running: {},
    nextId: 1,
    memory: emptyMemory,
    request: null,
  }
}

/**
 * The whole monitor, without I/O and without a clock: what has happened goes in, what is to be done comes out. The same state
 * and event always give the same step, so every run of the simulation can be repeated from its seed.
 */
export function step(before: MachineState, event: MachineEvent): Step {
  const draft = new Draft({ ...before, now: Math.max(before.now, event.now) })
  draft.take(event)
  draft.follow(before)
  draft.act()
  return { state: draft.state, commands: draft.commands }
}

/** One step being made. */
class Draft {
  state: MachineState
  readonly commands: Command[] = []

  constructor(state: MachineState) {
    this.state = state
  }

  take(event: MachineEvent): void {
    switch (event.kind) {
      case 'tick':
        this.#elect(onTick)
        this.#hurry()
        return
      case 'heard':
        this.#elect((election) => onHeard(election, event.ballot))
        return
      case 'reply':
        this.#reply(event)
        return
      case 'sight':
        this.#sight(event)
        return
      case 'done':
        this.#done(event.id, event.result)
        return
      case 'requested':
        this.#requested(event.request)
        return
    }
  }

  /** What a change of role or record entails. */
  follow(before: MachineState): void {
    const was = before.leadership
    const is = this.state.leadership
    const { self } = this.state.config
    if (is.kind === 'acting' && was.kind !== 'acting') {
      // Whatever was seen before may be older than what the former one did.
      const validFrom = Object.fromEntries(everyDatabase(this.state.config).map((name) => [name, this.state.now]))
      this.state = { ...this.state, validFrom, seen: {}, memory: { ...emptyMemory, stageSince: this.state.now } }
      this.#tell({ kind: 'acting', monitor: self })
    }
    if (is.kind !== 'acting' && was.kind === 'acting') this.#standDown()
    const chosenBefore = was.kind === 'acting' ? was.chosen : null
    const chosen = is.kind === 'acting' ? is.chosen : null
    if (chosen !== null && chosen !== chosenBefore) this.#recorded(chosen, chosenBefore)
  }

  act(): void {
    const { leadership } = this.state
    if (leadership.kind !== 'acting' || leadership.proposal !== null) return
    if (leadership.chosen !== null) {
      this.#remember(noteStandby(this.state, leadership.chosen))
      for (const { about, state, event } of newsOf(new View(this.state, leadership.chosen)))
        this.#tellChange(about, state, event)
    }
    this.#carryOut(leadership, decide(this.state, leadership.chosen))
  }

  #carryOut(acting: Acting, decision: Decision): void {
    switch (decision.kind) {
      case 'wait':
        this.#unstick()
        return
      case 'stuck':
        this.#stick(decision)
        return
      case 'ask-voters':
        if (this.state.now - acting.askedAt >= 50) this.#elect((election) => askReports(election, acting))
        return
      case 'propose':
        this.#unstick()
        this.#elect((election) => propose(election, acting, decision.record))
        return
      case 'run':
        this.#unstick()
        this.#run(acting, decision.operation)
        return
      case 'refuse-request':
        this.#answer(false, decision.why)
        return
      case 'fulfil-request':
        this.#answer(true, decision.text)
        return
    }
  }

  #run(acting: Acting, operation: Operation): void {
    const track = trackOf(operation)
    const busy = this.state.running[track]
    if (busy !== undefined) {
      if (operationKey(busy.operation) === operationKey(operation)) return
      // What hangs on a database that is gone must not hold up what brings another one into its place.
      this.commands.push({ kind: 'cancel', id: busy.id })
      return
    }
    const id = this.state.nextId
    const running = { ...this.state.running, [track]: { id, operation, startedAt: this.state.now } }
    this.state = { ...this.state, nextId: id + 1, running }
    if (operation.kind !== 'drain' && track === 'change') this.#remember({ drained: null })
    if (operation.kind === 'mark') this.#remember(noteMarked(this.state, operation.database))
    this.commands.push({ kind: 'run', id, operation, ballot: acting.ballot })
  }

  #done(id: number, result: OperationResult): void {
    const entry = Object.entries(this.state.running).find(([, one]) => one?.id === id)
    if (entry === undefined) return
    const [track, running] = entry
    if (running === undefined) return
    const { operation } = running
    this.state = { ...this.state, running: { ...this.state.running, [track]: undefined } }
    const touched = databasesOf(operation)
    if (track !== 'mark') this.#invalidate(touched)
    const { now, config, memory } = this.state
    const key = operationKey(operation)
    if (!result.ok) {
      if (operation.kind === 'pair') this.#remember({ pairFailed: true })
      this.#remember({ retryAt: { ...memory.retryAt, [key]: now + config.timings.retryMilliseconds } })
      this.#tellOnce(key, result.error, { kind: 'alarm', about: key, detail: result.error })
      return
    }
    this.#remember({ told: { ...memory.told, [key]: '' } })
    // It takes a moment until the standby is seen to follow.
    if (operation.kind === 'attach' || operation.kind === 'attach-relay') {
      this.#remember({ retryAt: { ...memory.retryAt, [key]: now + 2 * config.timings.retryMilliseconds } })
    }
    this.#succeeded(operation, result.value)
  }

  #succeeded(operation: Operation, value: Extract<OperationResult, { ok: true }>['value']): void {
    const { leadership, memory, now } = this.state
    const record = leadership.kind === 'acting' && leadership.proposal === null ? leadership.chosen : null
    if (leadership.kind !== 'acting' || leadership.proposal !== null) return
    switch (operation.kind) {
      case 'drain':
        this.#remember({
          drained: {
            database: operation.database,
            epoch: record?.epoch ?? 0,
            position: value.position ?? '',
            at: now,
          },
        })
        this.#elect((election) => askReports(election, leadership))
        return
      case 'hand-over':
        this.#remember({ handedOver: { epoch: record?.epoch ?? 0, position: value.position ?? '' } })
        return
      case 'open':
      case 'open-paired':
        this.#opened(leadership, record, { operation, value })
        return
      case 'pair':
        if (value.errant !== undefined) {
          // It follows and yet will never be whole: `rejoin` rebuilds it.
          this.#remember({ pairFailed: true })
          this.#attached(operation.standby, value)
          return
        }
        if (record?.stage === 'steady' && record.primary === operation.primary) {
          this.#elect((election) =>
            propose(election, leadership, {
              ...record,
              mode: 'paired',
              former: null,
              standbyInstance: value.standbyInstance ?? null,
            }),
          )
        }
        return
      case 'attach':
        this.#attached(operation.standby, value)
        if (value.tail !== undefined && record !== null) {
          const { epoch } = record
          this.#tell({ kind: 'tail-lost', database: operation.standby, epoch, tail: value.tail })
        }
        return
      case 'attach-relay':
        // A relay that follows is nothing to tell.
        if (value.errant !== undefined) this.#attached(operation.relay, value)
        return
      case 'fence':
        this.#remember({ fenced: { ...memory.fenced, [operation.database]: value.instance ?? '' } })
        this.#tell({ kind: 'fenced', database: operation.database, complete: value.complete === true })
        return
      case 'restart':
        this.#forgetQuarantine(operation.database)
        return
      case 'rebuild':
        this.#forgetQuarantine(operation.database)
        return
      case 'unpair':
      case 'freeze':
      case 'mark':
        return
    }
  }

  #opened(
    acting: Acting,
    record: ClusterRecord | null,
    { operation, value }: { operation: Extract<Operation, { epoch: number }>; value: OperationValue },
  ): void {
    // The record may have changed while it was being opened: then it is opened anew, as the record now says.
    if (record === null || record.stage !== 'opening' || record.epoch !== operation.epoch) return
    if ((operation.kind === 'open') !== (record.mode === 'solo')) return
    this.#elect((election) =>
      propose(election, acting, {
        ...record,
        stage: 'steady',
        former: record.mode === 'paired' ? null : record.former,
        instance: value.instance ?? null,
        standbyInstance: value.standbyInstance ?? record.standbyInstance,
      }),
    )
  }

  #attached(database: string, { errant, instance }: OperationValue): void {
    const { memory, config } = this.state
    if (errant === undefined) {
      this.#remember({ pairFailed: false, stalled: null })
      this.#tell({ kind: 'rejoining', database, how: 'follow' })
      return
    }
    const { gtids, cure } = errant
    const bad = { instance: instance ?? '', gtids, cure }
    this.#remember({ quarantined: { ...memory.quarantined, [database]: bad } })
    const host = config.hosts[database]
    const byItself = (cure === 'truncate' && host?.restart === true) || host?.rebuild === true
    if (byItself)
      this.#tell({ kind: 'rejoining', database, how: cure === 'truncate' && host.restart ? 'truncate' : 'rebuild' })
    else
      this.#tellOnce(`quarantine ${database}`, gtids, {
        kind: 'quarantined',
        database,
        errant: gtids,
        cure: quarantineCure(cure),
      })
  }

  #forgetQuarantine(database: string): void {
    const { [database]: _, ...quarantined } = this.state.memory.quarantined
    this.#remember({ quarantined })
  }

  #recorded(record: ClusterRecord, before: ClusterRecord | null): void {
    const { now, memory } = this.state
    this.#remember({
      stageSince: now,
      drained: null,
      handedOver: null,
      retryAt: {},
      standbyBrokenSince: null,
    })
    if (before !== null && record.cause === 'takeover' && record.epoch > before.epoch) {
      this.#remember({ takeover: { at: now, lived: false } })
    }
    if (before === null) return
    if (record.epoch !== before.epoch) this.#tell({ kind: 'primary-chosen', record, before })
    if (record.mode !== before.mode) {
      this.#tell({ kind: 'mode-changed', mode: record.mode, epoch: record.epoch, primary: record.primary })
    }
    if (before.stage === 'switching' && record.stage === 'steady') {
      const why = `${record.standby} did not catch up in time`
      this.#tell({ kind: 'switchover-failed', why })
      this.#answer(false, why)
    }
    if (record.stage === 'steady' && before.stage === 'opening') {
      this.#tell({ kind: 'primary-opened', record })
      const { request } = this.state
      if (request?.to === record.primary) this.#answer(true, `${record.primary} is the primary, epoch ${record.epoch}`)
      else if (request !== null && memory.stageSince > request.at)
        this.#answer(false, `${record.primary} is the primary`)
    }
  }

  #sight({
    database,
    startedAt,
    sight,
    now,
  }: {
    database: string
    startedAt: number
    sight: DatabaseSight
    now: number
  }): void {
    const { timings } = this.state.config
    const before = this.state.sightings[database] ?? neverSeen
    const after = observe(before, { startedAt, at: now, result: sight.answers ? 'answers' : sight.kind }, timings)
    this.state = { ...this.state, sightings: { ...this.state.sightings, [database]: after } }
    if (startedAt < (this.state.validFrom[database] ?? 0)) return
    this.state = { ...this.state, seen: { ...this.state.seen, [database]: { startedAt, at: now, sight } } }
    if (!sight.answers) return
    this.#remember(noteSight(this.state, database, sight.facts))
  }

  #requested(request: { id: number; kind: 'switchover' | 'forced-takeover'; to: string }): void {
    const refuse = (text: string): void => {
      this.commands.push({ kind: 'answer', id: request.id, ok: false, text })
    }
    const { leadership, config } = this.state
    if (leadership.kind !== 'acting') return refuse('this monitor does not act')
    if (!everyDatabase(config).includes(request.to)) return refuse(`there is no database ${request.to}`)
    if (this.state.request !== null) return refuse('another change is under way')
    this.state = { ...this.state, request: { ...request, at: this.state.now } }
  }

  /** Writers wait: what the others see is asked at each tick as soon as this monitor alone misses the primary. */
  #hurry(): void {
    const { leadership, now, sightings } = this.state
    if (leadership.kind !== 'acting' || leadership.chosen === null || leadership.askedAt === now) return
    if ((sightings[leadership.chosen.primary]?.failures ?? null) === null) return
    this.#elect((election) => askReports(election, leadership))
  }

  #reply(event: Extract<MachineEvent, { kind: 'reply' }>): void {
    const { voter, request, reply, askedAt, now } = event
    if (request.kind === 'report' && reply.report !== null) {
      const reports = { ...this.state.reports, [voter]: { askedAt, at: now, report: reply.report } }
      this.state = { ...this.state, reports }
    }
    this.#elect((election) => onReply(election, { voter, request, reply }))
  }

  #standDown(): void {
    for (const running of Object.values(this.state.running)) {
      if (running !== undefined) this.commands.push({ kind: 'cancel', id: running.id })
    }
    this.#answer(false, 'this monitor acts no longer')
    this.#tell({ kind: 'stood-down', monitor: this.state.config.self, why: 'voters follow another monitor' })
  }

  #answer(ok: boolean, text: string): void {
    const { request } = this.state
    if (request === null) return
    this.state = { ...this.state, request: null }
    this.commands.push({ kind: 'answer', id: request.id, ok, text })
  }

  /** Probes that began before now saw what was. */
  #invalidate(databases: readonly string[]): void {
    const { now } = this.state
    const validFrom = { ...this.state.validFrom }
    const seen = { ...this.state.seen }
    for (const name of databases) {
      validFrom[name] = now
      delete seen[name]
      this.commands.push({ kind: 'probe', database: name })
    }
    this.state = { ...this.state, validFrom, seen }
  }

  #stick(decision: Extract<Decision, { kind: 'stuck' }>): void {
    const { why, cure } = decision
    if (this.state.request?.kind === 'switchover') this.#answer(false, why)
    this.#tellOnce('stuck', why, { kind: 'stuck', why, cure })
  }

  #unstick(): void {
    if ((this.state.memory.told['stuck'] ?? '') === '') return
    this.#remember({ told: { ...this.state.memory.told, stuck: '' } })
    this.#tell({ kind: 'unstuck' })
  }

  /** `undefined`: nothing to tell of this state, but the next other one is news. */
  #tellChange(about: string, state: string, event: ClusterEvent | undefined): void {
    if ((this.state.memory.told[about] ?? '') === state) return
    this.#remember({ told: { ...this.state.memory.told, [about]: state } })
    if (event !== undefined) this.#tell(event)
  }

  #tellOnce(key: string, text: string, event: ClusterEvent): void {
    if (this.state.memory.told[key] === text) return
    this.#remember({ told: { ...this.state.memory.told, [key]: text } })
    this.#tell(event)
  }

  #tell(event: ClusterEvent): void {
    this.commands.push({ kind: 'tell', event })
  }

  #remember(change: Partial<Memory>): void {
    this.state = { ...this.state, memory: { ...this.state.memory, ...change } }
  }

  #elect(work: (election: Election) => void): void {
    const { config, now, round, leadership } = this.state
    const election: Election = { config, now, round, leadership, commands: this.commands }
    work(election)
    this.state = { ...this.state, round: election.round, leadership: election.leadership }
  }
}

function quarantineCure(cure: 'truncate' | 'rebuild'): string {
  return cure === 'truncate'
    ? 'kill -9 the server (never stop it cleanly) and start it with --init-rpl-role=SLAVE'
    : 'rebuild it from the primary'
}
