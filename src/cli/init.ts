import { type Command, Option } from 'commander'
import { type InitOptions, initConfigured, initSandbox, initStandby, printableSchema } from '../compose/init.ts'
import { defaultSandboxFolder } from '../compose/open-cluster.ts'
import type { Finish } from './command-line.ts'
import { exitCode, UsageError } from './exit.ts'
import { command, type CommonOptions } from './options.ts'
import { print, printJson } from './output.ts'

interface GivenOptions extends CommonOptions {
  readonly print?: boolean
  readonly standby?: boolean
  readonly dialect: 'mariadb' | 'mysql'
  readonly adminUser: string
  readonly adminPasswordFile?: string
  readonly adminSocket?: string
  readonly accountHost: string
  readonly applicationUser: string
  readonly applicationPasswordFile?: string
  readonly monitorUser: string
  readonly monitorPasswordFile?: string
  readonly replicationUser: string
  readonly replicationPasswordFile?: string
  readonly relayUser: string
  readonly relayPasswordFile?: string
}

export function initCommand(finish: Finish): Command {
  return command('init', 'Create or migrate the schema, the users and their grants on the primary; safe to repeat.')
    .addOption(new Option('--config <file>', "a node's configuration: names the databases and the node's account"))
    .addOption(new Option('--dir <folder>', `a sandbox instead (default: ${defaultSandboxFolder})`).conflicts('config'))
    .option(
      '--standby',
      'on a new standby, before it replicates: make the accounts that it needs for that, and no schema',
    )
    .option('--print', 'run nothing, show the SQL')
    .addOption(new Option('--dialect <name>', 'of the SQL shown').choices(['mariadb', 'mysql']).default('mariadb'))
    .option('--admin-user <name>', 'who may create users and tables', 'root')
    .option('--admin-password-file <file>', 'a file with the password of that user')
    .option('--admin-socket <path>', "the primary's unix socket, in place of the addresses of the configuration")
    .option('--account-host <pattern>', 'from where the created accounts may log in', '%')
    .option('--application-user <name>', 'an account for SQL applications', 'whitehole_application')
    .option('--application-password-file <file>', 'its password; without it the account is not created')
    .option('--monitor-user <name>', 'an account for the monitor', 'whitehole_monitor')
    .option('--monitor-password-file <file>', 'its password; without it the account is not created')
    .option('--replication-user <name>', 'an account for the standby', 'whitehole_replication')
    .option('--replication-password-file <file>', 'its password; without it the account is not created')
    .option('--relay-user <name>', 'an account for relays in other data centres', 'whitehole_relay')
    .option('--relay-password-file <file>', 'its password; without it the account is not created')
    .action(async (given: GivenOptions) => {
      const options = initOptions(given)
      if (given.print === true) {
        if (given.json === true) throw new UsageError('--print shows SQL: it has no JSON form')
        print(printableSchema(given.dialect, given.config, options))
        return finish(exitCode.done)
      }
      if (given.standby === true) {
        await initStandby(options)
        if (given.json === true) printJson({ applied: [] })
        else print('The accounts are there.')
        return finish(exitCode.done)
      }
      const { applied } =
        given.config === undefined
          ? await initSandbox(given.dir ?? defaultSandboxFolder)
          : await initConfigured(given.config, options)
      if (given.json === true) printJson({ applied })
      else print(applied.length === 0 ? 'The schema is up to date.' : `Applied: ${applied.join(', ')}.`)
      finish(exitCode.done)
    })
}

function initOptions(given: GivenOptions): InitOptions {
  const { adminUser, adminPasswordFile, adminSocket, accountHost } = given
  const optional = (
    user: string,
    passwordFile: string | undefined,
  ): { user: string; passwordFile: string } | undefined =>
    passwordFile === undefined ? undefined : { user, passwordFile }
  return {
    adminUser,
    adminPasswordFile,
    adminSocket,
    accountHost,
    application: optional(given.applicationUser, given.applicationPasswordFile),
    monitor: optional(given.monitorUser, given.monitorPasswordFile),
    replication: optional(given.replicationUser, given.replicationPasswordFile),
    relay: optional(given.relayUser, given.relayPasswordFile),
  }
}
