import { type Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { command } from './options.ts'

export function monitorCommand(finish: Finish): Command {
  return command(
    'monitor',
    'Run a monitor: it watches the databases of a pair and decides, with the other voters, who is primary.',
  )
    .addOption(
      new Option('--config <file>', 'its configuration; docs/CONFIGURATION.md lists every key').makeOptionMandatory(),
    )
    .option('--check', 'only check the configuration: 2 if it is wrong')
    .addHelpText(
      'after',
      '\nIt runs until SIGTERM or SIGINT, and logs JSON lines on stderr. docs/TAKEOVER.md says what it does.',
    )
    .action(async (options: { config: string; check?: boolean }) => {
      const [{ loadMonitorConfig }, { runMonitor }] = await Promise.all([
        import('../config/load.ts'),
        import('../compose/monitor.ts'),
      ])
      const config = loadMonitorConfig(options.config)
      if (options.check !== true) await runMonitor(config)
      finish(exitCode.done)
    })
}
