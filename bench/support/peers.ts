import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newerMemcachedPath } from '../../test/support/databases.ts'
import { freePort, Program, until } from '../../test/support/processes.ts'

/** Something that speaks memcached (or Redis) in front of, or instead of, our memcached. */
export interface Peer {
  readonly name: string
  readonly port: number
}

/** Servers that ours is compared with: those that this machine has. All in a temporary folder, gone with `stop`. */
export class Peers {
  readonly #folder: string
  readonly #programs: Program[] = []
  /** Of those that are not there: what to install. */
  readonly missing: string[] = []

  private constructor(folder: string) {
    this.#folder = folder
  }

  static async make(): Promise<Peers> {
    return new Peers(await mkdtemp(join(tmpdir(), 'whitehole-peers-')))
  }

  /** memcached's own proxy (routelib), one thread as ours has one. */
  async builtInProxy(backend: number): Promise<Peer | undefined> {
    if (!existsSync(newerMemcachedPath)) return this.#lacks("memcached's own proxy (scripts/engines.sh)")
    const port = await freePort()
    const file = join(this.#folder, `proxy-${port}.lua`)
    await writeFile(
      file,
      `pools{ main = { backends = { "127.0.0.1:${backend}" } } }\nroutes{ default = route_direct{ child = "main" } }\n`,
    )
    const user = process.getuid?.() === 0 ? ['-u', 'root'] : []
    const options = ['-l', '127.0.0.1', '-p', String(port), '-U', '0', '-t', '1', '-c', '4096']
    return this.#run('built-in proxy', port, newerMemcachedPath, [
      ...options,
      ...user,
      '-o',
      `proxy_config=routelib,proxy_arg=${file}`,
    ])
  }

  async nutcracker(backend: number): Promise<Peer | undefined> {
    if (!onPath('nutcracker')) return this.#lacks('nutcracker (apt-get install nutcracker)')
    const [port, statistics] = [await freePort(), await freePort()]
    const file = join(this.#folder, `nutcracker-${port}.yml`)
    await writeFile(
      file,
      `p:\n  listen: 127.0.0.1:${port}\n  hash: fnv1a_64\n  distribution: ketama\n  servers:\n   - 127.0.0.1:${backend}:1\n`,
    )
    return this.#run('nutcracker', port, 'nutcracker', ['-c', file, '-a', '127.0.0.1', '-s', String(statistics)])
  }

  async haproxy(backend: number): Promise<Peer | undefined> {
    if (!onPath('haproxy')) return this.#lacks('HAProxy (apt-get install haproxy)')
    const port = await freePort()
    const file = join(this.#folder, `haproxy-${port}.cfg`)
    await writeFile(
      file,
      `global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n` +
        `listen memcached\n  bind 127.0.0.1:${port}\n  server one 127.0.0.1:${backend}\n`,
    )
    return this.#run('HAProxy', port, 'haproxy', ['-db', '-f', file])
  }

  /** Redis with `appendfsync always` and one replica of the same kind: what one would take to have sets as durable. */
  async redisPair(): Promise<Peer | undefined> {
    if (!onPath('redis-server')) return this.#lacks('Redis (apt-get install redis-server)')
    const [port, replica] = [await freePort(), await freePort()]
    await this.#redis(port, [])
    await this.#redis(replica, ['--replicaof', '127.0.0.1', String(port)])
    await until('the replica to be in step', async () =>
      execFileSync('redis-cli', ['-p', String(replica), 'info', 'replication'], { encoding: 'utf8' }).includes(
        'master_link_status:up',
      ),
    )
    return { name: 'Redis, appendfsync always, WAIT 1', port }
  }

  async stop(): Promise<void> {
    for (const program of this.#programs.toReversed()) await program.stop()
    await rm(this.#folder, { recursive: true, force: true })
  }

  async #redis(port: number, more: readonly string[]): Promise<Peer> {
    const folder = await mkdtemp(join(this.#folder, 'redis-'))
    const listening = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder]
    const durable = ['--appendonly', 'yes', '--appendfsync', 'always', '--save', '']
    return this.#run('Redis', port, 'redis-server', [...listening, ...durable, ...more])
  }

  async #run(name: string, port: number, command: string, args: readonly string[]): Promise<Peer> {
    const program = new Program(command, args)
    this.#programs.push(program)
    await until(`${name} to listen`, async () => {
      if (!program.running) throw new Error(`${name} ended: ${program.output}`)
      return accepts(port)
    })
    return { name, port }
  }

  #lacks(what: string): undefined {
    this.missing.push(what)
    return undefined
  }
}

function onPath(program: string): boolean {
  return [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin'].some((folder) => existsSync(join(folder, program)))
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' })
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
