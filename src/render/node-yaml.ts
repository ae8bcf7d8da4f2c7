import { stringify } from 'yaml'
import type { ClusterMachine } from '../config/cluster-config.ts'
import type { NodeConfigInput } from '../config/node-config.ts'
import { bindAddress, type ClusterView, hostPort } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** The configuration of a machine's node, and the options of the memcached behind it. */
export function renderNode(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  if (!machine.runs.includes('node')) return []
  const { memoryMebibytes, port } = machine.memcached
  return [
    {
      path: '/etc/whitehole/node.yaml',
      text: `${madeFrom('node')}\n${stringify(nodeConfig(view, machine))}`,
      mode: 0o640,
    },
    {
      path: '/etc/default/whitehole-memcached',
      text: `${madeFrom('node')}\nMEMORY_MEBIBYTES=${memoryMebibytes}\nPORT=${port}\n`,
      mode: 0o644,
    },
  ]
}

function nodeConfig(view: ClusterView, machine: ClusterMachine): NodeConfigInput {
  const { topology, namespaces, keyPrefixPort, nodeHttpPort, nodeUser, passwordFile } = view.config
  const { address } = machine.networks.caches
  const bind = bindAddress(machine)
  const listen = (port: number) => ({
    listen: hostPort(bind, port),
    ...(bind === address ? {} : { advertise: hostPort(address, port) }),
    trusted: true,
  })
  return {
    name: machine.name,
    datacenter: view.datacenterOf(machine),
    dataDirectory: '/var/lib/whitehole/node',
    databases: {
      topology,
      addresses: view
        .running('database')
        .filter((database) => !view.isRelay(database))
        .map(databaseAddress),
      ...(view.relays.length === 0
        ? {}
        : {
            relays: view.relays.map((relay) => ({
              address: databaseAddress(relay),
              datacenter: view.datacenterOf(relay),
              filtered: relay.database.filtered,
            })),
          }),
      user: nodeUser,
      passwordFile,
    },
    memcached: {
      address: hostPort('127.0.0.1', machine.memcached.port),
      restartCommand: 'kill $(cat /run/whitehole-memcached/pid)',
    },
    listeners: [
      ...namespaces.map(({ name, port }) => ({ ...listen(port), namespace: name })),
      ...(keyPrefixPort === null ? [] : [{ ...listen(keyPrefixPort), namespaceFrom: 'key' as const }]),
    ],
    http: listen(nodeHttpPort),
    ...(view.agentPort === undefined
      ? {}
      : { balancerAgent: { listen: hostPort(bind, view.agentPort), trusted: true } }),
    ...(machine.node.acknowledge === 'local' ? {} : { writer: { acknowledge: machine.node.acknowledge } }),
    ...(machine.node.maxLagSeconds === undefined ? {} : { applier: { maxLagSeconds: machine.node.maxLagSeconds } }),
    ...(view.near(machine, 'balancer').length === 0 ? {} : { gateway: { drainSeconds: drainSeconds(view) } }),
    ...(view.config.voters.includes(`node:${machine.name}`)
      ? {
          voter: {
            // A relay too may become the primary, by a person's word.
            databases: [...view.managedPair, ...view.relays].map((database) => ({
              name: database.name,
              address: databaseAddress(database),
            })),
            secretFile: view.config.votersSecretFile,
          },
        }
      : {}),
  }
}

function databaseAddress({ networks, database }: ClusterMachine): string {
  return hostPort(networks.caches.address, database.port)
}

/** At SIGTERM: as long as a balancer takes to notice, and no longer than systemd waits. */
function drainSeconds({ config: { balancer } }: ClusterView): number {
  return Math.min(30, Math.ceil(balancer.checkIntervalSeconds * balancer.fall + 1))
}
