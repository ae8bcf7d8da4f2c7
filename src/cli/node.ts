import { Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import { command } from './options.ts'
import { print, printJson } from './output.ts'

export function nodeCommand(finish: Finish): Command {
  const node = command(
    'node',
    'Run a node: it serves clients, writes through SQL and fills its memcached from the log.',
  )
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
  node.addCommand(drainCommand('drain', true, finish)).addCommand(drainCommand('undrain', false, finish))
  return node
}

function drainCommand(name: string, drained: boolean, finish: Finish): Command {
  const summary = drained
    ? "Take this machine's node out of service: /readyz says 503, its clients are served on; it lasts until undrain."
    : "Let this machine's node take clients again."
  return new Command(name).description(summary).action(async (_: object, own: Command) => {
    const { config, json } = own.optsWithGlobals<{ config: string; json?: boolean }>()
    const [{ loadNodeConfig }, { changeDrain }] = await Promise.all([
      import('../config/load.ts'),
      import('../compose/drain.ts'),
    ])
    const state = await changeDrain(loadNodeConfig(config), drained)
    if (json === true) printJson({ drained, state: state ?? null })
    else
      print(state === undefined ? `the node does not run; it will start ${drained ? 'drained' : 'in service'}` : state)
    finish(exitCode.done)
  })
}
