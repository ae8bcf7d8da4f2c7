import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { Seen } from './machine-state.ts'

export interface AcknowledgementMark {
  /** The primary's life under this record; a new one starts anew. */
  readonly life: string
  readonly since: number
  /** Commits that went through without a standby, as first seen, or as last told. */
  readonly unacknowledged: number | null
  readonly toldOff: boolean
}

/**
 * In `paired` nothing goes through without the standby. Whatever goes past it (a kill, a changed setting, a fall-back) shows in the server's
 * own counter, or in a status that is off while it is enabled. Rests on what was asked after the record was known: before, in
 * `solo`, the counter grew rightly.
 */
export function watchAcknowledgements(
  before: AcknowledgementMark | null,
  record: ClusterRecord | null,
  { seen, now }: { readonly seen: Seen | undefined; readonly now: number },
): { mark: AcknowledgementMark | null; alarm: string | undefined } {
  if (record?.mode !== 'paired' || record.stage !== 'steady') return { mark: null, alarm: undefined }
  const life = `${record.epoch} ${record.primary} ${record.instance ?? ''}`
  const mark = before?.life === life ? before : { life, since: now, unacknowledged: null, toldOff: false }
  if (seen === undefined || !seen.sight.answers || seen.startedAt < mark.since) return { mark, alarm: undefined }
  const { instance, semiSync } = seen.sight.facts
  if (instance !== record.instance) return { mark, alarm: undefined }
  const { unacknowledged } = semiSync
  const grown = mark.unacknowledged === null ? 0 : unacknowledged - mark.unacknowledged
  const isOff = semiSync.primaryEnabled && !semiSync.primaryActive
  const next = { ...mark, unacknowledged, toldOff: isOff }
  if (grown > 0) {
    return {
      mark: next,
      alarm: `${grown} commits of ${record.primary} were answered without the standby: would ${record.primary} die now, they might be lost`,
    }
  }
  if (isOff && !mark.toldOff) {
    return { mark: next, alarm: `semi-sync of ${record.primary} is enabled and off: it acknowledges alone` }
  }
  return { mark: next, alarm: undefined }
}
