import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { describeError } from '../domain/errors.ts'
import { doctorCommand } from './doctor.ts'
import { downCommand } from './down.ts'
import { type ExitCode, exitCode, UsageError } from './exit.ts'
import { initCommand } from './init.ts'
import { deleteCommand, getCommand, setCommand } from './keys.ts'
import { monitorCommand } from './monitor.ts'
import { nodeCommand } from './node.ts'
import { namespaceCommand } from './ns.ts'
import { say } from './output.ts'
import { renderCommand } from './render.ts'
import { roleCommand } from './role.ts'
import { sandboxCommands } from './sandbox.ts'
import { statusCommand } from './status.ts'
import { switchoverCommand, takeoverCommand } from './takeover.ts'
import { tailCommand } from './tail.ts'
import { upCommand } from './up.ts'
import { verifyCommand } from './verify.ts'

/** What a command hands back once it is done. */
export type Finish = (code: ExitCode) => void

/** @returns the exit code; whatever went wrong is told on stderr in one line */
export async function runCommandLine(args: readonly string[]): Promise<ExitCode> {
  let code: ExitCode = exitCode.done
  const program = buildProgram((result) => (code = result))
  quietBrokenPipe()
  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.done : exitCode.usage
    const verbose = args.includes('--verbose') || process.env['WHITEHOLE_VERBOSE'] !== undefined
    say(`whitehole: ${verbose && error instanceof Error ? (error.stack ?? error.message) : describeError(error)}`)
    if (error instanceof UsageError) say('See --help.')
    return error instanceof UsageError ? exitCode.usage : exitCode.failed
  }
}

function buildProgram(finish: Finish): Command {
  const program = new Command('whitehole')
    .description('A replicated, namespaced memcached on top of the MySQL or MariaDB that you already run.')
    .version(version(), '-V, --version', 'print the version')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', help)
    .showHelpAfterError('See "whitehole --help".')
  const namespaces = namespaceCommand(finish)
  const commands = [
    upCommand(finish),
    downCommand(finish),
    statusCommand(finish),
    sandboxCommands(finish),
    nodeCommand(finish),
    monitorCommand(finish),
    switchoverCommand(finish),
    takeoverCommand(finish),
    roleCommand(finish),
    initCommand(finish),
    namespaces,
    getCommand(finish),
    setCommand(finish),
    deleteCommand(finish),
    verifyCommand(finish),
    tailCommand(finish),
    doctorCommand(finish),
    renderCommand(finish),
  ]
  for (const one of commands) program.addCommand(one)
  for (const one of [program, ...commands, ...commands.flatMap((parent) => parent.commands)]) {
    one.exitOverride().showSuggestionAfterError()
  }
  return program
}

const help = `
First steps:
  $ whitehole up                         a whole topology on this machine, in ./.whitehole; Ctrl-C ends it
  $ whitehole set default hello world    in another terminal
  $ whitehole get default hello
  $ whitehole status

A command finds its cluster by --dir (a sandbox; default ./.whitehole), --config (a node's configuration) or --url (a node).

Exit codes: 0 done; 1 the answer is no (a miss, a difference, not all is ready); 2 it could not be done; 64 wrong usage.`

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** `whitehole status | head -1` is no error. */
function quietBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.listenerCount('error') > 0) continue
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
}
