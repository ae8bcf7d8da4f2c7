import { type Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import { command } from './options.ts'

export function nodeCommand(finish: Finish): Command {
  return command('node', 'Run a node: it serves clients, writes through SQL and fills its memcached from the log.')
    .addOption(
      new Option('--config <file>', 'its configuration; docs/CONFIGURATION.md lists every key').makeOptionMandatory(),
    )
    .option('--check', 'only check the configuration: 2 if it is wrong')
    .addHelpText(
      'after',
      '\nIt runs until SIGTERM or SIGINT, and logs JSON lines on stderr. SIGHUP reads the file again: the log level and the password change.',
    )
    .action(async (options: { config: string; check?: boolean }) => {
      // Loaded for this command alone: it is most of the program.
      const [{ loadNodeConfig }, { runNode }] = await Promise.all([
        import('../config/load.ts'),
        import('../compose/node.ts'),
      ])
      const load = (): LoadedNodeConfig => loadNodeConfig(options.config)
      const config = load()
      if (options.check !== true) await runNode(config, load)
      finish(exitCode.done)
    })
}
