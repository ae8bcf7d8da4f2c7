import { describe, expect, test } from 'vitest'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { DatabaseFacts } from '../../../src/domain/database-control.ts'
import { parsePosition } from '../../../src/domain/position.ts'
import { decide } from '../../../src/monitor/decide.ts'
import { succession } from '../../../src/monitor/decision.ts'
import { startMachine } from '../../../src/monitor/machine.ts'
import { type MachineConfig, type MachineState, timingsDefault } from '../../../src/monitor/machine-state.ts'
import { View } from '../../../src/monitor/view.ts'
import { pairedRecord } from '../../support/cluster-records.ts'

const ports = { db1: 1, db2: 2, db3: 3 }
type Name = keyof typeof ports

const target = (port: number) => ({ host: 'home', port, adminPort: port + 10 })
const beyond = (port: number) => ({ host: 'far', port, adminPort: undefined })

const config: MachineConfig = {
  self: 'monitor',
  monitors: ['monitor'],
  voters: ['monitor'],
  databases: ['db1', 'db2'],
  relays: [{ name: 'db3', filtered: true, sources: { db1: beyond(1), db2: beyond(2) } }],
  targets: { db1: target(1), db2: target(2), db3: target(3) },
  hosts: {},
  timings: timingsDefault,
}

const paired = pairedRecord({ instance: 'db1', standbyInstance: 'db2' })
const solo: ClusterRecord = { ...paired, mode: 'solo' }

type Source = { readonly host: string; readonly port: number }

function facts(name: Name, given: { source?: Source; isPrimary?: boolean; semiSync?: boolean } = {}): DatabaseFacts {
  const { source, isPrimary = false, semiSync = isPrimary } = given
  return {
    instance: name,
    version: '',
    serverId: ports[name],
    readOnly: !isPrimary,
    epoch: 3,
    position: parsePosition('mariadb', '0-1-5'),
    history: '0-1-5',
    replication:
      source === undefined
        ? undefined
        : {
            source,
            receiver: 'connected',
            applier: 'running',
            received: parsePosition('mariadb', '0-1-5'),
            heartbeats: 1,
            error: '',
          },
    semiSync: {
      primaryEnabled: isPrimary && semiSync,
      primaryActive: true,
      clients: 1,
      attached: [],
      waiting: 0,
      unacknowledged: 0,
      standbyEnabled: name === 'db2',
    },
    diskFull: false,
    clockSeconds: 0,
  }
}

function state(seen: Partial<Record<Name, DatabaseFacts>>, more: Partial<MachineState> = {}): MachineState {
  return {
    ...startMachine(config, { now: 1000, round: 1 }),
    seen: Object.fromEntries(
      Object.entries(seen).map(([name, one]) => [
        name,
        { startedAt: 900, at: 1000, sight: { answers: true as const, facts: one } },
      ]),
    ),
    ...more,
  }
}

const followsPrimary = { source: { host: 'home', port: 11 } }

describe('a relay', () => {
  const primary = facts('db1', { isPrimary: true })
  const standby = facts('db2', followsPrimary)

  test('follows the standby, by the address that it reaches it at', () => {
    const attach = { relay: 'db3', source: 'db2', primary: 'db1', filtered: true, kind: 'attach-relay' }
    for (const source of [undefined, beyond(1), target(2)]) {
      const db3 = facts('db3', source === undefined ? {} : { source })
      const decision = decide(state({ db1: primary, db2: standby, db3 }), paired)
      expect(decision.kind === 'run' && decision.operation).toMatchObject(source?.host === 'home' ? {} : attach)
    }
    const decision = decide(state({ db1: primary, db2: standby, db3: facts('db3', { source: beyond(2) }) }), paired)
    expect(decision).toEqual({ kind: 'wait' })
  })

  test('reads the primary in `solo` alone, and nothing of it is done while that is about to be paired', () => {
    const alone = facts('db1', { isPrimary: true, semiSync: false })
    const db3 = facts('db3', { source: beyond(2) })
    const decision = decide(state({ db1: alone, db3 }), solo)
    expect(decision.kind === 'run' && decision.operation).toMatchObject({ kind: 'attach-relay', source: 'db1' })
    const pairing = decide(state({ db1: alone, db2: standby, db3: facts('db3') }), solo)
    expect(pairing.kind === 'run' && pairing.operation.kind).toBe('pair')
    expect(decide(state({ db1: primary, db2: facts('db2'), db3: facts('db3') }), paired)).toEqual({ kind: 'wait' })
  })

  test('never becomes the primary by itself, whoever is lost', () => {
    const report = { databases: { db1: 'lost', db2: 'lost', db3: 'seen' }, acknowledged: null } as const
    const reports = { monitor: { askedAt: 900, at: 1000, report } }
    for (const record of [paired, solo]) {
      const decision = decide(state({ db3: facts('db3', { source: beyond(2) }) }, { reports }), record)
      expect(decision.kind).toBe('stuck')
    }
  })

  test('that a person makes the primary has one of the pair as its standby, and the pair is one again afterwards', () => {
    const view = (record: ClusterRecord): View => new View(state({}), record)
    const next = { mode: 'solo', cause: 'forced', promotion: 'mariadb 0-1-5' } as const
    const promoted = succession(view(solo), { ...next, primary: 'db3' })
    expect(promoted).toMatchObject({ primary: 'db3', standby: 'db2', epoch: 4, standbyInstance: null })
    const back = succession(view({ ...promoted, instance: 'db3', standbyInstance: 'db2' }), { ...next, primary: 'db2' })
    // What was standby of another primary is not known to have everything of this one.
    expect(back).toMatchObject({ primary: 'db2', standby: 'db1', standbyInstance: null })
  })
})
