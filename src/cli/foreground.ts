import { relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster } from '../compose/cluster.ts'
import type { ClusterStatus } from '../compose/cluster-status.ts'
import { askNodes, type NodeLine } from '../compose/node-reports.ts'
import { defaultSandboxFolder } from '../compose/open-cluster.ts'
import { print } from './output.ts'
import { describeStatus } from './status.ts'

const refreshMilliseconds = 1000

/** What runs where, and what to try next. */
export function describeRunning(dir: string, status: ClusterStatus): string {
  const primary = status.databases.find(({ role }) => role === 'primary')
  const main = (index: number): string => status.nodes[index]?.listeners[0]?.address ?? ''
  const other = Math.min(1, status.nodes.length - 1)
  const command = ownName()
  const where = relative(process.cwd(), dir) === relative('.', defaultSandboxFolder) ? '' : ` --dir ${shortest(dir)}`
  const memcached = status.nodes[other]?.memcached.address ?? ''
  return `
${describeStatus(status)}

Try, in another terminal:
  ${command} set${where} default hello world
  memccat --servers=${main(other)} hello                  # read through ${status.nodes[other]?.name ?? ''}
  memccat --servers=${memcached} default:hello          # as its memcached holds it
  mariadb --socket=${primary?.socket ?? ''} -u root memcached \\
    -e "CALL set_key(ns('default'), 'greeting', 'hello from SQL', 0)"
  ${command} ns flush${where} default                      # every key of it is a miss at once, on every node
  ${command} sandbox kill${where} db2                      # and see what happens; then: sandbox start db2
  ${command} verify${where}                                # every node against the directory
Ctrl-C ends it; the data stays for the next start.
`
}

/** A line per node, until the signal: redrawn on a terminal, elsewhere printed when something changes. */
export async function showNodes(cluster: Cluster, options: { json: boolean; signal: AbortSignal }): Promise<void> {
  const redraw = process.stdout.isTTY && !options.json
  const told = new Map<string, string>()
  let drawn = 0
  while (!options.signal.aborted) {
    const lines = await askNodes(cluster)
    if (options.signal.aborted) return
    if (redraw) {
      process.stdout.write(
        `${drawn > 0 ? `\u001b[${drawn}A` : ''}${lines.map((line) => `\u001b[2K${describeLine(line)}\n`).join('')}`,
      )
      drawn = lines.length
    } else {
      for (const line of lines) tellChange(line, told, options.json)
    }
    await sleep(refreshMilliseconds, undefined, { signal: options.signal }).catch(() => {})
  }
}

function tellChange(line: NodeLine, told: Map<string, string>, json: boolean): void {
  const now = `${line.state} ${line.failure ?? ''}`
  if (told.get(line.name) === now) return
  told.set(line.name, now)
  print(json ? JSON.stringify(line) : describeLine(line))
}

function describeLine({ name, state, position, lagSeconds, failure }: NodeLine): string {
  const parts = [name, state]
  if (lagSeconds !== null) parts.push(`lag ${lagSeconds.toFixed(1)} s`)
  if (position !== null) parts.push(`at ${position}`)
  if (failure !== null) parts.push(failure)
  return parts.join('  ')
}

/** As the reader would type it. */
function ownName(): string {
  const script = process.argv[1] ?? 'whitehole'
  const near = relative(process.cwd(), script)
  return near.startsWith('..') ? script : `./${near}`
}

function shortest(path: string): string {
  const near = relative(process.cwd(), path)
  return near === '' || near.length > path.length ? path : near
}
