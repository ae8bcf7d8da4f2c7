import type { Command } from 'commander'
import { defaultSandboxFolder } from '../compose/open-cluster.ts'
import { controlProcess } from '../compose/sandbox-control.ts'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { commandGroup, type CommonOptions, integer, sandboxCommand } from './options.ts'
import { print, printJson } from './output.ts'

const actions = [
  ['stop', 'Stop one process in an orderly way; it stays down until it is started.'],
  ['start', 'Start one process again, and wait until it answers.'],
  ['kill', 'Kill one process (SIGKILL), as a crash would; it stays down until it is started.'],
  ['restart', 'Kill one process and start it again: a database in the role that is recorded for it.'],
  ['rebuild', 'Throw away what a database of a pair has, and fill it from the other one.'],
] as const

export function sandboxCommands(finish: Finish): Command {
  const group = commandGroup(
    'sandbox',
    'Stop, start, kill or restart one process of a running sandbox: db1, memcached2, node1, monitor …',
  )
  for (const [action, summary] of actions) {
    const one = sandboxCommand(action, summary)
      .argument('<name>', 'the process, as "whitehole status" names it')
      .action(async (name: string, options: CommonOptions) => {
        const process = await controlProcess(options.dir ?? defaultSandboxFolder, { command: action, name })
        const { state, pid } = process
        if (options.json === true) printJson({ name, state, pid })
        else print(pid === null ? `${name} is ${state}` : `${name} is ${state} (pid ${pid})`)
        finish(exitCode.done)
      })
    group.addCommand(one)
  }
  group.addCommand(linkCommand(), { hidden: true })
  return group
}

/** A process of a sandbox with two data centres; nobody else's. */
function linkCommand(): Command {
  return sandboxCommand('link', 'Carry what crosses from one data centre of a sandbox to the other.')
    .argument('<routes...>', 'port:port, from where to where')
    .requiredOption('--delay <milliseconds>', 'each way', integer(0, 10_000))
    .action(async (routes: readonly string[], { delay }: { delay: number }) => {
      const { runLink } = await import('../compose/sandbox-link.ts')
      await runLink(routes, delay)
    })
}
