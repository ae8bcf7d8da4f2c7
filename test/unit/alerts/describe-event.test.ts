import { describe, expect, test } from 'vitest'
import { announce } from '../../../src/alerts/announce.ts'
import { describeEvent } from '../../../src/alerts/describe-event.ts'
import type { ClusterEvent, ClusterRecord } from '../../../src/domain/cluster-record.ts'

const record: ClusterRecord = {
  epoch: 7,
  primary: 'db2',
  standby: 'db1',
  mode: 'solo',
  stage: 'opening',
  promotion: 'mariadb 0-1-5',
  instance: null,
  standbyInstance: null,
  former: { name: 'db1', instance: 'x', until: 'mariadb 0-1-5' },
  cause: 'takeover',
}
const before: ClusterRecord = { ...record, epoch: 6, primary: 'db1', standby: 'db2', mode: 'paired', former: null }
const context = {
  cluster: 'shop',
  monitor: 'monitor1',
  addresses: { db1: '10.0.0.1:3306', db2: '10.0.0.2:3306' },
}

describe('an announcement', () => {
  test('of a new primary has all its facts from its own record', () => {
    const one = announce(describeEvent({ kind: 'primary-chosen', record, before }), context, {
      record: before,
      atMilliseconds: 1_700_000_000_123,
    })
    expect(one).toMatchObject({
      at: '2023-11-14T22:13:20.123Z',
      cluster: 'shop',
      monitor: 'monitor1',
      event: 'primary-chosen',
      severity: 'warning',
      about: 'db2',
      facts: {
        epoch: 7,
        mode: 'solo',
        primary: 'db2',
        primaryAddress: '10.0.0.2:3306',
        standby: 'db1',
        standbyAddress: '10.0.0.1:3306',
        former: 'db1',
        formerAddress: '10.0.0.1:3306',
        cause: 'takeover',
      },
    })
    expect(Object.keys(one)).not.toContain('record')
  })

  test('of anything else has what is recorded then, and nulls before there is a record', () => {
    const event: ClusterEvent = { kind: 'standby-lost', database: 'db2' }
    const of = (known: ClusterRecord | null) =>
      announce(describeEvent(event), context, { record: known, atMilliseconds: 0 })
    expect(of(before).facts).toMatchObject({ epoch: 6, primary: 'db1', former: null, formerAddress: null })
    expect(of(null).facts).toMatchObject({ epoch: null, primary: null, primaryAddress: null })
  })

  test('has an id of its own', () => {
    const of = () => announce(describeEvent({ kind: 'unstuck' }), context, { record, atMilliseconds: 0 })
    expect(of().id).not.toBe(of().id)
  })

  test('says what to do where a person is needed', () => {
    const { severity, text } = describeEvent({ kind: 'stuck', why: 'neither db1 nor db2 answers', cure: 'start them' })
    expect(severity).toBe('critical')
    expect(text).toMatch(/neither db1 nor db2 answers.*start them/)
  })

  test('of a forced takeover says that something may be lost', () => {
    const { text } = describeEvent({ kind: 'primary-chosen', record: { ...record, cause: 'forced' }, before })
    expect(text).toMatch(/lost/)
  })
})
