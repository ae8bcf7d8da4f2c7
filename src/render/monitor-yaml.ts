import { stringify } from 'yaml'
import type { ClusterMachine } from '../config/cluster-config.ts'
import type { MonitorConfigInput } from '../config/monitor-config.ts'
import { bindAddress, type ClusterView, hostPort } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

export function renderMonitor(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  if (!machine.runs.includes('monitor')) return []
  const text = `${madeFrom('monitor')}\n${stringify(monitorConfig(view, machine))}`
  return [{ path: '/etc/whitehole/monitor.yaml', text, mode: 0o640 }]
}

/** Not the machine's name alone: a node of the machine has that, and voters' names are unique. */
function monitorName(machine: string): string {
  return `monitor-${machine}`
}

function monitorConfig(view: ClusterView, machine: ClusterMachine): MonitorConfigInput {
  const { config } = view
  return {
    name: monitorName(machine.name),
    dataDirectory: '/var/lib/whitehole-monitor/vote',
    databases: {
      takeover: 'managed',
      engine: config.engine,
      pair: view.managedPair.map(({ name, networks, database }) => ({
        name,
        address: hostPort(networks.caches.address, database.port),
        adminPort: database.extraPort,
        ...(database.restartCommand === undefined ? {} : { restartCommand: database.restartCommand }),
        ...(database.rebuildCommand === undefined ? {} : { rebuildCommand: database.rebuildCommand }),
      })),
      user: config.monitorUser,
      passwordFile: config.monitorPasswordFile,
      replicationPasswordFile: config.replicationPasswordFile,
    },
    voters: config.voters.map((voter) => voterOf(view, voter)),
    secretFile: config.votersSecretFile,
    http: { listen: hostPort(bindAddress(machine), config.monitorHttpPort), trusted: true },
  }
}

function voterOf(view: ClusterView, voter: string): { name: string; kind: 'node' | 'monitor'; http: string } {
  const [kind, name = ''] = voter.split(':')
  const address = view.machines.find((machine) => machine.name === name)?.networks.caches.address ?? ''
  const { monitorHttpPort, nodeHttpPort } = view.config
  return kind === 'monitor'
    ? { name: monitorName(name), kind: 'monitor', http: hostPort(address, monitorHttpPort) }
    : { name, kind: 'node', http: hostPort(address, nodeHttpPort) }
}
