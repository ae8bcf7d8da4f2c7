import type { ClusterMachine } from '../config/cluster-config.ts'
import { type ClusterView, hostPort } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** Where keepalived asks whether HAProxy lives. */
export const haproxyHealthPort = 22_099

const balance = { rr: 'roundrobin', lc: 'leastconn', source: 'source' } as const

export function renderHaproxy(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  if (!machine.runs.includes('balancer')) return []
  const { forwarding, logFile } = view.config.balancer
  const clients = forwarding === 'proxy' && view.running('node').length > 0
  const parts = [
    madeFrom('haproxy'),
    head(view),
    health(),
    ...(clients ? [...memcachedFrontends(view, machine), ...memcachedBackends(view, machine)] : []),
    ...sqlParts(view, machine),
  ]
  const files: RenderedFile[] = [{ path: '/etc/haproxy/haproxy.cfg', text: `${parts.join('\n\n')}\n`, mode: 0o644 }]
  if (logFile !== undefined) files.push(rsyslogRule(logFile))
  return files
}

function head({ config }: ClusterView): string {
  const { balancer, alerts } = config
  const lines = [
    'global',
    '    log /dev/log local0',
    '    user haproxy',
    '    group haproxy',
    '    stats socket /run/haproxy/admin.sock mode 660 level admin',
    `    maxconn ${balancer.clientsMax}`,
    '',
    'defaults',
    '    mode tcp',
    '    log global',
    '    option dontlog-normal',
    '    option tcplog',
    '    option clitcpka',
    '    option srvtcpka',
    // A node that is gone with its machine answers nothing: the next one is tried, before a check has noticed.
    '    option redispatch 1',
    '    retries 3',
    `    timeout connect ${connectMilliseconds(balancer)}ms`,
    `    timeout client ${milliseconds(balancer.idleTimeoutSeconds)}ms`,
    `    timeout server ${milliseconds(balancer.idleTimeoutSeconds)}ms`,
    `    timeout check ${milliseconds(balancer.checkTimeoutSeconds)}ms`,
    // A failing node is looked at more often, so that "fall" checks take little longer than one interval.
    `    default-server inter ${milliseconds(balancer.checkIntervalSeconds)}ms fastinter ${milliseconds(balancer.checkIntervalSeconds / 2)}ms fall ${balancer.fall} rise ${balancer.rise}${balancer.quiescent ? '' : ' on-marked-down shutdown-sessions'}`,
    ...alertLines(alerts),
  ]
  return [...mailers(alerts), ...lines].join('\n')
}

type Alerts = ClusterView['config']['alerts']

/** HAProxy's mails carry one address each way: further ones are written to by Alertmanager alone. */
function alertLines({ email, from, states }: Alerts): string[] {
  const [to] = email
  if (to === undefined) return []
  return [
    '    email-alert mailers whitehole',
    `    email-alert from ${from}`,
    `    email-alert to ${to}`,
    `    email-alert level ${states === 'all' ? 'notice' : 'alert'}`,
  ]
}

function mailers({ email, smtp }: Alerts): string[] {
  return email.length === 0 ? [] : ['mailers whitehole', `    mailer smtp ${smtp}`, '']
}

function health(): string {
  return [
    'frontend whitehole-health',
    '    mode http',
    `    bind 127.0.0.1:${haproxyHealthPort}`,
    '    timeout client 5s',
    '    monitor-uri /healthz',
    '    http-request use-service prometheus-exporter if { path /metrics }',
    '    http-request return status 404',
  ].join('\n')
}

function memcachedFrontends(view: ClusterView, machine: ClusterMachine): string[] {
  const hosts = [...new Set([...virtualHosts(view, machine), ...clientHosts(machine)])]
  return view.clientPorts.map(({ name, port }) =>
    [`frontend memcached-${name}`, ...binds(hosts, port), `    default_backend nodes-${name}`].join('\n'),
  )
}

/** Also while the other balancer holds them. */
function virtualHosts(view: ClusterView, machine: ClusterMachine): string[] {
  return view.virtualOf(machine).flatMap(({ virtual }) => present([virtual.applications, virtual.caches]))
}

/** The machine's own: on the caches' side a node of this machine has those ports. */
function clientHosts(machine: ClusterMachine): string[] {
  const { applications, caches } = machine.networks
  const busy = machine.runs.includes('node')
  return present([applications?.bind ?? applications?.address, busy ? undefined : (caches.bind ?? caches.address)])
}

function binds(hosts: readonly string[], port: number): string[] {
  // transparent: an address may be bound that this machine does not hold yet.
  return hosts.map((host) => `    bind ${hostPort(host, port)} transparent`)
}

function memcachedBackends(view: ClusterView, machine: ClusterMachine): string[] {
  const { scheduler, check } = view.config.balancer
  return view.clientPorts.map(({ name, port }) =>
    [
      `backend nodes-${name}`,
      `    balance ${balance[scheduler]}`,
      ...(check === 'readyz'
        ? ['    option httpchk', '    http-check send meth GET uri /readyz', '    http-check expect status 200']
        : [
            '    option tcp-check',
            `    tcp-check send ${name === 'by-key' ? 'version' : 'mg\\ whitehole-check'}\\r\\n`,
            // EN is a miss, which a node that serves tells as well as a hit.
            `    tcp-check expect rstring ${name === 'by-key' ? '^VERSION' : '^(EN|HD)'}`,
          ]),
      ...view.near(machine, 'node').map((node) => server(view, { node, port, backup: false })),
      // Reads leave the data centre only when no node of its own serves.
      ...view.far(machine, 'node').map((node) => server(view, { node, port, backup: true })),
    ].join('\n'),
  )
}

function server(view: ClusterView, given: { node: ClusterMachine; port: number; backup: boolean }): string {
  const { node, port, backup } = given
  const { address } = node.networks.caches
  const checked = view.config.balancer.check === 'readyz' ? ` port ${view.config.nodeHttpPort}` : ''
  const { agentPort } = view
  const agent =
    agentPort === undefined
      ? ''
      : ` agent-check agent-port ${agentPort} agent-inter ${milliseconds(view.config.balancer.checkIntervalSeconds)}ms`
  const weight = ` weight ${node.weight * weightScale(view)}`
  return `    server ${node.name} ${hostPort(address, port)} check${checked}${agent}${weight}${backup ? ' backup' : ''}`
}

const haproxyWeightMax = 256

/** A node's agent tells a percentage, of which HAProxy makes a whole number: half of 1 would be none. */
function weightScale(view: ClusterView): number {
  const highest = Math.max(...view.running('node').map(({ weight }) => weight))
  return Math.max(1, Math.floor(Math.min(100, haproxyWeightMax / highest)))
}

/** SQL by role: a monitor is asked who is what, of this machine if it has one; servers are named as their databases are there. */
function sqlParts(view: ClusterView, machine: ClusterMachine): string[] {
  const databases = view.running('database')
  const monitor = view.monitorFor(machine)
  if (databases.length === 0 || monitor === undefined) return []
  const { address } = monitor.networks.caches
  const hosts = view
    .virtualOf(machine)
    .flatMap(({ virtual }) => (virtual.role === 'writer' ? present([virtual.applications, virtual.caches]) : []))
  if (hosts.length === 0) return []
  return (['primary', 'standby'] as const).flatMap((role) => [
    [`frontend sql-${role}`, ...binds(hosts, view.config.sqlPorts[role]), `    default_backend sql-${role}`].join('\n'),
    [
      `backend sql-${role}`,
      '    option httpchk',
      `    http-check send meth GET uri-lf "/databases/%[srv_name]/${role}"`,
      '    http-check expect status 200',
      // One that is no longer in its role must not be written to by those who are connected.
      '    default-server on-marked-down shutdown-sessions',
      ...databases.map(
        ({ name, networks, database }) =>
          `    server ${name} ${hostPort(networks.caches.address, database.port)} check addr ${address} port ${view.config.monitorHttpPort}`,
      ),
    ].join('\n'),
  ])
}

/** Half an interval, so that a client that was sent to a dead machine first is answered within one. */
function connectMilliseconds({ checkIntervalSeconds }: ClusterView['config']['balancer']): number {
  return Math.min(2000, milliseconds(checkIntervalSeconds / 2))
}

function rsyslogRule(logFile: string): RenderedFile {
  const text = [
    madeFrom('haproxy'),
    `if $programname == 'haproxy' or $programname startswith 'Keepalived' then {`,
    `  action(type="omfile" file="${logFile}")`,
    '  stop',
    '}',
    '',
  ].join('\n')
  return { path: '/etc/rsyslog.d/49-whitehole.conf', text, mode: 0o644 }
}

function milliseconds(seconds: number): number {
  return Math.round(seconds * 1000)
}

function present(values: readonly (string | undefined)[]): string[] {
  return values.filter((value) => value !== undefined)
}
