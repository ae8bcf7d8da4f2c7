import { once } from 'node:events'
import { type Command, Option } from 'commander'
import { type Change, tailChanges } from '../compose/tail.ts'
import { createLogger } from '../runtime/logger.ts'
import type { Finish } from './command-line.ts'
import { exitCode } from './exit.ts'
import { clusterCommand, type CommonOptions, integer, requireNamespaceName } from './options.ts'
import { say } from './output.ts'

interface GivenOptions extends CommonOptions {
  readonly namespace?: string
  readonly from: string
  readonly values?: boolean
  readonly count?: number
}

export function tailCommand(finish: Finish): Command {
  return clusterCommand(
    'tail',
    'Show the changes of the cache as they are committed, until Ctrl-C; with --json a line each.',
  )
    .option('--namespace <ns>', 'of this namespace alone')
    .addOption(
      new Option(
        '--from <position>',
        '`now`, `oldest` (all that the database still has), or the "resume" of a former change',
      ).default('now'),
    )
    .option('--values', 'show the values too')
    .option('--count <number>', 'end after so many changes', integer(1, Number.MAX_SAFE_INTEGER))
    .action(async (given: GivenOptions) => {
      if (given.namespace !== undefined) requireNamespaceName(given.namespace)
      await tail(given)
      finish(exitCode.done)
    })
}

async function tail(given: GivenOptions): Promise<void> {
  const abort = new AbortController()
  const stop = (): void => abort.abort()
  process.on('SIGINT', stop).on('SIGTERM', stop)
  // Whoever reads has gone: `whitehole tail | head`.
  process.stdout.once('error', stop)
  let left = given.count ?? Infinity
  let resume: string | undefined
  try {
    const stream = tailChanges(given, {
      namespace: given.namespace,
      from: given.from,
      values: given.values === true,
      signal: abort.signal,
      logger: createLogger({ level: given.verbose === true ? 'info' : 'warn', name: 'tail' }),
    })
    for await (const changes of stream) {
      const wanted = changes.slice(0, left)
      left -= wanted.length
      resume = wanted.at(-1)?.resume ?? resume
      await write(
        wanted.map((change) => `${given.json === true ? JSON.stringify(change) : line(change)}\n`).join(''),
        abort.signal,
      )
      if (left <= 0) break
    }
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
    if (given.json !== true && resume !== undefined) say(`To go on from here: --from ${resume}`)
  }
}

/** Waits while the reader is slow: then the log waits in the database, and not here. */
async function write(text: string, signal: AbortSignal): Promise<void> {
  if (process.stdout.write(text) || signal.aborted) return
  await once(process.stdout, 'drain', { signal }).catch(() => {})
}

function line(change: Change): string {
  const { at, gtid, namespace, kind, key, bytes, flags, expiry, version, generation, value } = change
  const parts = [
    at.replace('.000Z', 'Z'),
    gtid,
    kind.padEnd(7),
    key === undefined ? namespace : `${namespace}:${JSON.stringify(key).slice(1, -1)}`,
    bytes === undefined ? '' : `${bytes} bytes`,
    flags === undefined || flags === 0 ? '' : `flags ${flags}`,
    expiry === undefined || expiry === 0 ? '' : `until ${new Date(expiry * 1000).toISOString().replace('.000Z', 'Z')}`,
    version === undefined ? '' : `version ${version}`,
    generation === undefined ? '' : `generation ${generation}`,
    value === undefined ? '' : JSON.stringify(value),
  ]
  return parts.filter((part) => part !== '').join('  ')
}
