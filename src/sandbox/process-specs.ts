import { join } from 'node:path'
import { stringify } from 'yaml'
import type { NodeConfigInput } from '../config/node-config.ts'
import { runAsRoot } from './data-directory.ts'
import { type DatabaseSettings, mariadbArguments, mysqlArguments } from '../config/database-settings.ts'
import type { SandboxFolder } from './folder.ts'
import { findProgram } from './programs.ts'
import type { ProcessSpec } from './supervised-process.ts'
import {
  type DatabasePlan,
  dialectOf,
  type MemcachedPlan,
  mysqldOf,
  type NodePlan,
  type SandboxPlan,
  type SandboxSettings,
} from './topology.ts'

const loopback = '127.0.0.1'

/** How this program is started again, for a node or a background sandbox: the interpreter, its options, the script. */
export interface OwnCommand {
  readonly command: string
  readonly args: readonly string[]
}

export function databaseSpec(folder: SandboxFolder, plan: DatabasePlan, settings: SandboxSettings): ProcessSpec {
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
    folder: own,
    stopSeconds: 30,
  }
}

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
    args: [...own.args, 'node', '--config', nodeConfigFile(folder, plan.name)],
    folder: folder.of(plan.name),
    stopSeconds: 15,
  }
}

export function nodeConfigFile(folder: SandboxFolder, name: string): string {
  return join(folder.of(name), 'config.yaml')
}

/** The same configuration as a node anywhere has; a good example to start from. */
export function nodeConfigText(folder: SandboxFolder, plan: NodePlan, whole: SandboxPlan): string {
  const config: NodeConfigInput = {
    name: plan.name,
    datacenter: plan.datacenter,
    dataDirectory: join(folder.of(plan.name), 'data'),
    databases: {
      topology: whole.databases.length > 1 ? 'pair' : 'single',
      addresses: whole.databases.map(({ port }) => `${loopback}:${port}`),
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
  }
  return stringify(config)
}

export const nodeUser = 'whitehole_node'
