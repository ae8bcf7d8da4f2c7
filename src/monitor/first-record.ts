import { type ClusterRecord, formatPlace } from '../domain/cluster-record.ts'
import type { DatabaseFacts } from '../domain/database-control.ts'
import { covers } from '../domain/position.ts'
import { type Decision, wait } from './decision.ts'
import { everyDatabase, type MachineState } from './machine-state.ts'
import { operationKey } from './operations.ts'

/**
 * There never was a record (or every voter lost its disk). A database that is writable is the primary that there is; else both
 * must answer, so that nobody becomes primary without what the other one has. Always `solo` at first: nothing is known yet.
 */
export function firstRecord(state: MachineState): Decision {
  const [first, second] = state.config.databases
  const a = factsOf(state, first)
  const b = factsOf(state, second)
  const { request } = state
  if (request?.kind === 'forced-takeover' && factsOf(state, request.to) !== undefined) return propose(state, request.to)
  const writable = [a?.readOnly === false ? first : undefined, b?.readOnly === false ? second : undefined]
  const [one] = writable.filter((name) => name !== undefined)
  if (writable[0] !== undefined && writable[1] !== undefined) {
    return {
      kind: 'stuck',
      why: `${first} and ${second} are both writable, and no voter knows which is the primary`,
      cure: 'make one of them read-only (SET GLOBAL read_only = 1): the one whose writes may be given up',
    }
  }
  if (one !== undefined) return propose(state, one)
  if (a === undefined || b === undefined) return wait
  for (const [name, facts] of [
    [first, a],
    [second, b],
  ] as const) {
    const received = facts.replication?.received
    if (received === undefined || covers(facts.position, received)) continue
    const operation = { kind: 'drain', database: name } as const
    return state.now >= (state.memory.retryAt[operationKey(operation)] ?? 0) ? { kind: 'run', operation } : wait
  }
  if (covers(a.position, b.position)) return propose(state, first)
  if (covers(b.position, a.position)) return propose(state, second)
  return {
    kind: 'stuck',
    why: `${first} (${formatPlace(a.position)}) and ${second} (${formatPlace(b.position)}) have diverged: each has what the other lacks`,
    cure: 'choose whose writes are given up: whitehole takeover --force --to NAME',
  }
}

const epochLeap = 1000

function propose(state: MachineState, primary: string): Decision {
  const [first, second] = state.config.databases
  const facts = factsOf(state, primary)
  const seen = everyDatabase(state.config).map((name) => factsOf(state, name))
  const epochs = seen.map((one) => one?.epoch ?? 0)
  // A pair that can't be seen may go on for a while without us: its epochs must not reach ours.
  const leap = [first, second].includes(primary) ? 1 : epochLeap
  const record: ClusterRecord = {
    epoch: Math.max(...epochs) + leap,
    primary,
    standby: primary === first ? second : first,
    mode: 'solo',
    stage: 'opening',
    promotion: facts === undefined ? null : formatPlace(facts.position),
    instance: null,
    standbyInstance: null,
    former: null,
    cause: 'first-start',
  }
  return { kind: 'propose', record }
}

function factsOf(state: MachineState, name: string): DatabaseFacts | undefined {
  const seen = state.seen[name]
  if (seen === undefined || state.now - seen.at > state.config.timings.freshMilliseconds) return undefined
  return seen.sight.answers ? seen.sight.facts : undefined
}
