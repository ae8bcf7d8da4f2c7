import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createConnection, type Connection } from 'mysql2/promise'

const run = promisify(execFile)

/** A whole sandbox of its own, on a free range of ports, for one question. */
export class BenchSandbox {
  readonly folder: string
  readonly base: number

  private constructor(folder: string, base: number) {
    this.folder = folder
    this.base = base
  }

  static async start(options: readonly string[] = []): Promise<BenchSandbox> {
    const folder = join(await mkdtemp(join(tmpdir(), 'whitehole-bench-')), 'sandbox')
    const sandbox = new BenchSandbox(folder, await freeBase())
    await sandbox.whitehole('up', '--detach', '--base-port', String(sandbox.base), ...options)
    return sandbox
  }

  /** Listener of node `n`, bound to namespace `default`. */
  node(n: number): number {
    return this.base + 10 + n
  }

  /** Listener of node `n` that takes the namespace from the key. */
  prefixed(n: number): number {
    return this.base + 60 + n
  }

  memcached(n: number): number {
    return this.base + 30 + n
  }

  http(n: number): string {
    return `http://127.0.0.1:${this.base + 20 + n}`
  }

  async whitehole(...args: string[]): Promise<string> {
    const { stdout } = await run('./bin/whitehole', [...args, '--dir', this.folder], { maxBuffer: 64 << 20 })
    return stdout
  }

  async status(): Promise<{
    ready: boolean
    databases: { name: string; socket: string; role: string }[]
    nodes: { name: string; pid: number; state: string; memcached: { pid: number } }[]
  }> {
    const { stdout } = await run('./bin/whitehole', ['status', '--json', '--dir', this.folder]).catch(
      (error: unknown) => error as { stdout: string },
    )
    return JSON.parse(stdout) as Awaited<ReturnType<BenchSandbox['status']>>
  }

  /** As root, on the primary. */
  async primary(): Promise<Connection> {
    const { databases } = await this.status()
    const primary = databases.find(({ role }) => role === 'primary')
    if (primary === undefined) throw new Error('the sandbox has no primary')
    return createConnection({
      socketPath: primary.socket,
      user: 'root',
      database: 'memcached',
      multipleStatements: true,
    })
  }

  async memoryMiB(pid: number): Promise<number> {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
  }

  /** Of these processes together, since they began: what others do on this machine is hardly in it. */
  async processorSeconds(pids: readonly number[]): Promise<number> {
    let sum = 0
    for (const pid of pids) {
      const fields = (await readFile(`/proc/${pid}/stat`, 'latin1')).replace(/^.*\) /, '').split(' ')
      // utime and stime, in hundredths.
      sum += (Number(fields[11]) + Number(fields[12])) / 100
    }
    return sum
  }

  async remove(): Promise<void> {
    await this.whitehole('down').catch(() => '')
    await rm(join(this.folder, '..'), { recursive: true, force: true })
  }
}

/** Ports of a sandbox lie within 100 from its base; nothing else of a bench uses the ranges that this gives. */
/** Below the ports that the kernel gives to outgoing connections: one of those may be taken between the look and the start. */
async function freeBase(): Promise<number> {
  for (let base = 20_000 + (process.pid % 30) * 200; base < 32_600; base += 200) {
    const free = await Promise.all(Array.from({ length: 80 }, (_, offset) => isFree(base + offset)))
    if (free.every(Boolean)) return base
  }
  throw new Error('no free range of ports')
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
    return (server.address() as AddressInfo).port === port
  } catch {
    return false
  } finally {
    server.close()
  }
}
