import { type Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { command, type CommonOptions } from './options.ts'
import { print, printJson } from './output.ts'

interface RoleOptions extends CommonOptions {
  readonly config: string
  readonly database: string
  readonly binlogIndex: string
}

export function roleCommand(finish: Finish): Command {
  return command(
    'role',
    'Tell with which options a database of a pair is to be started, by what the voters have recorded.',
  )
    .addOption(new Option('--config <file>', "a monitor's configuration").makeOptionMandatory())
    .addOption(new Option('--database <name>', 'as the configuration names it').makeOptionMandatory())
    .addOption(
      new Option('--binlog-index <file>', "where its log's files are listed").default('/var/lib/mysql/binlog.index'),
    )
    .addHelpText(
      'after',
      `
To be asked on the machine of the database, while that does not run. It prints nothing save for a former primary that has what its successor
lacks, and once: whoever starts with less is compared, and rebuilt where that is needed. For systemd, before MariaDB:
  ExecStartPre=/bin/sh -c 'echo ROLE=$(whitehole role --config /etc/whitehole/monitor.yaml --database db1) >/run/whitehole-role'
  EnvironmentFile=-/run/whitehole-role
  ExecStart=/usr/sbin/mariadbd $ROLE`,
    )
    .action(async (options: RoleOptions) => {
      const [{ loadMonitorConfig }, { askRoleArguments }] = await Promise.all([
        import('../config/load.ts'),
        import('../compose/recorded-role.ts'),
      ])
      const found = await askRoleArguments(loadMonitorConfig(options.config), options)
      if (options.json === true) printJson({ arguments: found })
      else print(found.join(' '))
      finish(exitCode.done)
    })
}
