import { accessSync, constants } from 'node:fs'
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { openCluster, defaultSandboxFolder } from '../compose/open-cluster.ts'
import { describeError } from '../domain/errors.ts'
import { composeSandbox, type SandboxWishes } from '../compose/sandbox.ts'
import type { Finish } from './command-line.ts'
import { startDetached, tellParent } from './detach.ts'
import { exitCode, UsageError } from './exit.ts'
import { describeRunning, showNodes } from './foreground.ts'
import { type CommonOptions, integer, sandboxCommand } from './options.ts'
import { print, printJson, say } from './output.ts'
import { describeStatus } from './status.ts'

interface UpOptions extends CommonOptions {
  readonly basePort?: number
  readonly nodes?: number
  readonly topology?: 'pair' | 'single' | 'galera'
  readonly dc?: number
  readonly linkDelay?: number
  readonly engine?: string
  readonly memory?: number
  readonly detach?: boolean
  readonly detachedChild?: boolean
}

export function upCommand(finish: Finish): Command {
  return sandboxCommand('up', 'Run a whole topology on this machine: databases, memcacheds, nodes. Ctrl-C ends it.')
    .option('--base-port <port>', 'first of its ports (default: 22100)', integer(1024, 65_400))
    .option('--nodes <number>', 'nodes, with a memcached each (default: 2)', integer(1, 9))
    .addOption(
      new Option('--topology <name>', 'pair: primary and standby; single: one database (default: pair)').choices([
        'pair',
        'single',
        'galera',
      ]),
    )
    .option(
      '--dc <number>',
      'data centres; with 2 the second one has as many nodes and a relay (default: 1)',
      integer(1, 2),
    )
    .option('--link-delay <milliseconds>', 'between the data centres, each way (default: 0)', integer(0, 10_000))
    .option('--engine <name>', 'mariadb, or mysql:<path of mysqld> (8.4 or later; default: mariadb)')
    .option('--memory <MiB>', 'of each memcached (default: 64)', integer(8, 1_000_000))
    .option('--detach', 'return when all is ready, and leave it running')
    .addOption(new Option('--detached-child').hideHelp())
    .addHelpText(
      'after',
      '\nAn existing folder is resumed, with its data and its settings. "whitehole down" ends a detached one.',
    )
    .action(async (options: UpOptions) => {
      const wishes = wishesOf(options)
      const dir = resolve(options.dir ?? defaultSandboxFolder)
      if (options.detach === true) await detached(dir, options)
      else await attached(dir, wishes, options)
      finish(exitCode.done)
    })
}

/** @throws UsageError for what is not there yet */
function wishesOf(options: UpOptions): SandboxWishes {
  if (options.topology === 'galera') throw new UsageError('--topology galera is not there yet: use pair or single')
  const { basePort, nodes, topology, memory } = options
  return {
    ...(basePort === undefined ? {} : { basePort }),
    ...(nodes === undefined ? {} : { nodes }),
    ...(topology === undefined ? {} : { topology }),
    ...(options.engine === undefined ? {} : { engine: engineOf(options.engine) }),
    ...(options.dc === undefined ? {} : { datacenters: options.dc }),
    ...(options.linkDelay === undefined ? {} : { linkDelayMilliseconds: options.linkDelay }),
    ...(memory === undefined ? {} : { memoryMebibytes: memory }),
  }
}

/** @throws UsageError for what is none */
function engineOf(text: string): string {
  const path = /^mysql:(.+)$/.exec(text)?.[1]
  if (text === 'mariadb') return text
  if (path === undefined) throw new UsageError(`"${text}" is no engine: mariadb, or mysql:<path of mysqld>`)
  const mysqld = resolve(path)
  try {
    accessSync(mysqld, constants.X_OK)
  } catch {
    throw new UsageError(`${mysqld} can't be run: --engine mysql:<path> names the server program, mysqld`)
  }
  return `mysql:${mysqld}`
}

async function detached(dir: string, options: UpOptions): Promise<void> {
  await startDetached(dir, (text) => options.json !== true && say(text))
  const cluster = await openCluster({ dir })
  try {
    const status = await cluster.status()
    if (options.json === true) printJson(status)
    else print(`${describeStatus(status)}\n\nIt runs in the background: "whitehole down --dir ${dir}" ends it.`)
  } finally {
    cluster.close()
  }
}

/** A second Ctrl-C is npm's copy of the first one if it comes at once; later it is meant. */
const impatienceMilliseconds = 2000

async function attached(dir: string, wishes: SandboxWishes, options: UpOptions): Promise<void> {
  const parent = options.detachedChild === true ? tellParent() : undefined
  try {
    await run(dir, { wishes, options, parent })
  } catch (error) {
    await parent?.failed(describeError(error))
    throw error
  }
}

async function run(
  dir: string,
  {
    wishes,
    options,
    parent,
  }: { wishes: SandboxWishes; options: UpOptions; parent: ReturnType<typeof tellParent> | undefined },
): Promise<void> {
  const sandbox = composeSandbox(dir, wishes, (text) => {
    say(`${new Date().toISOString()} ${text}`)
    parent?.report(text)
  })
  const ending = new AbortController()
  const end = (): void => ending.abort()
  let first: number | undefined
  const onSignal = (): void => {
    if (first !== undefined && performance.now() - first > impatienceMilliseconds) {
      say('killing everything at once')
      void sandbox.kill()
    }
    first ??= performance.now()
    end()
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal)
  sandbox.downAsked.addEventListener('abort', end)
  ending.signal.addEventListener('abort', () => sandbox.abort())
  parent?.lost.addEventListener('abort', end)
  try {
    await sandbox.start()
    parent?.ready()
    if (options.detachedChild !== true) await serve(dir, options, ending.signal)
    else await aborted(ending.signal)
  } finally {
    if (ending.signal.aborted) say('stopping: nodes, memcacheds, standby, primary')
    await sandbox.stop()
  }
}

async function serve(dir: string, options: UpOptions, signal: AbortSignal): Promise<void> {
  const cluster = await openCluster({ dir })
  try {
    const status = await cluster.status()
    if (options.json === true) printJson(status)
    else print(describeRunning(dir, status))
    await showNodes(cluster, { json: options.json === true, signal })
  } finally {
    cluster.close()
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((done) => signal.addEventListener('abort', () => done(), { once: true }))
}
