import { expect, test } from 'vitest'
import type { ClusterRecord } from '../../../src/domain/cluster-record.ts'
import type { DatabaseFacts } from '../../../src/domain/database-control.ts'
import { type AcknowledgementMark, watchAcknowledgements } from '../../../src/monitor/acknowledgement-watch.ts'
import { pairedRecord } from '../../support/cluster-records.ts'

const paired = pairedRecord({ instance: 'life1' })

type Look = readonly [ClusterRecord | null, { count: number; active?: boolean; instance?: string; startedAt?: number }]

function story(...looks: readonly Look[]): (string | undefined)[] {
  let mark: AcknowledgementMark | null = null
  return looks.map(([record, { count, active = true, instance = 'life1', startedAt }], index) => {
    const now = (index + 1) * 1000
    const semiSync = { primaryEnabled: true, primaryActive: active, unacknowledged: count }
    const facts = { instance, semiSync } as DatabaseFacts
    const step = watchAcknowledgements(mark, record, {
      seen: { startedAt: startedAt ?? now + 1, at: now, sight: { answers: true, facts } },
      now,
    })
    mark = step.mark
    return step.alarm?.replace(/ (of|were).*/, '')
  })
}

test('commits that go past the standby in `paired` are told, by how many', () => {
  expect(story([paired, { count: 5 }], [paired, { count: 5 }], [paired, { count: 8 }], [paired, { count: 8 }])).toEqual(
    [undefined, undefined, '3 commits', undefined],
  )
})

test('what grew in `solo`, or was counted before `paired` was known, is not', () => {
  const solo: ClusterRecord = { ...paired, mode: 'solo' }
  expect(
    story([solo, { count: 5 }], [solo, { count: 9 }], [paired, { count: 9, startedAt: 2500 }], [paired, { count: 12 }]),
  ).toEqual([undefined, undefined, undefined, undefined])
  expect(story([paired, { count: 5 }], [paired, { count: 50, instance: 'life2' }])).toEqual([undefined, undefined])
})

test('a semi-sync that is enabled and off is told once, until it is on again', () => {
  const off = { count: 0, active: false }
  expect(story([paired, off], [paired, off], [paired, { count: 0 }], [paired, off])).toEqual([
    'semi-sync',
    undefined,
    undefined,
    'semi-sync',
  ])
})
