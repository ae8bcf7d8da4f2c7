import type { ClusterMachine, VirtualAddress } from '../config/cluster-config.ts'
import { parseSubnet } from '../config/subnet.ts'
import type { ClusterView } from './cluster-view.ts'
import { haproxyHealthPort } from './haproxy.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

const checkScript = '/etc/keepalived/check-haproxy'

export function renderKeepalived(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  const virtuals = view.virtualOf(machine)
  if (!machine.runs.includes('balancer') || virtuals.length === 0) return []
  const parts = [
    madeFrom('keepalived'),
    globals(view, machine),
    haproxyCheck,
    ...virtuals.map((given) => vrrpInstance(view, machine, given)),
    ...(view.config.balancer.forwarding === 'lvs' ? virtualServers(view, machine) : []),
  ]
  return [
    { path: '/etc/keepalived/keepalived.conf', text: `${parts.join('\n\n')}\n`, mode: 0o644 },
    { path: checkScript, text: checkScriptText, mode: 0o755 },
  ]
}

function globals({ config }: ClusterView, machine: ClusterMachine): string {
  const { email, from, smtp } = config.alerts
  const [host = '', port = '25'] = smtp.split(':')
  return [
    'global_defs {',
    `    router_id ${machine.name}`,
    // Of version 3: it alone knows parts of a second.
    '    vrrp_version 3',
    '    enable_script_security',
    '    script_user nobody',
    ...(email.length === 0
      ? []
      : [
          '    notification_email {',
          ...email.map((to) => `        ${to}`),
          '    }',
          `    notification_email_from ${from}`,
          `    smtp_server ${host} ${port}`,
          '    smtp_connect_timeout 10',
        ]),
    '}',
  ].join('\n')
}

const haproxyCheck = [
  'vrrp_script haproxy {',
  `    script "${checkScript}"`,
  '    interval 1',
  '    timeout 2',
  '    fall 2',
  '    rise 2',
  '}',
].join('\n')

/** The answer is read, since a process that stands still has its connections accepted by the kernel. */
const checkScriptText = `#!/bin/bash
${madeFrom('keepalived')}
exec 3<>/dev/tcp/127.0.0.1/${haproxyHealthPort} || exit 1
printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3
read -r -t 1 -u 3 _ code _ && [ "$code" = 200 ]
`

/** Both addresses of a role move together, as in the seed's haresources: also when only one of the two networks is cut. */
function vrrpInstance(
  view: ClusterView,
  machine: ClusterMachine,
  { virtual, routerId }: { virtual: VirtualAddress; routerId: number },
): string {
  const networks = view.networksOf(machine)
  const { caches, applications } = machine.networks
  const others = view.near(machine, 'balancer').filter(({ name }) => name !== machine.name)
  const address = (of: string | undefined, subnet: string | undefined, device: string | undefined): string[] =>
    of === undefined ? [] : [`        ${of}/${parseSubnet(subnet ?? '')?.bits ?? 32} dev ${device ?? ''}`]
  const [first = '', ...more] = [
    ...address(virtual.applications, networks.applications, applications?.interface),
    ...address(virtual.caches, networks.caches, caches.interface),
  ]
  // VRRP's own interface is tracked anyway.
  const tracked = virtual.applications === undefined ? undefined : applications?.interface
  return [
    `vrrp_instance ${virtual.role} {`,
    '    state BACKUP',
    `    interface ${caches.interface ?? ''}`,
    `    virtual_router_id ${routerId}`,
    `    priority ${virtual.machine === machine.name ? 150 : 100 - view.near(machine, 'balancer').indexOf(machine)}`,
    `    advert_int ${advertSeconds(view)}`,
    // Unicast: also where a network carries no multicast. A balancer without another has nobody to speak to.
    ...(others.length === 0
      ? []
      : [
          `    unicast_src_ip ${caches.address}`,
          '    unicast_peer {',
          ...others.map(({ networks: of }) => `        ${of.caches.address}`),
          '    }',
        ]),
    '    virtual_ipaddress {',
    first,
    ...more,
    '    }',
    ...(tracked === undefined ? [] : ['    track_interface {', `        ${tracked}`, '    }']),
    '    track_script {',
    '        haproxy',
    '    }',
    ...(view.config.alerts.email.length > 0 && view.config.alerts.states === 'all' ? ['    smtp_alert'] : []),
    '}',
  ].join('\n')
}

/** An address moves after three adverts that did not come and a fraction of a fourth: within one interval of the checks, and within four seconds. */
function advertSeconds({ config: { balancer } }: ClusterView): number {
  return Math.min(1, Math.round(balancer.checkIntervalSeconds * 25) / 100)
}

/** ldirectord's `virtual` and `real`, for kernels that have ip_vs. The nodes' gateway must be the balancer's virtual address. */
function virtualServers(view: ClusterView, machine: ClusterMachine): string[] {
  const hosts = view
    .virtualOf(machine)
    .flatMap(({ virtual }) => [virtual.applications, virtual.caches])
    .filter((host) => host !== undefined)
  return hosts.flatMap((host) => view.clientPorts.map(({ port }) => virtualServer(view, { machine, host, port })))
}

const lvsScheduler = { rr: 'wrr', lc: 'wlc', source: 'sh' } as const

function virtualServer(view: ClusterView, given: { machine: ClusterMachine; host: string; port: number }): string {
  const { balancer } = view.config
  return [
    `virtual_server ${given.host} ${given.port} {`,
    `    delay_loop ${balancer.checkIntervalSeconds}`,
    `    lvs_sched ${lvsScheduler[balancer.scheduler]}`,
    '    lvs_method NAT',
    '    protocol TCP',
    // quiescent: a node that fails keeps its connections and gets no new ones (weight 0).
    ...view.near(given.machine, 'node').flatMap((node) => realServer(view, { node, port: given.port })),
    '}',
  ].join('\n')
}

function realServer(view: ClusterView, { node, port }: { node: ClusterMachine; port: number }): string[] {
  const { balancer, nodeHttpPort, alerts } = view.config
  return [
    `    real_server ${node.networks.caches.address} ${port} {`,
    `        weight ${node.weight}`,
    ...(balancer.quiescent ? ['        inhibit_on_failure'] : []),
    ...(alerts.email.length > 0 ? ['        smtp_alert'] : []),
    '        HTTP_GET {',
    '            url {',
    '                path /readyz',
    '                status_code 200',
    '            }',
    `            connect_port ${nodeHttpPort}`,
    `            connect_timeout ${balancer.checkTimeoutSeconds}`,
    `            retry ${balancer.fall - 1}`,
    `            delay_before_retry ${Math.min(1, balancer.checkIntervalSeconds)}`,
    '        }',
    '    }',
  ]
}
