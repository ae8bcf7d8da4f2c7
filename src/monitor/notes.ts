import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import { formatPosition } from '../domain/position.ts'
import type { MachineState, Memory } from './machine-state.ts'
import { View } from './view.ts'

/** What the acting monitor keeps in mind of what it sees, where one look alone does not tell. */
type Noted = Partial<Memory>

export function noteSight({ memory, now, leadership }: MachineState, database: string, facts: DatabaseFacts): Noted {
  const noted: { heard?: Memory['heard']; takeover?: Memory['takeover'] } = {}
  const { replication, instance } = facts
  if (replication !== undefined) {
    const mark = `${replication.heartbeats} ${formatPosition(replication.received)}`
    if (memory.heard[database]?.mark !== mark) noted.heard = { ...memory.heard, [database]: { mark, at: now } }
  }
  // The former primary is back, and was never gone: only its link was.
  const former = leadership.kind === 'acting' ? leadership.chosen?.former : undefined
  const { takeover } = memory
  if (takeover?.lived === false && former?.name === database && former.instance === instance) {
    noted.takeover = { ...takeover, lived: true }
  }
  return noted
}

/** Since when does the standby not do its part? */
export function noteStandby(state: MachineState, record: ClusterRecord): Noted {
  if (record.stage !== 'steady') return {}
  const view = new View(state, record)
  const primary = view.facts(record.primary)
  if (primary === undefined || primary.readOnly) return {}
  const standby = view.facts(record.standby)
  const stalled = noteStall(state, primary)
  const isSilent = standby === undefined && !view.lost(record.standby)
  const broken =
    (standby === undefined ? !isSilent : !view.follows(standby)) ||
    primary.semiSync.clients === 0 ||
    (stalled !== null && state.now - stalled.since >= state.config.timings.stallMilliseconds)
  const { standbyBrokenSince } = state.memory
  // Not looked at since our last change: as before.
  if (!broken && isSilent) return { stalled }
  return { stalled, standbyBrokenSince: broken ? (standbyBrokenSince ?? state.now) : null }
}

function noteStall({ memory, now }: MachineState, { position, semiSync }: DatabaseFacts): Memory['stalled'] {
  if (semiSync.waiting === 0) return null
  const text = formatPosition(position)
  return memory.stalled?.position === text ? memory.stalled : { position: text, since: now }
}

export function noteMarked(state: MachineState, database: string): Noted {
  const sight = state.seen[database]?.sight
  if (sight?.answers !== true) return {}
  const { instance, semiSync } = sight.facts
  return { marked: semiSync.attached.map((id) => `${instance} ${id}`) }
}
