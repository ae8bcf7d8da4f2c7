import { stringify } from 'yaml'
import { type ClusterMachine, localMailServer } from '../config/cluster-config.ts'
import type { MonitorConfigInput } from '../config/monitor-config.ts'
import { shellQuoted } from '../runtime/shell.ts'
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

function alertsOf({ config: { name, alerts } }: ClusterView): MonitorConfigInput['alerts'] {
  const { email, from, smtp, states, repeatSeconds } = alerts
  if (email.length === 0) return { cluster: name }
  return {
    cluster: name,
    email: {
      emailalert: email,
      emailalertfrom: from,
      emailalertfreq: Math.min(repeatSeconds, emailSecondsMax),
      emailalertstatus: states === 'all' ? 'all' : 'warning,critical',
      // A machine that has a mail server has a sendmail, which keeps what can't be delivered.
      ...(smtp === localMailServer ? {} : { command: handOver({ smtp, from, email }) }),
    },
  }
}

function handOver({ smtp, from, email }: { smtp: string; from: string; email: readonly string[] }): string {
  const fixed = ['curl', '--silent', '--show-error', '--fail', '--crlf', '--upload-file', '-']
  const words = [
    ...fixed,
    '--url',
    `smtp://${smtp}`,
    '--mail-from',
    from,
    ...email.flatMap((to) => ['--mail-rcpt', to]),
  ]
  return words.map((word) => (/^[A-Za-z0-9_.:/@-]+$/.test(word) ? word : shellQuoted(word))).join(' ')
}

function voterOf(view: ClusterView, voter: string): { name: string; kind: 'node' | 'monitor'; http: string } {
  const [kind, name = ''] = voter.split(':')
  const address = view.machines.find((machine) => machine.name === name)?.networks.caches.address ?? ''
  const { monitorHttpPort, nodeHttpPort } = view.config
  return kind === 'monitor'
    ? { name: monitorName(name), kind: 'monitor', http: hostPort(address, monitorHttpPort) }
    : { name, kind: 'node', http: hostPort(address, nodeHttpPort) }
}
