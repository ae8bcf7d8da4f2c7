import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { chosenRecord, roleArguments, type StartOf } from '../../../src/compose/recorded-role.ts'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { AcceptorState } from '../../../src/monitor/acceptor.ts'
import { removeFolder, temporaryFolder } from '../../support/processes.ts'

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
  test('is asked of what a majority of all voters has recorded', () => {
    const primaryOf = (...votes: (AcceptorState | undefined)[]): string | undefined => chosenRecord(votes, 3)?.primary
    expect(primaryOf(vote(2, 'db2'), vote(2, 'db2'), undefined)).toBe('db2')
    expect(primaryOf(vote(2, 'db2'), vote(1, 'db1'), vote(1, 'db1'))).toBe('db1')
    // R3: one voter's word is not enough to throw away what a primary may have acknowledged.
    expect(primaryOf(vote(2, 'db2'), undefined, undefined)).toBeUndefined()
    expect(primaryOf(vote(2, 'db2'), vote(1, 'db1'), undefined)).toBeUndefined()
    expect(primaryOf({ promised: null, accepted: null }, undefined, undefined)).toBeUndefined()
    expect(chosenRecord([], 0)).toBeUndefined()
  })

  const truncating = ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1']
  const record: ClusterRecord = {
    epoch: 2,
    primary: 'db2',
    standby: 'db1',
    mode: 'solo',
    stage: 'steady',
    promotion: 'mariadb 0-1-7',
    instance: null,
    standbyInstance: null,
    former: { name: 'db1', instance: null, until: 'mariadb 0-1-7' },
    cause: 'takeover',
  }
  let folder: string
  let binlogIndex: string
  beforeEach(async () => {
    folder = await temporaryFolder()
    binlogIndex = await writeLog(folder, [...transaction(7), ...transaction(8)])
  })
  afterEach(() => removeFolder(folder))
  const given = (more: Partial<StartOf> = {}): StartOf => ({
    database: 'db1',
    pair: ['db1', 'db2'],
    record,
    binlogIndex,
    ...more,
  })

  test('truncates what a former primary alone has, whose successor was chosen without a person', () => {
    expect(roleArguments('mariadb', given())).toEqual(truncating)
  })

  test.each<[string, Partial<ClusterRecord> | undefined]>([
    ['where nobody knows', undefined],
    ['where it is the primary (R3)', { primary: 'db1', standby: 'db2' }],
    ['a standby, which may be the only one that has what it acknowledged', { former: null, mode: 'paired' }],
    ['a standby that was a primary once', { former: { name: 'db2', instance: null, until: 'mariadb 0-1-7' } }],
    ['what a person gave up, before it was named', { cause: 'forced' }],
    ['where its successor restarted meanwhile', { cause: 'restart' }],
    ['where nobody knows how far its successor had come', { former: { name: 'db1', instance: null, until: null } }],
    ['what its successor has', { former: { name: 'db1', instance: null, until: 'mariadb 0-1-8' } }],
  ])('truncates nothing: %s', (_, change) => {
    expect(
      roleArguments('mariadb', given({ record: change === undefined ? undefined : { ...record, ...change } })),
    ).toEqual([])
  })

  test('truncates no relay, which takes nothing back that it wrote itself, and nothing on MySQL', () => {
    expect(roleArguments('mariadb', given({ pair: ['db2', 'db3'] }))).toEqual([])
    expect(roleArguments('mysql', given())).toEqual([])
  })

  test('is tried once with one end of the log: it may have been cut short between the tables and the log', async () => {
    expect(roleArguments('mariadb', given())).toEqual(truncating)
    expect(roleArguments('mariadb', given())).toEqual([])
    await writeLog(folder, [...transaction(7), ...transaction(8), ...transaction(9)])
    expect(roleArguments('mariadb', given())).toEqual(truncating)
  })

  test.each<[string, readonly Buffer[]]>([
    ['a torn transaction is none', [...transaction(7), ...transaction(8).slice(0, 1)]],
    ['a torn event is none', [...transaction(7), Buffer.concat(transaction(8)).subarray(0, -1)]],
    ['one of several files that may have to be cut', [event(161, name('binlog.000001')), ...transaction(8)]],
    ['an encrypted log', [event(164, Buffer.alloc(20)), ...transaction(8)]],
  ])('truncates nothing where the log does not tell: %s', async (_, events) => {
    binlogIndex = await writeLog(folder, events)
    expect(roleArguments('mariadb', given())).toEqual([])
  })

  test('truncates nothing where there is no log to be found', () => {
    expect(roleArguments('mariadb', given({ binlogIndex: join(folder, 'other.index') }))).toEqual([])
  })
})

function event(type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(19)
  header.writeUInt8(type, 4)
  header.writeUInt32LE(1, 5)
  header.writeUInt32LE(19 + body.length + 4, 9)
  return Buffer.concat([header, body, Buffer.alloc(4)])
}

function name(text: string): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([length, Buffer.from(text)])
}

/** GTID and Xid. */
function transaction(sequence: number): Buffer[] {
  const gtid = Buffer.alloc(19)
  gtid.writeBigUInt64LE(BigInt(sequence), 0)
  return [event(162, gtid), event(16, Buffer.alloc(8))]
}

async function writeLog(folder: string, events: readonly Buffer[]): Promise<string> {
  const begin = [Buffer.from([0xfe, 0x62, 0x69, 0x6e]), event(15, Buffer.alloc(100)), event(161, name('binlog.000002'))]
  await writeFile(join(folder, 'binlog.000002'), Buffer.concat([...begin, ...events]))
  await writeFile(join(folder, 'binlog.index'), './binlog.000001\n./binlog.000002\n')
  return join(folder, 'binlog.index')
}
