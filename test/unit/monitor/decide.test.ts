import { describe, expect, it } from 'vitest'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { DatabaseFacts } from '../../../src/domain/database-control.ts'
import { parsePosition } from '../../../src/domain/position.ts'
import { decide } from '../../../src/monitor/decide.ts'
import { startMachine } from '../../../src/monitor/machine.ts'
import { emptyMemory, type MachineState, type Memory, timingsDefault } from '../../../src/monitor/machine-state.ts'

const now = 100_000
const at = (host: string) => ({ host, port: 3306, adminPort: undefined })
const position = (sequence: number) => parsePosition('mariadb', `0-1-${sequence}`)

const steady: ClusterRecord = {
  epoch: 5,
  primary: 'db1',
  standby: 'db2',
  mode: 'paired',
  stage: 'steady',
  promotion: 'mariadb 0-1-1',
  instance: 'db1@1',
  standbyInstance: 'db2@1',
  former: null,
  cause: 'switchover',
}

function facts(name: string, given: Partial<DatabaseFacts> = {}): DatabaseFacts {
  const isPrimary = name === 'db1'
  return {
    instance: `${name}@1`,
    version: '',
    serverId: isPrimary ? 1 : 2,
    readOnly: !isPrimary,
    epoch: 5,
    position: position(100),
    history: '0-1-100',
    replication: isPrimary
      ? undefined
      : {
          source: at('db1'),
          receiver: 'connected',
          applier: 'running',
          received: position(100),
          heartbeats: 1,
          error: '',
        },
    semiSync: {
      primaryEnabled: isPrimary,
      primaryActive: isPrimary,
      clients: isPrimary ? 1 : 0,
      attached: isPrimary ? ['7'] : [],
      waiting: 0,
      unacknowledged: 0,
      standbyEnabled: !isPrimary,
    },
    diskFull: false,
    clockSeconds: 0,
    ...given,
  }
}

interface Given {
  /** Undefined: it does not answer. */
  readonly db1?: DatabaseFacts | undefined
  readonly db2?: DatabaseFacts | undefined
  /** What each voter says of db1 and db2, and what it may have acknowledged. */
  readonly voters?: Readonly<Record<string, readonly ['seen' | 'lost', 'seen' | 'lost', number | null]>>
  readonly memory?: Partial<Memory>
  /** Voters that were heard last before the drain ended. */
  readonly stale?: readonly string[]
}

/** Three voters that see what this monitor sees, unless told otherwise. */
function state(given: Given): MachineState {
  const machine = startMachine(
    {
      self: 'monitor1',
      monitors: ['monitor1'],
      voters: ['monitor1', 'node1', 'node2'],
      databases: ['db1', 'db2'],
      targets: { db1: at('db1'), db2: at('db2') },
      hosts: {},
      timings: timingsDefault,
    },
    { now, round: 1 },
  )
  const seen = Object.fromEntries(
    (['db1', 'db2'] as const).flatMap((name) => {
      const answer = given[name]
      return answer === undefined
        ? []
        : [[name, { startedAt: now - 10, at: now, sight: { answers: true, facts: answer } as const }]]
    }),
  )
  const says = (name: 'db1' | 'db2'): 'seen' | 'lost' => (given[name] === undefined ? 'lost' : 'seen')
  const usual = [says('db1'), says('db2'), null] as const
  const voters = given.voters ?? { monitor1: usual, node1: usual, node2: usual }
  const reports = Object.fromEntries(
    Object.entries(voters).map(([voter, [db1, db2, acknowledged]]) => [
      voter,
      {
        askedAt: now - (given.stale?.includes(voter) === true ? 30 : 5),
        at: now,
        report: {
          databases: { db1, db2 },
          acknowledged: acknowledged === null ? null : `mariadb 0-1-${acknowledged}`,
        },
      },
    ]),
  )
  return { ...machine, seen, reports, memory: { ...emptyMemory, ...given.memory } }
}

/** The standby of a dead primary: it hears nothing, and has applied all that it received. */
const silent: Partial<Memory> = { heard: { db2: { mark: '', at: now - 5000 } } }
const drained: Partial<Memory> = {
  ...silent,
  drained: { database: 'db2', epoch: 5, position: 'mariadb 0-1-100', at: now - 20 },
}
const lost = ['lost', 'seen', null] as const

describe('a dead primary in `paired`', () => {
  it('is replaced once its standby is cut off from it and drained, and covers what voters know', () => {
    expect(decide(state({ db2: facts('db2'), memory: silent }), steady)).toMatchObject({
      kind: 'run',
      operation: { kind: 'drain', database: 'db2' },
    })
    expect(decide(state({ db2: facts('db2'), memory: drained }), steady)).toMatchObject({
      kind: 'propose',
      record: { epoch: 6, primary: 'db2', mode: 'solo', stage: 'opening', cause: 'takeover' },
    })
  })

  it('is not replaced while fewer than a majority have lost it', () => {
    const voters = { monitor1: lost, node1: ['seen', 'seen', null] as const, node2: ['seen', 'seen', null] as const }
    expect(decide(state({ db2: facts('db2'), voters, memory: drained }), steady)).toEqual({ kind: 'wait' })
  })

  it('is not replaced by a standby that lacks what a node may have acknowledged', () => {
    const voters = { monitor1: lost, node1: ['lost', 'seen', 101] as const, node2: ['lost', 'seen', 100] as const }
    expect(decide(state({ db2: facts('db2'), voters, memory: drained }), steady)).toMatchObject({
      kind: 'stuck',
      why: expect.stringContaining('node1 knows of mariadb 0-1-101') as string,
    })
  })

  it('is not replaced before a majority was heard again after the drain', () => {
    const given = { db2: facts('db2'), memory: drained, stale: ['node1', 'node2'] }
    expect(decide(state(given), steady)).toEqual({ kind: 'ask-voters' })
  })

  it('is not replaced where fewer than a majority still miss it after the drain', () => {
    const voters = { monitor1: lost, node1: ['seen', 'seen', null] as const, node2: lost }
    const given = { db2: facts('db2'), voters, memory: drained }
    expect(decide(state({ ...given, stale: ['node2'] }), steady)).toEqual({ kind: 'wait' })
    expect(decide(state(given), steady).kind).toBe('propose')
  })

  it('is not replaced by a standby that restarted: what it had received may be gone', () => {
    const db2 = facts('db2', { instance: 'db2@2' })
    expect(decide(state({ db2, memory: drained }), steady)).toMatchObject({
      kind: 'stuck',
      why: expect.stringContaining('restarted before') as string,
    })
  })

  it('F7: is not replaced while its standby hears it', () => {
    const memory = { ...drained, heard: { db2: { mark: '', at: now - 100 } } }
    expect(decide(state({ db2: facts('db2'), memory }), steady)).toMatchObject({
      kind: 'stuck',
      why: expect.stringContaining('hears it') as string,
    })
  })

  it('F10: is not replaced within the anti-flap window of one that had lived on; of one that had died after a moment', () => {
    const window = (milliseconds: number, lived: boolean) =>
      decide(state({ db2: facts('db2'), memory: { ...drained, takeover: { at: now - milliseconds, lived } } }), steady)
        .kind
    expect(window(timingsDefault.antiFlapMilliseconds - 1, true)).toBe('wait')
    expect(window(timingsDefault.antiFlapMilliseconds, true)).toBe('propose')
    expect(window(timingsDefault.settleMilliseconds - 1, false)).toBe('wait')
    expect(window(timingsDefault.settleMilliseconds, false)).toBe('propose')
  })

  it('R8: is not replaced in `solo`', () => {
    expect(decide(state({ db2: facts('db2'), memory: drained }), { ...steady, mode: 'solo' })).toMatchObject({
      kind: 'stuck',
      cure: expect.stringContaining('takeover --force') as string,
    })
  })
})

describe('R4: a primary that restarted', () => {
  const back = (sequence: number) =>
    facts('db1', { instance: 'db1@2', readOnly: true, position: position(sequence), history: `0-1-${sequence}` })

  it('is opened in the next epoch if it covers its standby and all that voters know', () => {
    expect(decide(state({ db1: back(100), db2: facts('db2') }), steady)).toMatchObject({
      kind: 'propose',
      record: { epoch: 6, primary: 'db1', mode: 'paired', cause: 'restart' },
    })
  })

  it('gives way to its standby where it lacks what that has applied, or received', () => {
    const received = facts('db2', {
      position: position(99),
      replication: { ...facts('db2').replication!, received: position(100) },
    })
    for (const db2 of [facts('db2'), received]) {
      expect(decide(state({ db1: back(99), db2 }), steady)).toMatchObject({
        kind: 'run',
        operation: { kind: 'drain', database: 'db2' },
      })
    }
  })

  it('gives way to its standby where it lacks what a node may have acknowledged', () => {
    const voters = {
      monitor1: ['seen', 'seen', null],
      node1: ['seen', 'seen', 101],
      node2: ['seen', 'seen', null],
    } as const
    const db2 = facts('db2', { position: position(101), history: '0-1-101' })
    expect(decide(state({ db1: back(100), db2, voters }), steady)).toMatchObject({
      kind: 'run',
      operation: { kind: 'drain' },
    })
  })

  it('is opened by nobody in `solo` while it lacks what voters know', () => {
    const voters = {
      monitor1: ['seen', 'lost', null],
      node1: ['seen', 'lost', 101],
      node2: ['seen', 'lost', null],
    } as const
    expect(decide(state({ db1: back(100), voters }), { ...steady, mode: 'solo' }).kind).toBe('stuck')
  })

  it('is made read-only first where it came up writable', () => {
    const db1 = facts('db1', { instance: 'db1@2' })
    expect(decide(state({ db1, db2: facts('db2') }), steady)).toMatchObject({
      kind: 'run',
      operation: { kind: 'freeze', database: 'db1' },
    })
  })
})

describe('beside a primary that lives', () => {
  const marked = { marked: ['db1@1 7'], heard: { db2: { mark: '', at: now - 10 } } }

  it('a database that is writable without being the primary is fenced, once for each life of its server', () => {
    const db2 = facts('db2', { readOnly: false, replication: undefined })
    expect(decide(state({ db1: facts('db1'), db2, memory: marked }), steady)).toMatchObject({
      kind: 'run',
      operation: { kind: 'fence', database: 'db2' },
    })
    const memory = { ...marked, fenced: { db2: 'db2@1' } }
    expect(decide(state({ db1: facts('db1'), db2, memory }), steady)).not.toMatchObject({
      operation: { kind: 'fence' },
    })
  })

  it('`solo` is recorded at once where somebody has switched semi-sync off', () => {
    const usual = facts('db1')
    const db1 = { ...usual, semiSync: { ...usual.semiSync, primaryEnabled: false } }
    expect(decide(state({ db1, db2: facts('db2'), memory: marked }), steady)).toMatchObject({
      kind: 'propose',
      record: { epoch: 5, mode: 'solo' },
    })
  })

  it('semi-sync goes off before the standby is attached anew: a GRANT that waited would lock everybody out', () => {
    const solo: ClusterRecord = { ...steady, mode: 'solo' }
    const failed = (db1: DatabaseFacts) =>
      decide(state({ db1, db2: facts('db2'), memory: { ...marked, pairFailed: true } }), solo)
    expect(failed(facts('db1'))).toMatchObject({ operation: { kind: 'unpair', database: 'db1' } })
    const off = facts('db1', { semiSync: { ...facts('db1').semiSync, primaryEnabled: false, primaryActive: false } })
    expect(failed(off)).toMatchObject({ operation: { kind: 'attach', primary: 'db1', standby: 'db2' } })
  })

  it('semi-sync goes off only once `solo` is recorded; a lost standby is waited for less long than one that stalls', () => {
    const since = (milliseconds: number, db2?: DatabaseFacts) =>
      decide(state({ db1: facts('db1'), db2, memory: { ...marked, standbyBrokenSince: now - milliseconds } }), steady)
    const solo = { kind: 'propose', record: { mode: 'solo' } }
    expect(since(timingsDefault.soloLostMilliseconds - 1)).toEqual({ kind: 'wait' })
    expect(since(timingsDefault.soloLostMilliseconds)).toMatchObject(solo)
    expect(since(timingsDefault.soloMilliseconds - 1, facts('db2'))).not.toMatchObject(solo)
    expect(since(timingsDefault.soloMilliseconds, facts('db2'))).toMatchObject(solo)
    expect(decide(state({ db1: facts('db1'), memory: marked }), { ...steady, mode: 'solo' })).toMatchObject({
      kind: 'run',
      operation: { kind: 'unpair', database: 'db1' },
    })
  })

  it('a standby that restarted is paired anew before it may be promoted', () => {
    const db2 = facts('db2', { instance: 'db2@2' })
    expect(decide(state({ db1: facts('db1'), db2, memory: marked }), steady)).toMatchObject({
      kind: 'run',
      operation: { kind: 'pair' },
    })
  })
})
