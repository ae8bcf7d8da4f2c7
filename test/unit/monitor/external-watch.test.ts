import { describe, expect, test } from 'vitest'
import type { DatabaseFacts, DatabaseSight } from '../../../src/domain/database-control.ts'
import { emptyWatch, watch, type WatchConfig, type WatchState } from '../../../src/monitor/external-watch.ts'

const config: WatchConfig = {
  databases: ['db1', 'db2'],
  limits: { refusedMilliseconds: 400, silentMilliseconds: 1200 },
  settleMilliseconds: 1000,
  severalWritable: false,
}

type State = 'writable' | 'follows' | 'stands' | 'away'

function sightOf(state: State): DatabaseSight {
  if (state === 'away') return { answers: false, kind: 'refused', detail: 'ECONNREFUSED' }
  const replication =
    state === 'writable'
      ? undefined
      : { receiver: state === 'follows' ? 'connected' : 'stopped', applier: 'running', error: '' }
  return { answers: true, facts: { readOnly: state !== 'writable', replication } as DatabaseFacts }
}

/** Looks four times a second at both; each step says how they are and for how many seconds. */
function story(steps: readonly (readonly [State, State, number])[], given: Partial<WatchConfig> = {}): string[] {
  let state: WatchState = emptyWatch
  let now = 0
  const told: string[] = []
  for (const [db1, db2, seconds] of steps) {
    for (const end = now + seconds * 1000; now < end; now += 250) {
      for (const [database, how] of [
        ['db1', db1],
        ['db2', db2],
      ] as const) {
        const step = watch(
          state,
          { database, startedAt: now - 10, at: now, sight: sightOf(how) },
          { ...config, ...given },
        )
        state = step.state
        told.push(...step.events.map((event) => Object.values(event).flat().map(String).join(' ')))
      }
    }
  }
  return told
}

describe('whoever watches databases of somebody else', () => {
  test('tells who the primary is, and when it is another one', () => {
    expect(
      story([
        ['writable', 'follows', 3],
        ['follows', 'follows', 0.5],
        ['follows', 'writable', 3],
      ]),
    ).toEqual(['primary-changed db1 null', 'primary-changed db2 db1'])
  })

  test('tells of a loss, of a time without a primary, and of the takeover', () => {
    expect(
      story([
        ['writable', 'follows', 3],
        ['away', 'stands', 4],
        ['away', 'writable', 3],
        ['follows', 'writable', 3],
      ]),
    ).toEqual([
      'primary-changed db1 null',
      'database-lost db1 true ECONNREFUSED',
      expect.stringMatching(/^standby-lost db2/),
      'no-primary db1',
      'standby-back db2',
      'primary-changed db2 db1',
      'database-back db1',
    ])
  })

  test('says nothing of one failed look, or of roles that change within a second', () => {
    expect(
      story([
        ['writable', 'follows', 2],
        ['away', 'stands', 0.25],
        ['writable', 'follows', 2],
        ['writable', 'writable', 0.5],
        ['writable', 'follows', 2],
      ]),
    ).toEqual(['primary-changed db1 null'])
  })

  test('tells of two that are writable, once, and when it is over', () => {
    expect(
      story([
        ['writable', 'follows', 2],
        ['writable', 'writable', 5],
        ['writable', 'follows', 2],
      ]),
    ).toEqual(['primary-changed db1 null', 'two-primaries db1 db2', 'primary-changed db1 null'])
  })

  test('takes several writable members of Galera for what they are', () => {
    expect(story([['writable', 'writable', 5]], { severalWritable: true })).toEqual([])
    expect(
      story(
        [
          ['writable', 'writable', 2],
          ['follows', 'follows', 3],
        ],
        { severalWritable: true },
      ),
    ).toEqual(['no-primary null'])
  })
})
