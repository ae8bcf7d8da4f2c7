import { type ClusterRecord, formatPlace } from '../domain/cluster-record.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import { covers } from '../domain/position.ts'
import { type Decision, run, succession, wait } from './decision.ts'
import { firstRecord } from './first-record.ts'
import { everyDatabase, type MachineState } from './machine-state.ts'
import { type Operation, operationKey } from './operations.ts'
import { rejoin } from './rejoin.ts'
import { attendRelays } from './relays.ts'
import { takeOver } from './take-over.ts'
import { View } from './view.ts'

/**
 * The next thing to do, from what a majority has recorded and what is seen. Everything that is half done is found in these two, never in
 * the memory of whoever began it: so a successor goes on where it was left, and each answer may be given again.
 */
export function decide(state: MachineState, record: ClusterRecord | null): Decision {
  if (record === null) return firstRecord(state)
  const view = new View(state, record)
  const decision = forced(view) ?? stray(view) ?? byStage(view)
  return decision.kind === 'wait' ? (attendRelays(view) ?? wait) : decision
}

function byStage(view: View): Decision {
  switch (view.record.stage) {
    case 'opening':
      return opening(view)
    case 'switching':
      return switching(view)
    case 'steady':
      return steady(view)
  }
}

/** A person takes the responsibility: neither mode nor positions are asked, only that the new primary answers. */
function forced(view: View): Decision | undefined {
  const { state, record, now } = view
  const { request } = state
  if (request?.kind !== 'forced-takeover') return undefined
  const { to } = request
  const facts = view.facts(to)
  if (record.primary === to && record.stage === 'opening') return undefined
  if (facts === undefined) {
    if (now - request.at < patienceMilliseconds(view, to)) return wait
    return { kind: 'refuse-request', why: `${to} does not answer, so it can't become the primary` }
  }
  if (record.primary === to && !facts.readOnly) return { kind: 'fulfil-request', text: `${to} is the primary` }
  const { drained } = state.memory
  if (drained?.database !== to || drained.epoch !== record.epoch) return run(view, { kind: 'drain', database: to })
  return {
    kind: 'propose',
    record: succession(view, { primary: to, mode: 'solo', promotion: drained.position, cause: 'forced' }),
  }
}

/** A relay is far: one look takes longer, and what was under way there had to be called off. */
function patienceMilliseconds({ state }: View, database: string): number {
  const { relays = [], timings } = state.config
  return relays.some(({ name }) => name === database) ? 4 * timings.freshMilliseconds : timings.freshMilliseconds
}

/** Writable without being the recorded primary: it can't acknowledge in `paired`, but nobody should be left to try. */
function stray(view: View): Decision | undefined {
  for (const database of everyDatabase(view.state.config)) {
    const facts = view.facts(database)
    if (database === view.record.primary || facts === undefined || facts.readOnly) continue
    // A fence that is pending shows as writable: asked once for each life of the server.
    if (view.state.memory.fenced[database] === facts.instance) continue
    const operation: Operation = { kind: 'fence', database }
    if (view.mayRun(operationKey(operation))) return { kind: 'run', operation }
  }
  return undefined
}

function opening(view: View): Decision {
  const { record, state } = view
  const primary = view.facts(record.primary)
  if (record.mode === 'solo') {
    if (primary !== undefined) return run(view, { kind: 'open', database: record.primary, epoch: record.epoch })
    if (!view.lost(record.primary)) return wait
    return {
      kind: 'stuck',
      why: `${record.primary} was chosen as the primary of epoch ${record.epoch} and is gone; it may have acknowledged writes that nobody else has`,
      cure: `bring ${record.primary} back, or give up what it alone has: whitehole takeover --force`,
    }
  }
  if (primary === undefined) return view.lost(record.primary) ? takeOver(view) : wait
  const hopeless = view.lost(record.standby) || view.stageMilliseconds > state.config.timings.openPairedMilliseconds
  if (hopeless) return { kind: 'propose', record: { ...record, mode: 'solo' } }
  if (view.facts(record.standby) === undefined) return wait
  const { primary: p, standby, epoch } = record
  return run(view, { kind: 'open-paired', primary: p, standby, epoch })
}

function switching(view: View): Decision {
  const { record, state } = view
  if (view.lost(record.primary)) return takeOver(view)
  const { handedOver } = state.memory
  if (handedOver?.epoch === record.epoch) {
    return {
      kind: 'propose',
      record: succession(view, {
        primary: record.standby,
        mode: 'paired',
        promotion: handedOver.position,
        cause: 'switchover',
      }),
    }
  }
  const failed =
    state.memory.retryAt[operationKey({ kind: 'hand-over', primary: record.primary, standby: record.standby })]
  if (failed !== undefined || view.stageMilliseconds > state.config.timings.switchoverMilliseconds) {
    // Opened anew where it had become read-only.
    return { kind: 'propose', record: { ...record, stage: 'steady' } }
  }
  return run(view, { kind: 'hand-over', primary: record.primary, standby: record.standby })
}

function steady(view: View): Decision {
  const { record } = view
  const primary = view.facts(record.primary)
  if (primary === undefined) {
    if (!view.lost(record.primary)) return wait
    if (record.mode === 'paired') return takeOver(view)
    return {
      kind: 'stuck',
      why: `${record.primary} is lost, and the mode is solo: ${record.standby} may lack acknowledged writes`,
      cure: `bring ${record.primary} back, or give up what it alone has: whitehole takeover --force`,
    }
  }
  if (primary.readOnly || primary.instance !== record.instance) return restarted(view, primary)
  return switchover(view) ?? (record.mode === 'paired' ? paired(view, primary) : solo(view, primary))
}

/**
 * A primary that restarted, or whom somebody made read-only, is a dead one until positions are compared (R4). It goes on where it has
 * everything that anybody may have been told; what it has beyond that (commits nobody acknowledged) stays, and reaches the
 * standby before anything new is acknowledged.
 */
function restarted(view: View, primary: DatabaseFacts): Decision {
  const { record } = view
  if (!primary.readOnly) return run(view, { kind: 'freeze', database: record.primary })
  const uncovered = view.uncovered(primary.position)
  if (uncovered === undefined) return { kind: 'ask-voters' }
  const again = (mode: ClusterRecord['mode']): Decision => ({
    kind: 'propose',
    record: succession(view, {
      primary: record.primary,
      mode,
      promotion: formatPlace(primary.position),
      cause: 'restart',
    }),
  })
  if (record.mode === 'solo') {
    if (uncovered.length === 0) return again('solo')
    return {
      kind: 'stuck',
      why: `${record.primary} restarted without everything that was acknowledged: it has ${formatPlace(primary.position)}, ${uncovered.join(', ')}`,
      cure: `restore it, or accept the loss: whitehole takeover --force --to ${record.primary}`,
    }
  }
  const standby = view.facts(record.standby)
  if (standby === undefined) {
    if (!view.lost(record.standby)) return wait
    if (uncovered.length === 0) return again('solo')
    return {
      kind: 'stuck',
      why: `${record.primary} restarted without everything that was acknowledged (${uncovered.join(', ')}), and ${record.standby} is away`,
      cure: `bring ${record.standby} back`,
    }
  }
  const received = standby.replication?.received ?? standby.position
  const has = covers(primary.position, standby.position) && covers(primary.position, received)
  return has && uncovered.length === 0 ? again('paired') : takeOver(view, { primaryIsKnown: true })
}

function switchover(view: View): Decision | undefined {
  const { state, record } = view
  const { request } = state
  if (request?.kind !== 'switchover') return undefined
  if (request.to === record.primary) return { kind: 'fulfil-request', text: `${record.primary} is the primary` }
  const standby = view.facts(record.standby)
  if (record.mode === 'paired' && standby !== undefined && view.follows(standby)) {
    return { kind: 'propose', record: { ...record, stage: 'switching' } }
  }
  if (view.now - request.at < state.config.timings.switchoverMilliseconds) return undefined
  const why =
    record.mode === 'solo'
      ? `the mode is solo: ${record.standby} does not have everything yet`
      : `${record.standby} does not follow ${record.primary}`
  return { kind: 'refuse-request', why }
}

function paired(view: View, primary: DatabaseFacts): Decision {
  const { record, state } = view
  const standby = view.facts(record.standby)
  const since = state.memory.standbyBrokenSince
  if (!primary.semiSync.primaryEnabled) {
    // Somebody turned it off: then what is acknowledged is on one machine, and the record must say so.
    return { kind: 'propose', record: { ...record, mode: 'solo' } }
  }
  if (since === null) {
    if (standby !== undefined && standby.instance !== record.standbyInstance) {
      // It restarted and follows again: once it has what the primary had meanwhile, it may be promoted again.
      return run(view, { kind: 'pair', primary: record.primary, standby: record.standby })
    }
    return marker(view, primary)
  }
  const { soloMilliseconds, soloLostMilliseconds } = state.config.timings
  // What stalls may be a slow disk; who is gone or cut off won't be back in a moment.
  const isLost = standby === undefined ? view.lost(record.standby) : !view.hears(record.standby)
  if (view.now - since >= (isLost ? soloLostMilliseconds : soloMilliseconds)) {
    return { kind: 'propose', record: { ...record, mode: 'solo' } }
  }
  return standby === undefined ? wait : rejoin(view, standby)
}

/** Without the marker a writer whose acknowledgement was lost would wait for ever (R32). */
function marker(view: View, { semiSync, instance }: DatabaseFacts): Decision {
  const fresh = semiSync.attached.some((id) => !view.state.memory.marked.includes(`${instance} ${id}`))
  const operation: Operation = { kind: 'mark', database: view.record.primary }
  return fresh && semiSync.clients > 0 && view.mayRun(operationKey(operation)) ? { kind: 'run', operation } : wait
}

function solo(view: View, primary: DatabaseFacts): Decision {
  const { record } = view
  const standby = view.facts(record.standby)
  const works = standby !== undefined && standby.readOnly && view.follows(standby)
  const attachAnew = !works || view.state.memory.pairFailed
  // Also where an attempt to pair was left half done: nobody may wait for a standby that is not there, or is about to be attached anew. With
  // MariaDB a GRANT that waits holds a lock without which nobody comes in any more, neither standby nor monitor.
  if (attachAnew && primary.semiSync.primaryEnabled) return run(view, { kind: 'unpair', database: record.primary })
  if (standby === undefined) return wait
  if (attachAnew) return rejoin(view, standby)
  return run(view, { kind: 'pair', primary: record.primary, standby: record.standby })
}
