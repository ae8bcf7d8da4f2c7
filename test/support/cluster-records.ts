import type { ClusterRecord } from '../../src/domain/cluster-record.ts'

/** A pair that is whole and at rest, with `db1` as its primary, save what is given. */
export function pairedRecord(given: Partial<ClusterRecord> = {}): ClusterRecord {
  return {
    epoch: 3,
    primary: 'db1',
    standby: 'db2',
    mode: 'paired',
    stage: 'steady',
    promotion: null,
    instance: null,
    standbyInstance: null,
    former: null,
    cause: 'takeover',
    ...given,
  }
}
