import { describe, expect, it } from 'vitest'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { DatabaseFacts } from '../../../src/domain/database-control.ts'
import { parsePosition } from '../../../src/domain/position.ts'
import { startMachine, step } from '../../../src/monitor/machine.ts'
import { type Command, emptyMemory, type MachineState, timingsDefault } from '../../../src/monitor/machine-state.ts'
import type { Operation, OperationValue } from '../../../src/monitor/operations.ts'

const now = 100_000
const ballot = { round: 1, monitor: 'monitor1' }
const at = (host: string) => ({ host, port: 3306, adminPort: undefined })
const position = parsePosition('mariadb', '0-2-100')
const solo: ClusterRecord = {
  epoch: 5,
  primary: 'db2',
  standby: 'db1',
  mode: 'solo',
  stage: 'steady',
  promotion: 'mariadb 0-1-90',
  instance: 'db2@1',
  standbyInstance: null,
  former: { name: 'db1', instance: 'db1@1', until: 'mariadb 0-1-90' },
  cause: 'takeover',
}

function facts(name: 'db1' | 'db2'): DatabaseFacts {
  const isPrimary = name === 'db2'
  const following = { receiver: 'connected', applier: 'running', received: position, heartbeats: 1, error: '' } as const
  return {
    instance: `${name}@1`,
    version: '',
    serverId: 1,
    readOnly: !isPrimary,
    epoch: 5,
    position,
    history: '',
    replication: isPrimary ? undefined : { source: at('db2'), ...following },
    semiSync: {
      primaryEnabled: false,
      primaryActive: false,
      clients: 0,
      attached: [],
      waiting: 0,
      unacknowledged: 0,
      standbyEnabled: !isPrimary,
    },
    diskFull: false,
    clockSeconds: 0,
  }
}

/** Alone it is a majority, and acts; an operation is under way. */
function acting(record: ClusterRecord, operation: Operation): MachineState {
  const config = {
    self: 'monitor1',
    monitors: ['monitor1'],
    voters: ['monitor1'],
    databases: ['db1', 'db2'] as const,
    targets: { db1: at('db1'), db2: at('db2') },
    hosts: { db1: { restart: true, rebuild: true } },
    timings: timingsDefault,
  }
  const seen = (['db1', 'db2'] as const).map((name) => {
    return [name, { startedAt: now, at: now, sight: { answers: true as const, facts: facts(name) } }] as const
  })
  return {
    ...startMachine(config, { now, round: 1 }),
    leadership: { kind: 'acting', ballot, since: 0, serial: 1, chosen: record, proposal: null, askedAt: 0 },
    seen: Object.fromEntries(seen),
    running: { change: { id: 1, operation, startedAt: now } },
    nextId: 2,
    memory: emptyMemory,
  }
}

function done(state: MachineState, value: OperationValue): { state: MachineState; commands: readonly Command[] } {
  return step(state, { now, kind: 'done', id: 1, result: { ok: true, value } })
}

const offered = (commands: readonly Command[]): ClusterRecord[] =>
  commands.flatMap((command) =>
    command.kind === 'ask' && command.request.kind === 'accept' ? [command.request.offer.record] : [],
  )

/** What it does once it has looked at both again. */
function next(state: MachineState): Operation[] {
  let after = state
  const operations: Operation[] = []
  for (const database of ['db2', 'db1'] as const) {
    const sight = { answers: true as const, facts: facts(database) }
    const event = { now: now + 10, kind: 'sight' as const, database, startedAt: now + 5, sight }
    const taken = step(after, event)
    after = taken.state
    operations.push(...taken.commands.flatMap((command) => (command.kind === 'run' ? [command.operation] : [])))
  }
  return operations
}

describe('a standby that has come to where its primary is', () => {
  const pair: Operation = { kind: 'pair', primary: 'db2', standby: 'db1' }

  it('is paired, and is a former primary no more: nothing of it may be truncated from here on', () => {
    expect(offered(done(acting(solo, pair), { standbyInstance: 'db1@1' }).commands)).toMatchObject([
      { mode: 'paired', former: null, standbyInstance: 'db1@1' },
    ])
  })

  it('is rebuilt, not paired, where it passed over something on its way', () => {
    const errant = { gtids: 'none, but it has passed over 0-1-90', cure: 'rebuild' as const }
    const { state, commands } = done(acting(solo, pair), { errant, instance: 'db1@1' })
    expect(offered(commands)).toEqual([])
    expect(commands).toContainEqual({ kind: 'tell', event: { kind: 'rejoining', database: 'db1', how: 'rebuild' } })
    expect(next(state)).toEqual([{ kind: 'rebuild', database: 'db1', from: 'db2' }])
  })

  it('is no former primary either once a switchover has opened the other one with it', () => {
    const opening = { ...solo, mode: 'paired' as const, stage: 'opening' as const }
    const open: Operation = { kind: 'open-paired', primary: 'db2', standby: 'db1', epoch: 5 }
    const value = { instance: 'db2@1', standbyInstance: 'db1@1' }
    expect(offered(done(acting(opening, open), value).commands)).toMatchObject([{ stage: 'steady', former: null }])
  })

  it('stays one while its successor is opened alone', () => {
    const opening = { ...solo, stage: 'opening' as const }
    const open: Operation = { kind: 'open', database: 'db2', epoch: 5 }
    expect(offered(done(acting(opening, open), { instance: 'db2@1' }).commands)).toMatchObject([
      { stage: 'steady', former: solo.former },
    ])
  })
})
