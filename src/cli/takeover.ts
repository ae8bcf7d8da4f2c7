import { type Command, Option } from 'commander'
import type { Finish } from './command-line.ts'
import { exitCode, UsageError } from './exit.ts'
import { command, type CommonOptions } from './options.ts'
import { print, printJson, say } from './output.ts'

interface ChangeOptions extends CommonOptions {
  readonly to?: string
  readonly force?: boolean
}

export function switchoverCommand(finish: Finish): Command {
  return changeCommand('switchover', 'Move the primary to the standby, as planned, without losing or refusing a write.')
    .addHelpText(
      'after',
      '\nExit codes: 0 done; 1 refused (the standby does not work, or did not catch up: nothing has changed); 2 no monitor could be asked.',
    )
    .action(async (options: ChangeOptions) => change('switchover', options, finish))
}

export function takeoverCommand(finish: Finish): Command {
  return changeCommand(
    'takeover',
    'Make another database the primary where the monitors may not: acknowledged writes may be lost.',
  )
    .addOption(new Option('--force', 'yes: what the former primary alone has is given up'))
    .addHelpText(
      'after',
      '\nOnly for what "whitehole status" says that a person must decide (docs/TAKEOVER.md). Exit codes: 0 done; 1 refused; 2 no monitor could be asked.',
    )
    .action(async (options: ChangeOptions) => {
      if (options.force !== true) {
        throw new UsageError('a takeover by hand may lose acknowledged writes: say --force if that is accepted')
      }
      await change('takeover', options, finish)
    })
}

function changeCommand(name: string, summary: string): Command {
  return command(name, summary)
    .addOption(
      new Option('--dir <folder>', "the sandbox's folder (default: ./.whitehole)").conflicts(['config', 'url']),
    )
    .addOption(new Option('--config <file>', "a monitor's configuration").conflicts(['dir', 'url']))
    .addOption(
      new Option('--url <url>', "a monitor's HTTP address; the token is taken from WHITEHOLE_TOKEN").conflicts([
        'dir',
        'config',
      ]),
    )
    .addOption(new Option('--to <name>', 'the database that shall be the primary (default: the standby)'))
}

async function change(kind: 'switchover' | 'takeover', options: ChangeOptions, finish: Finish): Promise<void> {
  const { changePrimary } = await import('../compose/change-primary.ts')
  const outcome = await changePrimary(kind, {
    address: options,
    ...(options.to === undefined ? {} : { to: options.to }),
  })
  if (options.json === true) printJson(outcome)
  else if (outcome.ok) print(outcome.text)
  else say(`whitehole: ${outcome.text}`)
  finish(outcome.ok ? exitCode.done : exitCode.no)
}
