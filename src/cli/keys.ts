import { buffer } from 'node:stream/consumers'
import type { Command } from 'commander'
import { type KeyAccess, withKeyAccess } from '../compose/key-access.ts'
import { openCluster } from '../compose/open-cluster.ts'
import type { Finish } from './command-line.ts'
import { exitCode, UsageError } from './exit.ts'
import { clusterCommand, type CommonOptions, integer, requireNamespaceName } from './options.ts'
import { print, printJson, say } from './output.ts'

export function getCommand(finish: Finish): Command {
  return keyCommand('get', 'Print the value of a key; 1 for a miss.').action(
    async (namespace: string, key: string, options: CommonOptions) => {
      const item = await use(options, { namespace, key }, (access) => access.get(key))
      if (options.json === true) {
        const found = item === undefined ? {} : { flags: Number(item.flags), ...jsonValue(item.value) }
        printJson({ namespace, key, found: item !== undefined, ...found })
      } else if (item !== undefined) {
        print(item.value)
        if (process.stdout.isTTY) print('')
      } else say(`${key} is not there`)
      finish(item === undefined ? exitCode.no : exitCode.done)
    },
  )
}

export function setCommand(finish: Finish): Command {
  return keyCommand('set', 'Store a value under a key, on every node.')
    .argument('<value>', 'the value; - reads it from stdin')
    .option('--ttl <seconds>', 'expires after so many seconds (default: never)', integer(0, 2 ** 31 - 1), 0)
    .option('--flags <number>', 'the client flags to store', integer(0, 2 ** 32 - 1), 0)
    .action(
      async (namespace: string, key: string, text: string, options: CommonOptions & { ttl: number; flags: number }) => {
        const value = text === '-' ? await buffer(process.stdin) : Buffer.from(text, 'utf8')
        const item = { value, flags: String(options.flags), exptime: exptimeOf(options.ttl) }
        await use(options, { namespace, key }, (access) => access.set(key, item))
        if (options.json === true) printJson({ namespace, key, stored: true })
        finish(exitCode.done)
      },
    )
}

export function deleteCommand(finish: Finish): Command {
  return keyCommand('delete', 'Delete a key on every node; also 0 where there was none.').action(
    async (namespace: string, key: string, options: CommonOptions) => {
      const deleted = await use(options, { namespace, key }, (access) => access.delete(key))
      if (options.json === true) printJson({ namespace, key, deleted })
      else print(deleted ? 'deleted' : 'there was nothing to delete')
      finish(exitCode.done)
    },
  )
}

function keyCommand(name: string, summary: string): Command {
  return clusterCommand(name, summary).argument('<ns>', 'the namespace').argument('<key>', 'the key')
}

async function use<T>(
  options: CommonOptions,
  { namespace, key }: { namespace: string; key: string },
  work: (access: KeyAccess) => Promise<T>,
): Promise<T> {
  requireNamespaceName(namespace)
  const bytes = Buffer.byteLength(key)
  // eslint-disable-next-line no-control-regex
  if (bytes < 1 || bytes > 250 || /[\0-\x20\x7f]/.test(key)) {
    throw new UsageError('a key has 1 to 250 bytes, without spaces and control characters')
  }
  const cluster = await openCluster(options)
  try {
    return await withKeyAccess(cluster, namespace, work)
  } finally {
    cluster.close()
  }
}

/** memcached takes seconds beyond 30 days for an absolute time. */
function exptimeOf(ttlSeconds: number): number {
  const thirtyDays = 60 * 60 * 24 * 30
  return ttlSeconds <= thirtyDays ? ttlSeconds : Math.floor(Date.now() / 1000) + ttlSeconds
}

function jsonValue(value: Buffer): { value: string; encoding: 'utf8' | 'base64' } {
  const text = value.toString('utf8')
  return Buffer.from(text, 'utf8').equals(value)
    ? { value: text, encoding: 'utf8' }
    : { value: value.toString('base64'), encoding: 'base64' }
}
