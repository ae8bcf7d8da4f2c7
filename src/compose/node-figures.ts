import type { Figure, Labelled } from '../admin/node-metrics.ts'
import type { NearCache } from '../adapters/near-cache.ts'
import type { Applier } from '../applier/applier.ts'
import { nodeStates } from '../domain/node-state.ts'
import type { GatewayCounters } from '../gateway/counters.ts'
import { counterNames } from '../gateway/counters.ts'
import type { PeerWatch } from '../peers/peer-watch.ts'
import type { RemoteReads } from '../peers/remote-reads.ts'
import type { Donor } from '../recovery/donor.ts'
import type { WriterMetrics } from '../writer/writer-metrics.ts'

/** What `/metrics` of a node tells, beside the process's own figures. */
export function nodeFigures(parts: {
  applier: Applier
  /** Conditional commands that found their key evicted here. */
  evictions: Readonly<{ asked: number; gone: number }>
  writer: WriterMetrics
  gateway: GatewayCounters
  lagSeconds: () => number | null
  donor: Pick<Donor, 'figures'>
  near: Pick<NearCache, 'figures' | 'bytes' | 'items' | 'share'>
  peers: Pick<PeerWatch, 'all'>
  remoteReads: Pick<RemoteReads, 'figures'>
  /** Misses that a peer was asked about; undefined where none is. */
  secondLooks: Readonly<{ found: number; missed: number; unanswered: number }> | undefined
}): Figure[] {
  const { applier, writer, gateway } = parts
  return [
    {
      name: 'state',
      help: '1 for the state that the node is in.',
      kind: 'gauge',
      labels: ['state'],
      read: () => nodeStates.map((state) => ({ labels: { state }, value: Number(applier.state === state) })),
    },
    {
      name: 'lag_seconds',
      help: 'How far memcached is behind the primary; absent while that is unknown.',
      kind: 'gauge',
      read: () => parts.lagSeconds() ?? undefined,
    },
    counter(
      'evicted_asked_total',
      'Refusals over an item that this memcached has lost: the peers were asked.',
      () => parts.evictions.asked,
    ),
    counter('evicted_everywhere_total', 'Of those: gone on every node.', () => parts.evictions.gone),
    ...applierFigures(applier),
    counter('near_cache_hits_total', 'Reads answered without asking memcached.', () => parts.near.figures.hits),
    counter('near_cache_kept_total', 'Items that were copied for that.', () => parts.near.figures.kept),
    gauge('near_cache_bytes', 'What the copies take.', () => parts.near.bytes),
    gauge('near_cache_share', 'Which part of the replies is copied, 0 to 1.', () => parts.near.share),
    gauge('near_cache_items', 'How many there are.', () => parts.near.items),
    counter('peer_reads_total', "Clients' reads that a peer answered.", () => parts.remoteReads.figures.answered),
    {
      name: 'second_looks_total',
      help: 'Misses that a peer was asked about (gateway.onMiss), by what it said in time.',
      kind: 'counter',
      labels: ['outcome'],
      read: () => Object.entries(parts.secondLooks ?? {}).map(([outcome, value]) => ({ labels: { outcome }, value })),
    },
    counter('peer_reads_failed_total', 'Of those: no peer could.', () => parts.remoteReads.figures.failed),
    {
      name: 'peer_up',
      help: '1 where reads may go to that node.',
      kind: 'gauge',
      labels: ['peer'],
      read: () => parts.peers.all.map(({ name, up }) => ({ labels: { peer: name }, value: Number(up) })),
    },
    {
      name: 'peer_lag_seconds',
      help: 'How far that node says it is behind the primary.',
      kind: 'gauge',
      labels: ['peer'],
      read: () =>
        parts.peers.all.flatMap(({ name, lagSeconds }) =>
          lagSeconds === null ? [] : [{ labels: { peer: name }, value: lagSeconds }],
        ),
    },
    counter('donated_keys_total', 'Items given to nodes that rebuild.', () => parts.donor.figures.keysSent),
    counter('donated_bytes_total', 'Bytes of the same.', () => parts.donor.figures.bytesSent),
    gauge('donations', 'Nodes that are given items now.', () => parts.donor.figures.running),
    ...writerFigures(writer),
    ...gatewayFigures(gateway),
  ]
}

function applierFigures(applier: Applier): Figure[] {
  const { counters } = applier
  return [
    counter('applied_transactions_total', 'Transactions of the log applied to memcached.', () => counters.transactions),
    {
      name: 'applied_entries_total',
      help: 'Log entries for keys, by what became of them; `dead`: of a flushed generation or a dropped namespace.',
      kind: 'counter',
      labels: ['kind'],
      read: () => {
        const { stores, deletes, touches, stales, dead } = counters
        return Object.entries({ stores, deletes, touches, stales, dead }).map(([kind, value]) => ({
          labels: { kind },
          value,
        }))
      },
    },
    counter('applied_flushes_total', 'Flushes and creations of namespaces.', () => counters.flushes),
    counter('applied_batches_total', 'Batches sent to memcached.', () => counters.batches),
    counter('refused_items_total', 'Items that memcached had no memory for.', () => counters.refused),
    counter(
      'rewinds_total',
      'Times that memcached was thrown away since it had what the primary never had.',
      () => applier.rewinds,
    ),
    counter('rebuilds_total', 'Times that memcached was filled anew.', () => applier.rebuilds),
    gauge(
      'rebuild_keys',
      'Items taken and log entries applied by the rebuild that runs.',
      () => applier.rebuildProgress?.keys,
    ),
    gauge(
      'rebuild_ratio',
      'How much of what is expected the running rebuild has taken, 0 to 1; absent where nobody can tell.',
      () => asRatio(applier.rebuildProgress?.percent),
    ),
    gauge('last_rebuild_keys', 'How many items it took from a peer.', () => applier.lastRebuild?.keys),
    gauge('last_rebuild_seconds', 'How long the last rebuild took.', () => applier.lastRebuild?.seconds),
    gauge('last_rebuild_entries', 'How many log entries it applied.', () => applier.lastRebuild?.entries),
  ]
}

function writerFigures(writer: WriterMetrics): Figure[] {
  return [
    counter('writer_batches_total', 'SQL transactions committed for clients.', () => writer.batches),
    counter('writer_batch_items_total', 'Mutations in them.', () => writer.batchItems),
    counter('writer_acknowledged_total', 'Mutations answered with an outcome.', () => writer.acknowledged),
    {
      name: 'writer_errors_total',
      help: 'Mutations answered with an error, by its code.',
      kind: 'counter',
      labels: ['code'],
      read: () => Object.entries(writer.errors).map(([code, value]) => ({ labels: { code }, value })),
    },
    counter('writer_retries_total', 'Transactions rolled back and tried again.', () => writer.retries),
    counter('writer_deadlocks_total', 'Deadlocks among them.', () => writer.deadlocks),
    counter(
      'writer_contended_total',
      "Times a mutation was found behind somebody else's lock.",
      () => writer.contended,
    ),
    counter('writer_recoveries_total', 'Times a lane lost its SQL session.', () => writer.recoveries),
    counter(
      'writer_commit_seconds_total',
      'Time from BEGIN to the answer of COMMIT, summed.',
      () => writer.commitSecondsSum,
    ),
    counter(
      'writer_acknowledgement_seconds_total',
      'Time from submission to acknowledgement, summed.',
      () => writer.acknowledgementSecondsSum,
    ),
    gauge('writer_queued_items', 'Mutations that wait for their answer.', () => writer.queuedItems),
    gauge('writer_queued_bytes', 'Bytes of them.', () => writer.queuedBytes),
  ]
}

function gatewayFigures(gateway: GatewayCounters): Figure[] {
  return [
    gauge('connections', 'Clients connected now.', () => gateway.currConnections),
    counter('connections_total', 'Clients that have connected.', () => gateway.totalConnections),
    counter('connections_rejected_total', 'Clients turned away: too many.', () => gateway.rejectedConnections),
    counter('connections_slow_total', 'Clients closed because they were too slow.', () => gateway.slowConnections),
    counter('received_bytes_total', 'Bytes from clients.', () => gateway.bytesRead),
    counter('sent_bytes_total', 'Bytes to clients.', () => gateway.bytesWritten),
    {
      name: 'commands_total',
      help: "memcached's own counters, for each namespace.",
      kind: 'counter',
      labels: ['namespace', 'counter'],
      read: () => namespaceCounters(gateway),
    },
  ]
}

function* namespaceCounters(gateway: GatewayCounters): Iterable<Labelled> {
  for (const [namespace, counters] of gateway.entries()) {
    for (const name of counterNames) yield { labels: { namespace, counter: name }, value: counters[name] }
  }
}

function asRatio(percent: number | null | undefined): number | undefined {
  return percent === null || percent === undefined ? undefined : percent / 100
}

function counter(name: string, help: string, read: () => number): Figure {
  return { name, help, kind: 'counter', read }
}

function gauge(name: string, help: string, read: () => number | undefined): Figure {
  return { name, help, kind: 'gauge', read }
}
