import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { vi } from 'vitest'
import { runCommandLine } from '../../src/cli/command-line.ts'
import { removeFolder, temporaryFolder } from './processes.ts'

export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const loader = import.meta.resolve('tsx')
const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** What a shell would start for `whitehole …`, from the sources. */
export const whiteholeCommand: readonly [string, ...string[]] = [process.execPath, '--import', loader, main]

/** Runs the command line to its end. */
export async function whitehole(...args: string[]): Promise<CommandResult> {
  const [command, ...before] = whiteholeCommand
  return new Promise((resolve) => {
    execFile(command, [...before, ...args], { timeout: 120_000, killSignal: 'SIGTERM' }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, stdout, stderr })
    })
  })
}

/** The same in this process: a new one costs a second. One at a time, since it takes this process' output. */
export async function whiteholeHere(...args: string[]): Promise<CommandResult> {
  const written = { stdout: '', stderr: '' }
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += text.toString()
      return true
    }),
  )
  try {
    return { code: await runCommandLine(args), ...written }
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}

/** A base from which a sandbox's 80 ports are free at the moment, below the range that the kernel hands out. */
export async function freeBasePort(): Promise<number> {
  for (;;) {
    const base = 10_000 + Math.floor(Math.random() * 200) * 100
    const firsts = [0, 11, 12, 21, 22, 31, 32, 41, 42, 51, 52, 61, 62, 71, 72, 81, 82, 91]
    const wanted = [...firsts, ...firsts.map((offset) => offset + 100)].map((offset) => base + offset)
    if ((await Promise.all(wanted.map(isFree))).every(Boolean)) return base
  }
}

/** A folder for a sandbox of a test's own. `remove` ends whatever runs in it, also after a failure. */
export class TestSandbox {
  readonly folder: string
  readonly basePort: number

  private constructor(folder: string, basePort: number) {
    this.folder = folder
    this.basePort = basePort
  }

  static async make(): Promise<TestSandbox> {
    return new TestSandbox(await temporaryFolder(), await freeBasePort())
  }

  async run(...args: string[]): Promise<CommandResult> {
    // `up` is a process of its own: it starts itself again in the background.
    const how = args[0] === 'up' ? whitehole : whiteholeHere
    return how(...args, '--dir', this.folder)
  }

  /** `up --detach`; rejects with what it said. */
  async up(...args: string[]): Promise<void> {
    const { code, stderr } = await this.run('up', '--detach', '--base-port', String(this.basePort), ...args)
    if (code !== 0) throw new Error(`up ended with ${code}: ${stderr}`)
  }

  async status(): Promise<SandboxStatus> {
    const { code, stdout, stderr } = await this.run('status', '--json')
    if (code > 1) throw new Error(`status ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as SandboxStatus
  }

  pid(name: string): number {
    return Number(readFileSync(`${this.folder}/${name}/pid`, 'utf8'))
  }

  socket(database: string): string {
    return `${this.folder}/${database}/sock`
  }

  /** Pids of all processes that have the folder on their command line. */
  running(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => commandLine(pid).includes(this.folder))
      .map(Number)
  }

  async remove(): Promise<void> {
    await this.run('down')
    for (const pid of this.running()) process.kill(pid, 'SIGKILL')
    await removeFolder(this.folder)
  }
}

/** The parts of `status --json` that tests look at. */
export interface SandboxStatus {
  readonly ready: boolean
  readonly mode: string
  readonly epoch: number
  readonly stuck: { readonly why: string; readonly cure: string } | null
  readonly databases: readonly {
    readonly name: string
    readonly role: string
    readonly position: string | null
    readonly pid: number | null
  }[]
  readonly nodes: readonly {
    readonly name: string
    readonly state: string
    readonly pid: number | null
    readonly source: string | null
    readonly lagSeconds: number | null
  }[]
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  try {
    const listening = once(server, 'listening')
    server.listen(port, '127.0.0.1')
    await listening
    return true
  } catch {
    return false
  } finally {
    server.close()
  }
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}
