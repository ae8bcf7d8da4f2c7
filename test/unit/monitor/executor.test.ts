import { describe, expect, it } from 'vitest'
import type {
  DatabaseControl,
  DatabaseFacts,
  HistoryVerdict,
  LockedDatabase,
} from '../../../src/domain/database-control.ts'
import { parsePosition } from '../../../src/domain/position.ts'
import { Executor, executorTimeouts } from '../../../src/monitor/executor.ts'
import type { Operation } from '../../../src/monitor/operations.ts'

const ballot = { round: 1, monitor: 'monitor1' }
const end = parsePosition('mariadb', '0-1-100')

/** What each database is told, in order, by name. */
class Told {
  readonly calls: string[] = []
  facts: Readonly<Record<string, Partial<DatabaseFacts>>> = {}
  verdict: HistoryVerdict = { kind: 'contained' }
  confirms = true
  lacks = ''
  readonly executor = new Executor({
    databases: { db1: this.#control('db1'), db2: this.#control('db2') },
    hosts: {},
    confirm: () => {
      this.calls.push('confirm')
      return Promise.resolve(this.confirms)
    },
    timeouts: executorTimeouts,
  })

  async run(operation: Operation): Promise<{ ok: boolean; calls: readonly string[]; value: unknown }> {
    this.calls.length = 0
    const result = await this.executor.run(operation, ballot, new AbortController().signal)
    return { ok: result.ok, calls: [...this.calls], value: result.ok ? result.value : undefined }
  }

  #control(name: string): DatabaseControl {
    const say = <T>(what: string, value: T): Promise<T> => {
      this.calls.push(`${name} ${what}`)
      return Promise.resolve(value)
    }
    const replies: Record<string, unknown> = { drain: end, prepare: end, makeReadOnly: end, fence: 'complete' }
    const locked = (): LockedDatabase =>
      new Proxy({} as LockedDatabase, {
        get: (_, what) => {
          if (what === 'held') return true
          if (what === 'then') return undefined
          if (what === 'release') return () => {}
          if (what === 'passedOver') return () => say('passedOver', this.lacks)
          if (what === 'compareHistory') return () => say('compareHistory', this.verdict)
          return () => say(String(what), replies[String(what)])
        },
      })
    return {
      name,
      dialect: 'mariadb',
      address: { host: name, port: 3306, adminPort: undefined },
      probe: () => {
        const semiSync = { primaryEnabled: false }
        const usual = { instance: `${name}@1`, readOnly: true, position: end, semiSync }
        return Promise.resolve({ answers: true, facts: { ...usual, ...this.facts[name] } as DatabaseFacts })
      },
      takeLock: () => say('takeLock', locked()),
      commitMarker: () => say('commitMarker', end),
      close: () => {},
    }
  }
}

const handOver: Operation = { kind: 'hand-over', primary: 'db1', standby: 'db2' }
const openPaired: Operation = { kind: 'open-paired', primary: 'db2', standby: 'db1', epoch: 6 }

describe('an operation', () => {
  it.each<Operation>([
    { kind: 'drain', database: 'db2' },
    { kind: 'open', database: 'db2', epoch: 6 },
    openPaired,
    { kind: 'pair', primary: 'db1', standby: 'db2' },
    { kind: 'unpair', database: 'db1' },
    { kind: 'attach', primary: 'db1', standby: 'db2', anew: true, until: null },
    handOver,
    { kind: 'freeze', database: 'db1' },
    { kind: 'fence', database: 'db1' },
  ])('R9: changes nothing where a majority does not confirm, after the locks: $kind', async (operation) => {
    const told = new Told()
    told.confirms = false
    const { ok, calls } = await told.run(operation)
    expect(ok).toBe(false)
    expect(calls.at(-1)).toBe('confirm')
    expect(calls.filter((call) => !/takeLock|confirm/.test(call))).toEqual([])
  })

  it('drain: the standby acknowledges nothing any more before its log is taken for whole', async () => {
    const { calls } = await new Told().run({ kind: 'drain', database: 'db2' })
    expect(calls).toEqual(['db2 takeLock', 'confirm', 'db2 stopReceiving', 'db2 drain'])
  })

  it('open: the epoch is committed before anybody else may write', async () => {
    const { calls } = await new Told().run({ kind: 'open', database: 'db2', epoch: 6 })
    expect(calls).toEqual(['db2 takeLock', 'confirm', 'db2 prepare', 'db2 makeWritable'])
  })

  it('open: whoever waits for a standby is let go before a primary that was left writable becomes read-only', async () => {
    const told = new Told()
    told.facts = { db2: { readOnly: false, epoch: 5 } }
    const { calls } = await told.run({ kind: 'open', database: 'db2', epoch: 6 })
    expect(calls.indexOf('db2 disableSemiSync')).toBeLessThan(calls.indexOf('db2 makeReadOnly'))
    expect(calls.indexOf('db2 makeReadOnly')).toBeLessThan(calls.indexOf('db2 prepare'))
  })

  it('pair: semi-sync is on, then readers are ended, then a marker proves that the standby acknowledges', async () => {
    const { calls } = await new Told().run({ kind: 'pair', primary: 'db1', standby: 'db2' })
    expect(calls.slice(3)).toEqual([
      'db2 waitForPosition',
      'db2 passedOver',
      'db1 enableSemiSync',
      'db1 evictReaders',
      'db1 commitMarker',
      'db2 waitForPosition',
    ])
  })

  it('open-paired: the same, and only then it is writable', async () => {
    const { calls } = await new Told().run(openPaired)
    const order = ['stopReceiving', 'enableSemiSync', 'evictReaders', 'prepare', 'makeWritable']
    expect(calls.filter((call) => order.some((what) => call === `db2 ${what}`))).toEqual(
      order.map((what) => `db2 ${what}`),
    )
    expect(calls.slice(-3)).toEqual(['db1 waitForPosition', 'db1 passedOver', 'db2 makeWritable'])
  })

  it('pair: a standby that passed over something on its way is not paired, but rebuilt', async () => {
    const told = new Told()
    told.lacks = '0-2-160'
    const { ok, calls, value } = await told.run({ kind: 'pair', primary: 'db1', standby: 'db2' })
    expect(ok).toBe(true)
    expect(value).toMatchObject({
      errant: { cure: 'rebuild', gtids: expect.stringContaining('0-2-160') as string },
      instance: 'db2@1',
    })
    expect(calls).not.toContain('db1 enableSemiSync')
  })

  it('open-paired: nobody becomes writable beside a standby that passed over something', async () => {
    const told = new Told()
    told.lacks = '0-2-160'
    const { ok, calls } = await told.run(openPaired)
    expect(ok).toBe(false)
    expect(calls).not.toContain('db2 makeWritable')
  })

  it('open-paired: a standby that has what the primary lacks is not told to follow', async () => {
    const told = new Told()
    told.verdict = { kind: 'errant', gtids: '0-1-101', cure: 'rebuild' }
    const { ok, calls } = await told.run(openPaired)
    expect(ok).toBe(false)
    expect(calls).not.toContain('db1 follow')
    expect(calls).not.toContain('db2 makeWritable')
  })

  it('open-paired: takes over the locks of the hand-over before it, and asks the voters all the same', async () => {
    const told = new Told()
    await told.run(handOver)
    expect((await told.run({ kind: 'mark', database: 'db1' })).ok).toBe(true)
    const next = await told.run(openPaired)
    expect(next.calls[0]).toBe('confirm')
    expect(next.calls).not.toContain('db1 takeLock')
    // Nobody else does.
    expect((await told.run(openPaired)).calls).toContain('db1 takeLock')
  })
})
