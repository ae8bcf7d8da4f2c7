import { describe, expect, test } from 'vitest'
import {
  answerKnows,
  answerRole,
  recordAgeMillisecondsMax,
  type RolesKnowledge,
  type SeenRole,
} from '../../../src/domain/database-roles.ts'

const writable: SeenRole = { readOnly: false, follows: false, ageMilliseconds: 100 }
const following: SeenRole = { readOnly: true, follows: true, ageMilliseconds: 100 }
const managed: RolesKnowledge = {
  databases: ['db1', 'db2'],
  by: 'record',
  record: { epoch: 7, primary: 'db1', standby: 'db2', mode: 'paired', stage: 'steady' },
  recordAgeMilliseconds: 100,
  seen: { db1: writable, db2: following },
}
const record = managed.record!
const answers = (knowledge: RolesKnowledge) =>
  ['db1', 'db2'].flatMap((name) =>
    (['primary', 'standby'] as const)
      .filter((role) => answerRole(knowledge, name, role).status === 200)
      .map((role) => `${name} ${role}`),
  )
const reason = (knowledge: RolesKnowledge, role: 'primary' | 'standby' = 'primary', name = 'db1'): string =>
  answerRole(knowledge, name, role).reason

describe('a monitor of a managed pair says yes', () => {
  test('of the recorded primary and of a standby that follows', () => {
    expect(answers(managed)).toEqual(['db1 primary', 'db2 standby'])
    expect(answerKnows(managed).status).toBe(200)
  })

  test('of the recorded primary also where its own probe does not reach it: it may be the one that is cut off', () => {
    expect(answers({ ...managed, seen: {} })).toEqual(['db1 primary'])
  })

  test('while a switchover is about to begin', () => {
    expect(answers({ ...managed, record: { ...record, stage: 'switching' } })).toContain('db1 primary')
  })
})

describe('a monitor of a managed pair says nothing of what it does not know', () => {
  test('before a majority has told it anything, whatever it sees', () => {
    const none = { ...managed, record: null }
    expect(answers(none)).toEqual([])
    expect(answerKnows(none).status).toBe(503)
    expect(reason(none)).toMatch(/no majority/)
  })

  test('once a majority was not heard for too long', () => {
    const at = (recordAgeMilliseconds: number) => ({ ...managed, recordAgeMilliseconds })
    expect(answers(at(recordAgeMillisecondsMax))).toEqual(['db1 primary', 'db2 standby'])
    expect(answers(at(recordAgeMillisecondsMax + 1))).toEqual([])
    expect(answerKnows(at(60_000)).status).toBe(503)
    expect(reason(at(60_000))).toMatch(/60000 ms ago/)
  })

  test('of a primary that is chosen and not opened yet, or that restarted and is read-only', () => {
    expect(reason({ ...managed, record: { ...record, stage: 'opening' } })).toMatch(/not writable yet/)
    expect(reason({ ...managed, seen: { db1: { ...writable, readOnly: true } } })).toMatch(/read-only/)
  })

  test('of a database that is writable and not the recorded primary', () => {
    expect(answers({ ...managed, seen: { db1: writable, db2: writable } })).toEqual(['db1 primary'])
  })

  test('of a standby that does not follow, or was not seen lately', () => {
    expect(reason({ ...managed, seen: { db2: { ...following, follows: false } } }, 'standby', 'db2')).toMatch(
      /does not run/,
    )
    expect(reason({ ...managed, seen: { db2: { ...following, ageMilliseconds: 9000 } } }, 'standby', 'db2')).toMatch(
      /does not answer/,
    )
  })

  test('of a name that there is not', () => {
    expect(answerRole(managed, 'db9', 'primary')).toMatchObject({
      status: 404,
      reason: expect.stringMatching(/db1, db2/) as string,
    })
  })
})

describe('where nobody records who is primary', () => {
  const external: RolesKnowledge = { ...managed, by: 'sight', record: null, recordAgeMilliseconds: Infinity }

  test('the only writable database is it', () => {
    expect(answers(external)).toEqual(['db1 primary', 'db2 standby'])
  })

  test('there is none while two are writable, or none', () => {
    expect(answers({ ...external, seen: { db1: writable, db2: writable } })).toEqual([])
    expect(answers({ ...external, seen: { db1: following } })).toEqual(['db1 standby'])
    expect(answers({ ...external, seen: {} })).toEqual([])
  })
})
