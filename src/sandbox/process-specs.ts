import { join } from 'node:path'
import { stringify } from 'yaml'
import type { MonitorConfigInput } from '../config/monitor-config.ts'
import type { NodeConfigInput } from '../config/node-config.ts'
import { runAsRoot } from './data-directory.ts'
import { type DatabaseSettings, mariadbArguments, mysqlArguments } from '../config/database-settings.ts'
import type { SandboxFolder } from './folder.ts'
import { shellQuoted } from '../runtime/shell.ts'
import { findProgram } from './programs.ts'
import type { ProcessSpec } from './supervised-process.ts'
import {
  type DatabasePlan,
  dialectOf,
  type LinkPlan,
  type MemcachedPlan,
  type MonitorPlan,
  mysqldOf,
  type NodePlan,
  type SandboxPlan,
  type SandboxSettings,
  voterNodes,
} from './topology.ts'

const loopback = '127.0.0.1'

/** How this program is started again, for a node or a background sandbox: the interpreter, its options, the script. */
export interface OwnCommand {
  readonly command: string
  readonly args: readonly string[]
}

export interface DatabaseParts {
  readonly settings: SandboxSettings
  /** Asked at each start: in which role it comes up depends on who is primary by then. */
  readonly roleArguments: (name: string) => readonly string[]
  /** Asked when it has ended by itself: another one may become the primary in its place. */
  readonly mayBeReplaced: (name: string) => boolean
}

export function databaseSpec(folder: SandboxFolder, plan: DatabasePlan, parts: DatabaseParts): ProcessSpec {
  const { settings, roleArguments, mayBeReplaced } = parts
  const own = folder.of(plan.name)
  const arguments_ = dialectOf(settings) === 'mariadb' ? mariadbArguments : sandboxMysqlArguments
  const args = arguments_({
    serverId: plan.serverId,
    port: plan.port,
    extraPort: plan.extraPort,
    socket: folder.databaseSocket(plan.name),
    dataDirectory: join(own, 'data'),
    pidFile: join(own, 'server.pid'),
    errorLog: databaseLog(folder, plan.name),
    bindAddress: loopback,
    initFile: databaseInitFile(folder, plan.name),
  })
  return {
    name: plan.name,
    command: mysqldOf(settings) ?? findProgram('mariadbd'),
    args: [...args, ...runAsRoot('--user=root')],
    argsAtStart: () => roleArguments(plan.name),
    restartMilliseconds: () => (mayBeReplaced(plan.name) ? replacedMilliseconds : databaseRestartMilliseconds),
    folder: own,
    stopSeconds: 30,
  }
}

/**
 * Longer than a takeover takes: then it comes back as a standby, which MariaDB must know at its start, or what it had written and nobody had
 * acknowledged is committed and has to be thrown away with all the rest.
 */
const replacedMilliseconds = 1500
/** Nobody takes its place. */
const databaseRestartMilliseconds = 100

/** Many servers on one machine: its instruments take 100 MB of memory each. */
function sandboxMysqlArguments(settings: DatabaseSettings): string[] {
  return [...mysqlArguments(settings), '--performance-schema=OFF']
}

export function databaseInitFile(folder: SandboxFolder, name: string): string {
  return join(folder.of(name), 'init.sql')
}

export function databaseLog(folder: SandboxFolder, name: string): string {
  return join(folder.of(name), 'error.log')
}

export function memcachedSpec(folder: SandboxFolder, plan: MemcachedPlan, settings: SandboxSettings): ProcessSpec {
  const limits = ['-I', '2m', '-m', String(settings.memoryMebibytes)]
  return {
    name: plan.name,
    command: findProgram('memcached'),
    args: ['-l', loopback, '-p', String(plan.port), '-U', '0', ...limits, ...runAsRoot('-u', 'root')],
    folder: folder.of(plan.name),
    stopSeconds: 5,
  }
}

export function nodeSpec(folder: SandboxFolder, plan: NodePlan, own: OwnCommand): ProcessSpec {
  return {
    name: plan.name,
    command: own.command,
    args: [...own.args, 'node', '--config', daemonConfigFile(folder, plan.name)],
    folder: folder.of(plan.name),
    stopSeconds: 15,
  }
}

export function daemonConfigFile(folder: SandboxFolder, name: string): string {
  return join(folder.of(name), 'config.yaml')
}

export function monitorSpec(folder: SandboxFolder, plan: MonitorPlan, own: OwnCommand): ProcessSpec {
  return {
    name: plan.name,
    command: own.command,
    args: [...own.args, 'monitor', '--config', daemonConfigFile(folder, plan.name)],
    folder: folder.of(plan.name),
    stopSeconds: 15,
  }
}

/** As a monitor anywhere has it; its databases are restarted and rebuilt by the sandbox's own supervisor. */
export function monitorConfigText(
  folder: SandboxFolder,
  plan: MonitorPlan,
  given: { whole: SandboxPlan; settings: SandboxSettings; own: OwnCommand },
): string {
  const { whole, settings, own } = given
  const hostCommand = (action: string, name: string): string =>
    [own.command, ...own.args, 'sandbox', action, name, '--dir', folder.path].map(shellQuoted).join(' ')
  const config: MonitorConfigInput = {
    name: plan.name,
    dataDirectory: join(folder.of(plan.name), 'data'),
    databases: {
      takeover: 'managed',
      engine: dialectOf(settings),
      pair: whole.databases
        .filter(({ isRelay }) => !isRelay)
        .map(({ name, port, extraPort, farPort }) => ({
          name,
          address: `${loopback}:${port}`,
          ...(whole.link === undefined ? {} : { relayAddress: `${loopback}:${farPort}` }),
          adminPort: extraPort,
          restartCommand: hostCommand('restart', name),
          rebuildCommand: hostCommand('rebuild', name),
        })),
      ...(whole.link === undefined ? {} : relaysOfMonitor(folder, whole, hostCommand)),
      user: monitorUser,
      passwordFile: folder.secretFile('monitor'),
      replicationUser,
      replicationPasswordFile: folder.secretFile('replication'),
    },
    voters: [
      ...voterNodes(whole).map(({ name, httpPort }) => ({
        name,
        kind: 'node' as const,
        http: `${loopback}:${httpPort}`,
      })),
      { name: plan.name, kind: 'monitor', http: `${loopback}:${plan.httpPort}` },
    ],
    secretFile: folder.secretFile('voters'),
    tokenFile: folder.secretFile('token'),
    http: { listen: `${loopback}:${plan.httpPort}` },
  }
  return stringify(config)
}

function relaysOfMonitor(
  folder: SandboxFolder,
  { databases }: SandboxPlan,
  hostCommand: (action: string, name: string) => string,
): Pick<MonitorConfigInput['databases'], 'relays' | 'relayUser' | 'relayPasswordFile'> {
  return {
    relays: databases
      .filter(({ isRelay }) => isRelay)
      .map(({ name, datacenter, farPort, farExtraPort }) => ({
        name,
        datacenter,
        address: `${loopback}:${farPort}`,
        adminPort: farExtraPort,
        rebuildCommand: hostCommand('rebuild', name),
      })),
    relayUser,
    relayPasswordFile: folder.secretFile('relay'),
  }
}

/** The ports of a database as that data centre reaches it. */
function portFrom(datacenter: string, database: DatabasePlan): number {
  return database.datacenter === datacenter ? database.port : database.farPort
}

/** Starts the link: what crosses between the data centres, so much later each way. */
export function linkSpec(
  folder: SandboxFolder,
  plan: LinkPlan,
  given: { own: OwnCommand; delayMilliseconds: number },
): ProcessSpec {
  const { own, delayMilliseconds } = given
  const routes = plan.routes.map(({ port, to }) => `${port}:${to}`)
  return {
    name: plan.name,
    command: own.command,
    // The folder is named so that its processes are found by it.
    args: [...own.args, 'sandbox', 'link', '--dir', folder.path, '--delay', String(delayMilliseconds), ...routes],
    folder: folder.of(plan.name),
    stopSeconds: 5,
  }
}

/** The same configuration as a node anywhere has; a good example to start from. */
export function nodeConfigText(folder: SandboxFolder, plan: NodePlan, whole: SandboxPlan): string {
  const home = whole.databases.filter(({ isRelay }) => !isRelay)
  const config: NodeConfigInput = {
    name: plan.name,
    datacenter: plan.datacenter,
    dataDirectory: join(folder.of(plan.name), 'data'),
    databases: {
      topology: home.length > 1 ? 'pair' : 'single',
      addresses: home.map((database) => `${loopback}:${portFrom(plan.datacenter, database)}`),
      relays: whole.databases
        .filter(({ isRelay }) => isRelay)
        .map((database) => ({
          address: `${loopback}:${portFrom(plan.datacenter, database)}`,
          datacenter: database.datacenter,
        })),
      user: nodeUser,
      passwordFile: folder.secretFile('node'),
    },
    memcached: { address: `${loopback}:${plan.memcachedPort}` },
    listeners: [
      { listen: `${loopback}:${plan.mainPort}`, namespace: 'default' },
      { listen: `${loopback}:${plan.keyPrefixPort}`, namespaceFrom: 'key' },
      { listen: `${loopback}:${plan.sessionsPort}`, namespace: 'sessions' },
    ],
    http: { listen: `${loopback}:${plan.httpPort}` },
    ...(voterNodes(whole).includes(plan) ? { voter: voterConfig(folder, whole) } : {}),
  }
  return stringify(config)
}

function voterConfig(folder: SandboxFolder, { databases }: SandboxPlan): NodeConfigInput['voter'] {
  return {
    databases: databases.map((database) => ({
      name: database.name,
      address: `${loopback}:${portFrom('dc1', database)}`,
    })),
    secretFile: folder.secretFile('voters'),
  }
}

/** The file in which a voter keeps its vote. */
export function voteFile(folder: SandboxFolder, voter: string): string {
  return join(folder.of(voter), 'data', 'vote.json')
}

export const monitorUser = 'whitehole_monitor'
export const replicationUser = 'whitehole_replication'

export const relayUser = 'whitehole_relay'

export const nodeUser = 'whitehole_node'
