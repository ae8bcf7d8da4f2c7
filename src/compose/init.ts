import { readFileSync } from 'node:fs'
import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise'
import { closeDatabaseConnection } from '../adapters/databases.ts'
import { formatAddress } from '../config/address.ts'
import { loadNodeConfig, type LoadedNodeConfig } from '../config/load.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { Dialect } from '../domain/position.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import type { Account, Accounts } from '../schema/accounts.ts'
import { initializeSchema, makeServerAccounts, schemaSql } from '../schema/initialize.ts'
import { sandboxAccounts } from './sandbox.ts'
import { SandboxCluster } from './sandbox-cluster.ts'

/** A privileged login for the time of the command; it is never stored. */
export interface InitOptions {
  readonly adminUser: string
  readonly adminPasswordFile?: string | undefined
  readonly adminSocket?: string | undefined
  /** From where the accounts may log in, as the server matches it: `%`, `10.0.%`. */
  readonly accountHost: string
  readonly application?: { readonly user: string; readonly passwordFile: string } | undefined
  readonly monitor?: { readonly user: string; readonly passwordFile: string } | undefined
  readonly replication?: { readonly user: string; readonly passwordFile: string } | undefined
  readonly relay?: { readonly user: string; readonly passwordFile: string } | undefined
}

const connectTimeoutMilliseconds = 5000

/** @returns the migrations that it applied */
export async function initConfigured(configFile: string, options: InitOptions): Promise<{ applied: string[] }> {
  const config = loadNodeConfig(configFile)
  const connection = await connectAsAdmin(config, options)
  try {
    return await initializeSchema(connection, { accounts: configuredAccounts(config, options) })
  } finally {
    closeDatabaseConnection(connection)
  }
}

/**
 * The accounts that a standby needs before its first replication: its monitor's and its replication's. All else comes from the primary.
 * Over the unix socket of that very server; nothing of it is logged.
 */
export async function initStandby(options: InitOptions): Promise<void> {
  const { monitor, replication, relay } = configuredAccounts(undefined, options)
  if (options.adminSocket === undefined || monitor === undefined || replication === undefined) {
    throw new WhiteholeError(
      'bad-configuration',
      'a standby needs --admin-socket, --monitor-password-file and --replication-password-file',
    )
  }
  const password = options.adminPasswordFile === undefined ? '' : readSecret(options.adminPasswordFile)
  const connection = await createConnection({
    user: options.adminUser,
    password,
    socketPath: options.adminSocket,
    connectTimeout: connectTimeoutMilliseconds,
  })
  try {
    await makeServerAccounts(connection, { monitor, replication, ...(relay === undefined ? {} : { relay }) })
  } finally {
    closeDatabaseConnection(connection)
  }
}

export async function initSandbox(path: string): Promise<{ applied: string[] }> {
  const folder = SandboxFolder.open(path)
  const cluster = await SandboxCluster.open(path)
  const connection = await cluster.connectPrimary().finally(() => cluster.close())
  try {
    return await initializeSchema(connection, { accounts: sandboxAccounts(folder) })
  } finally {
    closeDatabaseConnection(connection)
  }
}

/** What `init` would run, for a person to read or to run; passwords are left to be filled in. */
export function printableSchema(dialect: Dialect, configFile: string | undefined, options: InitOptions): string {
  const config = configFile === undefined ? undefined : loadNodeConfig(configFile)
  return schemaSql(dialect, configuredAccounts(config, options))
}

function configuredAccounts(config: LoadedNodeConfig | undefined, options: InitOptions): Accounts {
  const host = options.accountHost
  const account = (given: { user: string; passwordFile: string }): Account => ({
    user: given.user,
    host,
    password: readSecret(given.passwordFile),
  })
  return {
    node: { user: config?.databases.user ?? 'whitehole_node', host, password: config?.databases.password ?? '' },
    ...(options.application === undefined ? {} : { application: account(options.application) }),
    ...(options.monitor === undefined ? {} : { monitor: account(options.monitor) }),
    ...(options.replication === undefined ? {} : { replication: account(options.replication) }),
    ...(options.relay === undefined ? {} : { relay: account(options.relay) }),
  }
}

/** The database of the list that is writable. */
async function connectAsAdmin(config: LoadedNodeConfig, options: InitOptions): Promise<Connection> {
  const password = options.adminPasswordFile === undefined ? '' : readSecret(options.adminPasswordFile)
  const login = { user: options.adminUser, password, connectTimeout: connectTimeoutMilliseconds }
  if (options.adminSocket !== undefined) return createConnection({ ...login, socketPath: options.adminSocket })
  const failures: string[] = []
  for (const address of config.databases.addresses) {
    try {
      const connection = await createConnection({ ...login, host: address.host, port: address.port })
      if (await isWritable(connection)) return connection
      closeDatabaseConnection(connection)
      failures.push(`${formatAddress(address)} is read-only`)
    } catch (error) {
      failures.push(`${formatAddress(address)}: ${describeError(error)}`)
    }
  }
  throw new WhiteholeError(
    'database-away',
    `no database can be initialized as ${options.adminUser}: ${failures.join('; ')}`,
  )
}

async function isWritable(connection: Connection): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>('SELECT @@global.read_only AS readOnly')
  return Number(rows[0]?.['readOnly']) === 0
}

function readSecret(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new WhiteholeError('bad-configuration', `the password can't be read: ${(error as Error).message}`)
  }
}
