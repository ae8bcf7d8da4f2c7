import { join } from 'node:path'
import type { Connection, RowDataPacket } from 'mysql2/promise'
import type { ClusterRecord } from '../domain/cluster-record.ts'
import { chosenRecord, readVote, roleArguments } from './recorded-role.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import { rotate } from '../sandbox/rotate.ts'
import { monitorUser, nodeUser, relayUser, replicationUser, voteFile } from '../sandbox/process-specs.ts'
import { Sandbox } from '../sandbox/sandbox.ts'
import { SandboxError } from '../sandbox/sandbox-error.ts'
import {
  defaultSettings,
  dialectOf,
  namespacesAtStart,
  planOf,
  type SandboxPlan,
  voterNodes,
  type SandboxSettings,
} from '../sandbox/topology.ts'
import { copyDatabase } from '../schema/copy-database.ts'
import { initializeSchema } from '../schema/initialize.ts'
import { type Accounts, serverAccountStatements } from '../schema/accounts.ts'

/** What `up` was asked for; what is left out stays as the folder has it. */
export type SandboxWishes = Partial<Omit<SandboxSettings, 'format'>>

/** @throws SandboxError where the wishes do not fit what the folder holds */
export function composeSandbox(path: string, wishes: SandboxWishes, report: (message: string) => void): Sandbox {
  const folder = SandboxFolder.make(path)
  const former = folder.settings
  if (former !== undefined && wishes.topology !== undefined && wishes.topology !== former.topology) {
    throw new SandboxError(
      `the sandbox in ${folder.path} is a "${former.topology}" and can't become a "${wishes.topology}": choose another folder with --dir`,
    )
  }
  if (
    former !== undefined &&
    wishes.engine !== undefined &&
    dialectOf({ engine: wishes.engine }) !== dialectOf(former)
  ) {
    throw new SandboxError(
      `the databases in ${folder.path} are of "${former.engine}" and can't be run by "${wishes.engine}": choose another folder with --dir`,
    )
  }
  const settings = { ...defaultSettings, ...former, ...wishes }
  if (settings.datacenters === 2 && settings.topology !== 'pair') {
    throw new SandboxError('a second data centre follows the standby of a pair: --dc 2 goes with --topology pair')
  }
  if (former !== undefined && former.datacenters === 2 && settings.datacenters === 1) {
    throw new SandboxError(`the sandbox in ${folder.path} has two data centres: choose another folder with --dir`)
  }
  const { monitor, replication, relay } = sandboxAccounts(folder)
  const plan = planOf(settings)
  const pair = plan.databases.flatMap(({ name, isRelay }) => (isRelay ? [] : [name]))
  const record = (): ClusterRecord | undefined => recordedByMajority(folder, plan)
  return new Sandbox({
    folder,
    settings,
    ownCommand: ownCommand(),
    accountStatements: serverAccountStatements(dialectOf(settings), { monitor, replication, relay }),
    initialize: initializer(folder),
    copy: copyDatabase,
    roleArguments: (name) => {
      const binlogIndex = join(folder.of(name), 'data', 'binlog.index')
      return roleArguments(dialectOf(settings), { database: name, pair, record: record(), binlogIndex })
    },
    recordedPrimary: () => record()?.primary,
    report,
  })
}

/** How this very program was started, loaders included. */
export function ownCommand(): { command: string; args: readonly string[] } {
  return { command: process.execPath, args: [...process.execArgv, process.argv[1] ?? ''] }
}

/** @returns the file that a background sandbox writes to, its former content out of the way */
export function prepareSupervisorLog(path: string): string {
  const { supervisorLog } = SandboxFolder.make(path)
  rotate(supervisorLog)
  return supervisorLog
}

/** The accounts of a sandbox: least privilege, from this machine alone, with generated passwords. */
export function sandboxAccounts(folder: SandboxFolder): Required<Accounts> {
  const host = '127.0.0.1'
  return {
    node: { user: nodeUser, host, password: folder.secret('node') },
    application: { user: 'whitehole_application', host, password: folder.secret('application') },
    monitor: { user: monitorUser, host, password: folder.secret('monitor') },
    replication: { user: replicationUser, host, password: folder.secret('replication') },
    relay: { user: relayUser, host, password: folder.secret('relay') },
  }
}

function initializer(folder: SandboxFolder): (primary: Connection) => Promise<void> {
  return async (primary) => {
    await initializeSchema(primary, { accounts: sandboxAccounts(folder) })
    const [rows] = await primary.query<RowDataPacket[]>('SELECT ns_name AS name FROM memcached.mc_namespaces')
    const present = new Set(rows.map((row) => String(row['name'])))
    // On a later start a namespace that was dropped meanwhile stays dropped, but the listeners need theirs.
    const wanted = present.size === 0 ? namespacesAtStart : (['default', 'sessions'] as const)
    for (const name of wanted) {
      if (!present.has(name)) await primary.query('CALL memcached.create_namespace(?)', [name])
    }
  }
}

/** As a majority of the voters has it on disk: they need not run. Undefined where there is no such record. */
function recordedByMajority(folder: SandboxFolder, plan: SandboxPlan): ClusterRecord | undefined {
  const voters = [...voterNodes(plan), ...plan.monitors].map(({ name }) => readVote(voteFile(folder, name)))
  return chosenRecord(voters, voters.length)
}
