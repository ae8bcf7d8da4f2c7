import type { Figure } from '../admin/node-metrics.ts'
import type { ClusterReport } from '../domain/cluster-report.ts'
import type { EventHub } from '../monitor/event-hub.ts'

export function monitorFigures(report: () => ClusterReport, hub: EventHub): readonly Figure[] {
  const events = new Map<string, number>()
  hub.subscribe(({ kind }) => events.set(kind, (events.get(kind) ?? 0) + 1))
  const perDatabase = (value: (one: ClusterReport['databases'][number]) => number) => () =>
    report().databases.map((one) => ({ labels: { database: one.name }, value: value(one) }))
  return [
    { name: 'monitor_acting', help: 'This monitor acts.', kind: 'gauge', read: () => Number(report().acting) },
    {
      name: 'cluster_ready',
      help: 'A primary is writable and its standby works.',
      kind: 'gauge',
      read: () => Number(report().ready),
    },
    { name: 'cluster_stuck', help: 'A person is needed.', kind: 'gauge', read: () => Number(report().stuck !== null) },
    { name: 'cluster_epoch', help: 'Rises with each opening of a primary.', kind: 'gauge', read: () => report().epoch },
    {
      name: 'cluster_paired',
      help: 'What is acknowledged is on two databases.',
      kind: 'gauge',
      read: () => Number(report().mode === 'paired'),
    },
    {
      name: 'database_up',
      help: 'It answers this monitor.',
      kind: 'gauge',
      labels: ['database'],
      read: perDatabase(({ answers }) => Number(answers)),
    },
    {
      name: 'database_primary',
      help: 'It is the recorded primary.',
      kind: 'gauge',
      labels: ['database'],
      read: perDatabase(({ role }) => Number(role === 'primary')),
    },
    {
      name: 'cluster_events_total',
      help: 'Transitions, by kind.',
      kind: 'counter',
      labels: ['kind'],
      read: () => [...events].map(([kind, value]) => ({ labels: { kind }, value })),
    },
  ]
}
