import type { ClusterEvent } from '../domain/cluster-record.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import { everyDatabase } from './machine-state.ts'
import { relaysOf } from './relays.ts'
import type { View } from './view.ts'

/** Something whose state is told when it changes; the empty state is the usual one. */
export interface News {
  readonly about: string
  readonly state: string
  /** Undefined: this change alone says nothing. */
  readonly event: ClusterEvent | undefined
}

/** What people want to hear of, whether or not it leads to a change. */
export function newsOf(view: View): readonly News[] {
  const primary = view.facts(view.record.primary)
  return [
    ...ofPrimary(view, primary),
    ofStandby(view),
    ...relaysOf(view).map((name) => ofRelay(view, name)),
    ...everyDatabase(view.state.config).map((name) => ofDisk(view, name)),
  ]
}

function ofPrimary(view: View, facts: DatabaseFacts | undefined): readonly News[] {
  const { primary: database, epoch, stage, instance } = view.record
  const about = `primary ${database}`
  const was = view.state.memory.told[about] ?? ''
  // One that was replaced meanwhile is not back when it becomes the primary again.
  const lost = `lost in ${epoch}`
  if (view.lost(database)) {
    const voters = view.votersThatLost(database)
    return [{ about, state: lost, event: { kind: 'primary-lost', database, epoch, voters } }]
  }
  if (facts === undefined) return []
  if (stage === 'steady' && instance !== null && facts.instance !== instance) {
    return [{ about, state: 'restarted', event: { kind: 'primary-restarted', database, epoch } }]
  }
  return [{ about, state: '', event: was === lost ? { kind: 'primary-back', database, epoch } : undefined }]
}

function ofStandby({ state, record }: View): News {
  // A pair that never was one has lost nothing.
  const isFirst = record.cause === 'first-start' && record.mode === 'solo'
  const isBroken = record.stage === 'steady' && !isFirst && state.memory.standbyBrokenSince !== null
  return {
    about: 'standby',
    state: isBroken ? record.standby : '',
    event: isBroken ? { kind: 'standby-lost', database: record.standby } : undefined,
  }
}

const relaySilentMilliseconds = 10_000

/** Its nodes are read on, and grow old. */
function ofRelay(view: View, name: string): News {
  const about = `relay ${name}`
  const facts = view.facts(name)
  const was = view.state.memory.told[about] ?? ''
  const { receiver, applier, error } = facts?.replication ?? {}
  if (receiver === 'connected' && applier === 'running') return { about, state: '', event: undefined }
  // It has just been repointed, or its link comes and goes.
  const heardAt = view.state.memory.heard[name]?.at ?? view.state.memory.stageSince
  if (view.now - heardAt < relaySilentMilliseconds) return { about, state: was, event: undefined }
  const isSilent = facts === undefined && view.state.sightings[name]?.state !== 'lost'
  if (isSilent || view.record.stage !== 'steady') return { about, state: was, event: undefined }
  const why =
    facts === undefined ? 'it does not answer' : error === undefined || error === '' ? 'it is not connected' : error
  return { about, state: 'away', event: { kind: 'alarm', about, detail: `${name} does not follow: ${why}` } }
}

function ofDisk(view: View, name: string): News {
  const about = `disk of ${name}`
  const facts = view.facts(name)
  // Not seen: as before.
  const isFull = facts === undefined ? (view.state.memory.told[about] ?? '') !== '' : facts.diskFull
  const detail = `${name} has no space left: its writes wait until there is some`
  return { about, state: isFull ? 'full' : '', event: isFull ? { kind: 'alarm', about, detail } : undefined }
}
