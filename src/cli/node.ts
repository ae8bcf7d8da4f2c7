import { type Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { command } from './options.ts'

export function nodeCommand(finish: Finish): Command {
  return command('node', 'Run a node: it serves clients, writes through SQL and fills its memcached from the log.')
    .addOption(
      new Option('--config <file>', 'its configuration; docs/CONFIGURATION.md lists every key').makeOptionMandatory(),
    )
    .addHelpText('after', '\nIt runs until SIGTERM or SIGINT, and logs JSON lines on stderr.')
    .action(async (options: { config: string }) => {
      // Loaded for this command alone: it is most of the program.
      const [{ loadNodeConfig }, { runNode }] = await Promise.all([
        import('../config/load.ts'),
        import('../compose/node.ts'),
      ])
      await runNode(loadNodeConfig(options.config))
      finish(exitCode.done)
    })
}
