import type { ClusterMachine } from '../config/cluster-config.ts'
import { databaseSettings, relaySettings } from '../config/database-settings.ts'
import { bindAddress, type ClusterView } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** One options file for the database of a machine, read after the distribution's own. */
export function renderMycnf(view: ClusterView, machine: ClusterMachine): RenderedFile[] {
  if (!machine.runs.includes('database')) return []
  const { engine, topology } = view.config
  const { port, extraPort, bufferPoolMebibytes, connectionsMax } = machine.database
  const settings = databaseSettings(engine, {
    serverId: view.serverId(machine),
    port,
    extraPort,
    bindAddress: withLoopback(bindAddress(machine)),
    // A single database has nobody who would make it writable; an external one is its owner's business.
    startsReadOnly: topology === 'pair',
  })
  const relay = view.isRelay(machine) ? relaySettings(engine, machine.database) : []
  const lines = [...settings, ...relay].flatMap(({ name, value, why }) => [
    ...(why === undefined ? [] : [`# ${why}`]),
    `${name} = ${value}`,
  ])
  const text = [
    madeFrom('mycnf'),
    engine === 'mariadb' ? '[mariadbd]' : '[mysqld]',
    ...lines,
    `innodb-buffer-pool-size = ${bufferPoolMebibytes}M`,
    `max-connections = ${connectionsMax}`,
    '',
  ].join('\n')
  const folder = engine === 'mariadb' ? '/etc/mysql/mariadb.conf.d' : '/etc/mysql/mysql.conf.d'
  return [{ path: `${folder}/90-whitehole.cnf`, text, mode: 0o644 }]
}

/** For tools on the machine itself. An address that stands there twice can't be bound. */
function withLoopback(address: string): string {
  return everywhere.has(address) || address === loopback ? address : `${loopback},${address}`
}

const loopback = '127.0.0.1'
const everywhere: ReadonlySet<string> = new Set(['0.0.0.0', '::', '*'])
