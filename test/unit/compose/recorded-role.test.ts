import { describe, expect, test } from 'vitest'
import { chosenRecord, roleArguments } from '../../../src/compose/recorded-role.ts'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { AcceptorState } from '../../../src/monitor/acceptor.ts'

function vote(serial: number, primary: string): AcceptorState {
  const ballot = { round: 1, monitor: 'monitor' }
  const record: ClusterRecord = {
    epoch: serial,
    primary,
    standby: primary === 'db1' ? 'db2' : 'db1',
    mode: 'solo',
    stage: 'opening',
    promotion: null,
    instance: null,
    standbyInstance: null,
    former: null,
    cause: 'takeover',
  }
  return { promised: ballot, accepted: { ballot, serial, record } }
}

describe('the role in which a database is started', () => {
  test('is that of a standby only where a majority of all voters has recorded another primary', () => {
    const primaryOf = (...votes: (AcceptorState | undefined)[]): string | undefined => chosenRecord(votes, 3)?.primary
    expect(primaryOf(vote(2, 'db2'), vote(2, 'db2'), undefined)).toBe('db2')
    expect(primaryOf(vote(2, 'db2'), vote(1, 'db1'), vote(1, 'db1'))).toBe('db1')
    // R3: one voter's word is not enough to throw away what a primary may have acknowledged.
    expect(primaryOf(vote(2, 'db2'), undefined, undefined)).toBeUndefined()
    expect(primaryOf(vote(2, 'db2'), vote(1, 'db1'), undefined)).toBeUndefined()
    expect(primaryOf({ promised: null, accepted: null }, undefined, undefined)).toBeUndefined()
    expect(chosenRecord([], 0)).toBeUndefined()
  })

  test('is told to MariaDB alone, and never to the primary or where nobody knows', () => {
    const standby = ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1']
    expect(roleArguments('mariadb', { database: 'db1', primary: 'db2' })).toEqual(standby)
    expect(roleArguments('mariadb', { database: 'db2', primary: 'db2' })).toEqual([])
    expect(roleArguments('mariadb', { database: 'db1', primary: undefined })).toEqual([])
    expect(roleArguments('mysql', { database: 'db1', primary: 'db2' })).toEqual([])
  })
})
