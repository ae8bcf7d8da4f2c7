import type { Command } from 'commander'
import type { ClusterStatus, RebuildEntry } from '../compose/cluster-status.ts'
import { openCluster } from '../compose/open-cluster.ts'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { clusterCommand, type CommonOptions } from './options.ts'
import { print, printJson, table } from './output.ts'

export function statusCommand(finish: Finish): Command {
  return clusterCommand(
    'status',
    'Show what runs and how it is: 0 all ready, 1 degraded, 2 not running or unusable.',
  ).action(async (options: CommonOptions) => {
    const cluster = await openCluster(options)
    try {
      const status = await cluster.status()
      if (options.json === true) printJson(status)
      else print(describeStatus(status))
      finish(status.ready ? exitCode.done : exitCode.no)
    } finally {
      cluster.close()
    }
  })
}

export function describeStatus(status: ClusterStatus): string {
  const databases = status.databases.map(({ name, role, address, position, pid }) => [
    `  ${name}`,
    role,
    address,
    position === null ? 'no answer' : `at ${position || 'the beginning'}`,
    pid === null ? '' : `pid ${pid}`,
  ])
  const nodes = status.nodes.map((node) => [
    `  ${node.name}`,
    node.state,
    node.http,
    node.rebuild === null
      ? node.lagSeconds === null
        ? ''
        : `lag ${node.lagSeconds.toFixed(1)} s`
      : describeRebuild(node.rebuild),
    `memcached ${node.memcached.address}${describeCapacity(node.memcached)}`,
    node.pid === null ? '' : `pid ${node.pid}`,
  ])
  const listeners = status.nodes.flatMap(({ name, listeners: all }) =>
    all.map((listener) => [
      `  ${name}`,
      listener.address,
      'namespace' in listener ? `namespace ${listener.namespace}` : 'namespace in front of the key',
    ]),
  )
  const namespaces = status.namespaces.map(({ id, name, generation, keys }) => [
    `  ${name}`,
    `id ${id}`,
    `generation ${generation}`,
    keys === null ? '' : `${keys} keys`,
  ])
  const monitors = status.monitors.map(({ name, http, pid, acting }) => [
    `  ${name}`,
    pid === null ? 'stopped' : acting ? 'acting' : 'watching',
    http,
    pid === null ? '' : `pid ${pid}`,
  ])
  const { stuck } = status
  const sections = [
    [`${status.ready ? 'ready' : 'NOT READY'}  ${status.topology}, ${status.mode}, epoch ${status.epoch}`],
    ...(databases.length > 0 ? [['databases', table(databases)]] : []),
    ...(stuck === null || stuck === undefined ? [] : [[`A person is needed: ${stuck.why}`, `  ${stuck.cure}`]]),
    ...(monitors.length > 0 ? [['monitors', table(monitors)]] : []),
    ['nodes', table(nodes)],
    ['listeners', table(listeners)],
    ['namespaces', table(namespaces)],
  ]
  return sections.map((lines) => lines.join('\n')).join('\n')
}

function describeCapacity({ usedPercent, evicted }: ClusterStatus['nodes'][number]['memcached']): string {
  const used = typeof usedPercent === 'number' ? `, ${usedPercent.toFixed(0)} % full` : ''
  return typeof evicted === 'number' && evicted > 0 ? `${used}, ${evicted} evicted` : used
}

function describeRebuild(rebuild: RebuildEntry): string {
  const { from, peer, keys, percent, keysPerSecond, remainingSeconds } = rebuild
  const parts = [
    percent === null ? `${keys} keys` : `${percent.toFixed(1)} % of ${rebuild.keysExpected} keys`,
    `from ${from === 'log' ? 'the log' : peer}`,
    `${keysPerSecond} keys/s`,
    ...(remainingSeconds === null ? [] : [`${remainingSeconds.toFixed(0)} s left`]),
  ]
  return parts.join(', ')
}
