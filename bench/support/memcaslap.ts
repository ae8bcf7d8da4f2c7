import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface SlapOptions {
  readonly port: number
  readonly connections: number
  /** So many of them are busy at a time; default: all. It stores 1,024 keys for each beforehand. */
  readonly busy?: number
  readonly seconds: number
  readonly valueBytes: number
  /** Share of gets; the rest are sets. */
  readonly gets: number
  /** Keys of one multi-get. */
  readonly keysPerGet?: number
}

/**
 * memcaslap of libmemcached-tools, one thread: written in C, it is not what limits a node. Its TPS counts what it stores beforehand, so
 * the operations are taken by kind, over the run time, which begins behind that.
 */
export async function memcaslap(options: SlapOptions): Promise<{ gets: number; sets: number }> {
  const { port, connections, busy = connections, seconds, valueBytes, gets, keysPerGet } = options
  const folder = await mkdtemp(join(tmpdir(), 'whitehole-bench-'))
  try {
    const file = join(folder, 'load')
    await writeFile(file, `key\n16 16 1\nvalue\n${valueBytes} ${valueBytes} 1\ncmd\n0 ${1 - gets}\n1 ${gets}\n`)
    const args = ['-s', `127.0.0.1:${port}`, '-T', '1', '-t', `${seconds}s`, '-F', file, '-w', '1k']
    args.push('-c', String(busy), '-n', String(connections / busy))
    if (keysPerGet !== undefined) args.push('-d', String(keysPerGet))
    const { stdout } = await run('memcaslap', args)
    const count = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(stdout)?.[1] ?? 0)
    const took = Number(/Run time: ([\d.]+)s/.exec(stdout)?.[1] ?? seconds)
    return { gets: count('cmd_get') / took, sets: count('cmd_set') / took }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
