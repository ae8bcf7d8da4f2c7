import { Command, InvalidArgumentError, Option } from 'commander'
import { type ClusterAddress, defaultSandboxFolder } from '../compose/open-cluster.ts'
import { UsageError } from './exit.ts'

/** What every command takes. */
export interface CommonOptions extends ClusterAddress {
  readonly json?: boolean
  readonly verbose?: boolean
}

export function command(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .addOption(new Option('--json', 'print one JSON document, for scripts'))
    .addOption(new Option('--verbose', 'print the stack of an error').env('WHITEHOLE_VERBOSE'))
}

/** Only a name for its commands: an option of its own would take theirs away. */
export function commandGroup(name: string, summary: string): Command {
  return new Command(name).description(summary)
}

/** A command for a running cluster, which it finds by one of three options. */
export function clusterCommand(name: string, summary: string): Command {
  return command(name, summary)
    .addOption(dirOption().conflicts(['config', 'url']))
    .addOption(new Option('--config <file>', "a node's configuration").conflicts(['dir', 'url']))
    .addOption(new Option('--url <url>', "a node's HTTP address").conflicts(['dir', 'config']))
}

export function sandboxCommand(name: string, summary: string): Command {
  return command(name, summary).addOption(dirOption())
}

function dirOption(): Option {
  return new Option('--dir <folder>', `the sandbox's folder (default: ${defaultSandboxFolder})`)
}

export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d{1,15}$/.test(text) ? Number(text) : NaN
    if (value >= least && value <= most) return value
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
  }
}

/** @throws UsageError for a name that no namespace has */
export function requireNamespaceName(name: string): void {
  if (/^[A-Za-z0-9_.-]{1,64}$/.test(name)) return
  throw new UsageError(`"${name}" is no name of a namespace: 1 to 64 characters of A-Z a-z 0-9 _ . -`)
}
