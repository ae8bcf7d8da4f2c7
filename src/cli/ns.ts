import type { Command } from 'commander'
import { NamespaceAccess, type NamespaceSetting, namespaceSettings } from '../compose/namespace-access.ts'
import { openCluster } from '../compose/open-cluster.ts'
import type { Finish } from './command-line.ts'
import { exitCode, UsageError } from './exit.ts'
import { clusterCommand, commandGroup, type CommonOptions, integer, requireNamespaceName } from './options.ts'
import { print, printJson, table } from './output.ts'

export function namespaceCommand(finish: Finish): Command {
  const group = commandGroup('ns', 'Namespaces: list, create, show, set, flush, drop.')
  const commands = [listCommand, createCommand, showCommand, setCommand, flushCommand, dropCommand]
  for (const make of commands) group.addCommand(make(finish))
  return group
}

function listCommand(finish: Finish): Command {
  return clusterCommand('list', 'List all namespaces with their live keys.').action(async (options: CommonOptions) => {
    const namespaces = await use(options, (access) => access.list())
    if (options.json === true) printJson({ namespaces })
    else {
      const rows = namespaces.map(({ id, name, generation, keys }) => [name, `${id}`, `${generation}`, `${keys}`])
      print(table([['name', 'id', 'generation', 'keys'], ...rows]))
    }
    finish(exitCode.done)
  })
}

function createCommand(finish: Finish): Command {
  return named('create', 'Create a namespace.')
    .option('--id <number>', 'its id (default: the next free one from 1001)', integer(1, 2 ** 31 - 1))
    .action(async (name: string, options: CommonOptions & { id?: number }) => {
      requireNamespaceName(name)
      await use(options, (access) => access.create(name, options.id))
      await tell(name, options, 'created')
      finish(exitCode.done)
    })
}

function showCommand(finish: Finish): Command {
  return named('show', 'Show a namespace and its settings; 1 if there is none of that name.').action(
    async (name: string, options: CommonOptions) => {
      const details = await use(options, (access) => access.show(name))
      if (details === undefined) {
        if (options.json === true) printJson(null)
        else print(`There is no namespace "${name}".`)
        return finish(exitCode.no)
      }
      if (options.json === true) printJson(details)
      else {
        const { settings, ...rest } = details
        print(table(Object.entries({ ...rest, ...settings }).map(([key, value]) => [key, String(value)])))
      }
      finish(exitCode.done)
    },
  )
}

function setCommand(finish: Finish): Command {
  const keys = Object.keys(namespaceSettings).join(', ')
  return named('set', `Change settings of a namespace: ${keys}; 0 means none.`)
    .argument('<setting=number...>', 'for instance default-ttl=3600')
    .action(async (name: string, given: string[], options: CommonOptions) => {
      const settings = Object.fromEntries(given.map(parseSetting))
      await use(options, (access) => access.set(name, settings))
      await tell(name, options, 'changed')
      finish(exitCode.done)
    })
}

function flushCommand(finish: Finish): Command {
  return named('flush', 'Make every key of the namespace a miss, on every node, whatever their number.').action(
    async (name: string, options: CommonOptions) => {
      await use(options, (access) => access.flush(name))
      await tell(name, options, 'flushed')
      finish(exitCode.done)
    },
  )
}

function dropCommand(finish: Finish): Command {
  return named('drop', 'Remove the namespace with all its keys, on every node.').action(
    async (name: string, options: CommonOptions) => {
      await use(options, (access) => access.drop(name))
      if (options.json === true) printJson({ name, dropped: true })
      else print(`${name} is dropped.`)
      finish(exitCode.done)
    },
  )
}

async function tell(name: string, options: CommonOptions, what: string): Promise<void> {
  const details = await use(options, (access) => access.show(name))
  if (options.json === true) printJson(details)
  else
    print(`${name} is ${what}${details === undefined ? '' : ` (id ${details.id}, generation ${details.generation})`}.`)
}

function named(name: string, summary: string): Command {
  return clusterCommand(name, summary).argument('<name>', 'the namespace')
}

async function use<T>(options: CommonOptions, work: (access: NamespaceAccess) => Promise<T>): Promise<T> {
  const cluster = await openCluster(options)
  try {
    return await NamespaceAccess.use(cluster, work)
  } finally {
    cluster.close()
  }
}

function parseSetting(text: string): [NamespaceSetting, number] {
  const [key = '', value = ''] = text.split('=')
  if (!Object.hasOwn(namespaceSettings, key) || !/^\d{1,10}$/.test(value)) {
    throw new UsageError(
      `"${text}" is no setting: write one of ${Object.keys(namespaceSettings).join(', ')} with =number`,
    )
  }
  return [key as NamespaceSetting, Number(value)]
}
