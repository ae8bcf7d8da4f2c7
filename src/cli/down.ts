import type { Command } from 'commander'
import { defaultSandboxFolder } from '../compose/open-cluster.ts'
import { takeDown } from '../compose/sandbox-control.ts'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { type CommonOptions, sandboxCommand } from './options.ts'
import { print, printJson } from './output.ts'

export function downCommand(finish: Finish): Command {
  return sandboxCommand('down', 'Stop the sandbox and leave nothing running; its folder with all data stays.').action(
    async (options: CommonOptions) => {
      const wasRunning = await takeDown(options.dir ?? defaultSandboxFolder)
      if (options.json === true) printJson({ stopped: wasRunning })
      else print(wasRunning ? 'The sandbox is down; its folder stays.' : 'The sandbox was not running.')
      finish(exitCode.done)
    },
  )
}
