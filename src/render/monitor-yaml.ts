import { stringify } from 'yaml'
import type { ClusterMachine } from '../config/cluster-config.ts'
import type { MonitorConfigInput } from '../config/monitor-config.ts'
import { bindAddress, type ClusterView, hostPort } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** As long as a monitor's `emailalertfreq` may be. */
const emailSecondsMax = 86_400 * 7

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
      pair: view.managedPair.map(databaseOf),
      ...(view.relays.length === 0
        ? {}
        : {
            relays: view.relays.map((relay) => ({
              ...databaseOf(relay),
              datacenter: view.datacenterOf(relay),
              filtered: relay.database.filtered,
            })),
            relayPasswordFile: config.relayPasswordFile,
          }),
      user: config.monitorUser,
      passwordFile: config.monitorPasswordFile,
      replicationPasswordFile: config.replicationPasswordFile,
    },
    voters: config.voters.map((voter) => voterOf(view, voter)),
    secretFile: config.votersSecretFile,
    http: { listen: hostPort(bindAddress(machine), config.monitorHttpPort), trusted: true },
    alerts: alertsOf(view),
  }
}

function databaseOf({ name, networks, database }: ClusterMachine): MonitorConfigInput['databases']['pair'][number] {
  const { restartCommand, rebuildCommand } = database
  return {
    name,
    address: hostPort(networks.caches.address, database.port),
    adminPort: database.extraPort,
    ...(restartCommand === undefined ? {} : { restartCommand }),
    ...(rebuildCommand === undefined ? {} : { rebuildCommand }),
  }
}

/** The monitor mails by the machine's own mail command (ALERTS.md); `smtp` is for those who speak to a mail server themselves. */
function alertsOf({ config: { name, alerts } }: ClusterView): MonitorConfigInput['alerts'] {
  const { email, from, states, repeatSeconds } = alerts
  if (email.length === 0) return { cluster: name }
  return {
    cluster: name,
    email: {
      emailalert: email,
      emailalertfrom: from,
      emailalertfreq: Math.min(repeatSeconds, emailSecondsMax),
      emailalertstatus: states === 'all' ? 'all' : 'warning,critical',
    },
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
