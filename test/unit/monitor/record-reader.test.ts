import { describe, expect, test } from 'vitest'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { AcceptedRecord } from '../../../src/monitor/acceptor.ts'
import { RecordReader } from '../../../src/monitor/record-reader.ts'
import type { VoterReply } from '../../../src/monitor/voter-protocol.ts'
import { pairedRecord } from '../../support/cluster-records.ts'

const record = (primary: string, epoch: number): ClusterRecord =>
  pairedRecord({ epoch, primary, standby: primary === 'db1' ? 'db2' : 'db1' })
const at = (round: number, serial: number, one: ClusterRecord): AcceptedRecord => ({
  ballot: { round, monitor: 'monitor1' },
  serial,
  record: one,
})
const old = at(1, 4, record('db1', 1))
const next = at(2, 1, record('db2', 2))

function reader(disks: Record<string, AcceptedRecord | null | 'away'>) {
  let now = 0
  const asked: string[] = []
  const one = new RecordReader({
    voters: Object.keys(disks),
    self: 'monitor9',
    now: () => now,
    ask: async (voter, request) => {
      asked.push(request.kind)
      const accepted = disks[voter] ?? null
      if (accepted === 'away') throw new Error('away')
      return { ok: false, promised: null, accepted, report: null } satisfies VoterReply
    },
  })
  return {
    disks,
    asked,
    reader: one,
    look: async (when: number) => {
      now = when
      await one.look()
      return one.known === null ? null : `${one.known.record.primary} as of ${one.known.asOf}`
    },
  }
}

describe('what is recorded', () => {
  test('is known once a majority has the same on disk, and nothing is changed by asking', async () => {
    const { look, asked } = reader({ a: old, b: old, c: 'away' })
    expect(await look(5)).toBe('db1 as of 5')
    expect([...new Set(asked)]).toEqual(['canvass'])
  })

  test('is not known from a minority, nor while voters differ', async () => {
    expect(await reader({ a: old, b: 'away', c: 'away' }).look(5)).toBeNull()
    expect(await reader({ a: old, b: next, c: 'away' }).look(5)).toBeNull()
    expect(await reader({ a: old, b: null, c: null }).look(5)).toBeNull()
  })

  test('ages while no majority is heard, and is replaced by what is newer', async () => {
    const one = reader({ a: old, b: old, c: old })
    expect(await one.look(5)).toBe('db1 as of 5')
    Object.assign(one.disks, { a: next, c: 'away' })
    expect(await one.look(10)).toBe('db1 as of 5')
    one.disks['b'] = next
    expect(await one.look(15)).toBe('db2 as of 15')
  })

  test('takes the same record under two ballots for two: only one of them may be chosen', async () => {
    expect(await reader({ a: old, b: at(3, 0, old.record), c: 'away' }).look(5)).toBeNull()
  })
})
