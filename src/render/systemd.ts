import { readFileSync } from 'node:fs'
import type { ClusterMachine } from '../config/cluster-config.ts'
import type { ClusterView } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** Beside src/ in a checkout, beside dist/ when built. */
const units = new URL('../../packaging/systemd/', import.meta.url)
const folder = '/etc/systemd/system'

/**
 * Units for a machine whose whitehole came with npm, the same that the Debian package brings; and what reads the balancers' files again when
 * they change (ldirectord's autoreload).
 */
export function renderSystemd(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  const node = machine.runs.includes('node') ? ['whitehole-node.service', 'whitehole-memcached.service'] : []
  const monitor = machine.runs.includes('monitor') ? ['whitehole-monitor.service'] : []
  const reload = machine.runs.includes('balancer') && view.config.balancer.autoReload
  return [
    ...[...node, ...monitor].map((name) => ({
      path: `${folder}/${name}`,
      text: `${madeFrom('systemd')}\n${readFileSync(new URL(name, units), 'utf8')}`,
      mode: 0o644 as const,
    })),
    ...(monitor.length > 0 ? databaseRole(view, machine) : []),
    ...(reload ? reloadUnits('haproxy', '/etc/haproxy/haproxy.cfg') : []),
    ...(reload && view.virtualOf(machine).length > 0
      ? reloadUnits('keepalived', '/etc/keepalived/keepalived.conf')
      : []),
  ]
}

/**
 * A database of a pair that died as the primary comes back under another one: MariaDB then truncates what nobody has acknowledged, if it is
 * started as what it is now. Debian's unit gives $MYSQLD_OPTS to the server.
 */
function databaseRole({ config, managedPair }: ClusterView, machine: ClusterMachine): RenderedFile[] {
  if (config.topology !== 'pair' || config.engine !== 'mariadb' || !managedPair.includes(machine)) return []
  const ask = `/usr/bin/whitehole role --config /etc/whitehole/monitor.yaml --database ${machine.name}`
  const text = [
    madeFrom('systemd'),
    '[Service]',
    // It prints nothing save for a former primary with a tail; the log is where the rendered settings have it.
    `ExecStartPre=+/bin/sh -c 'echo "MYSQLD_OPTS=$$(${ask})" >/run/whitehole-database-role'`,
    'EnvironmentFile=-/run/whitehole-database-role',
    // Started again after whatever end; read-only until the monitors have compared it.
    'Restart=always',
    'RestartSec=2',
    '',
  ]
  return [{ path: `${folder}/mariadb.service.d/whitehole.conf`, text: text.join('\n'), mode: 0o644 }]
}

function reloadUnits(service: string, file: string): RenderedFile[] {
  const name = `whitehole-reload-${service}`
  const path = [
    madeFrom('systemd'),
    '[Unit]',
    `Description=Reload ${service} when its configuration changes`,
    '',
    '[Path]',
    `PathChanged=${file}`,
    '',
    '[Install]',
    'WantedBy=multi-user.target',
    '',
  ]
  const oneShot = [
    madeFrom('systemd'),
    '[Unit]',
    `Description=Reload ${service}`,
    '',
    '[Service]',
    'Type=oneshot',
    // A file that it refuses is not loaded; what runs goes on.
    `ExecStart=/usr/bin/systemctl reload ${service}.service`,
    '',
  ]
  return [
    { path: `${folder}/${name}.path`, text: path.join('\n'), mode: 0o644 },
    { path: `${folder}/${name}.service`, text: oneShot.join('\n'), mode: 0o644 },
  ]
}
