import { Argument, type Command, Option } from 'commander'
import { renderCluster, type RenderTarget, renderTargets, writeRendered } from '../compose/render.ts'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { command, type CommonOptions } from './options.ts'
import { print, printJson } from './output.ts'

interface GivenOptions extends CommonOptions {
  readonly cluster: string
  readonly machine?: string
  readonly out?: string
}

export function renderCommand(finish: Finish): Command {
  return command('render', 'Write the configuration of existing tools for the machines of a cluster file.')
    .addArgument(new Argument('<what>', 'for which tool').choices(renderTargets))
    .addOption(
      new Option('--cluster <file>', 'the machines; docs/CONFIGURATION.md lists every key').default(
        '/etc/whitehole/cluster.yaml',
      ),
    )
    .option('--machine <name>', 'the files of this machine alone')
    .option(
      '--out <folder>',
      'write them below this folder ("/" with --machine: in place); without it they are printed',
    )
    .action((what: RenderTarget, given: GivenOptions) => {
      const all = renderCluster({ target: what, clusterFile: given.cluster, machine: given.machine })
      if (given.out !== undefined) {
        const written = writeRendered(given.out, all, given.machine !== undefined)
        if (given.json === true) printJson({ written })
        else for (const path of written) print(path)
      } else if (given.json === true) {
        printJson(all)
      } else {
        print(asText(all))
      }
      finish(exitCode.done)
    })
}

/** One file alone as it is, so that it can be redirected; several each below its path. */
function asText(all: ReturnType<typeof renderCluster>): string {
  const files = all.flatMap(({ machine, files: own }) => own.map((file) => ({ ...file, machine })))
  const [only] = files
  if (files.length === 1 && only !== undefined) return only.text.trimEnd()
  return files
    .map(({ machine, path, text }) => `### ${machine === null ? '' : `${machine}:`}${path}\n${text}`)
    .join('\n')
    .trimEnd()
}
