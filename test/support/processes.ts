import { readdirSync, readFileSync } from 'node:fs'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A program under test's control. It dies with this process, however that ends (the kernel's parent-death signal). */
export class Program {
  readonly child: ChildProcess
  readonly name: string
  #output = ''

  constructor(command: string, args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
    this.name = command.split('/').at(-1) ?? command
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...options,
    })
    const keep = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-20_000)
    }
    this.child.stdout?.on('data', keep)
    this.child.stderr?.on('data', keep)
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error(`${this.name} did not start`)
    return this.child.pid
  }

  get output(): string {
    return this.#output
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name)
  }

  /** After a SIGSTOP a thread may run on for a moment. */
  get standsStill(): boolean {
    return readdirSync(`/proc/${this.pid}/task`).every((thread) =>
      /\) T /.test(readFileSync(`/proc/${this.pid}/task/${thread}/stat`, 'latin1')),
    )
  }

  async stop(name: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.running) return
    const gone = once(this.child, 'exit')
    this.child.kill(name)
    // A stopped process takes its SIGTERM only once it runs again.
    if (name !== 'SIGKILL') this.child.kill('SIGCONT')
    await gone
  }
}

export async function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'whitehole-test-'))
}

export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true })
}

const given = new Set<number>()

/** A free TCP port on loopback, never given twice by this process. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    if (!given.has(port)) {
      given.add(port)
      return port
    }
  }
}

/** Waits for a condition, never for a time. `probe` may throw: its last error is told when the time is over. */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMilliseconds = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMilliseconds
  let last: unknown
  for (;;) {
    try {
      const value = await probe()
      if (value !== undefined && value !== false) return value
      last = undefined
    } catch (error) {
      last = error
    }
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMilliseconds} ms for ${what}`, { cause: last })
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
