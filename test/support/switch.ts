import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Machine } from './machine.ts'
import { Program, until } from './processes.ts'

const run = promisify(execFile)

export interface Plug {
  /** The network's name, at most 8 characters. */
  readonly network: string
  /** What the machine calls its end. */
  readonly device: string
  /** With its prefix: `10.100.5.10/24`. */
  readonly address: string
}

/** Networks between machines, in a network namespace of their own that ends with this process. */
export class Switch {
  readonly #program = new Program('unshare', ['--net', 'sleep', 'infinity'])
  readonly #ends = new Map<string, string[]>()
  #count = 0

  static async of(networks: readonly string[]): Promise<Switch> {
    const made = new Switch()
    await until('the switch', async () => (await made.#ip('link', 'show', 'lo')).includes('DOWN'))
    for (const network of networks) {
      await made.#ip('link', 'add', 'name', network, 'type', 'bridge')
      await made.#ip('link', 'set', 'dev', network, 'up')
    }
    return made
  }

  /** For a machine that has just booted, also again: its former links died with it. */
  async connect(machine: Machine, plugs: readonly Plug[]): Promise<void> {
    const ends: string[] = []
    for (const { network, device, address } of plugs) {
      this.#count += 1
      const end = `end${this.#count}`
      const peer = ['peer', 'name', device, 'netns', String(machine.pid)]
      await this.#ip('link', 'add', 'name', end, 'type', 'veth', ...peer)
      await this.#ip('link', 'set', 'dev', end, 'master', network)
      await this.#ip('link', 'set', 'dev', end, 'up')
      await machine.must(`ip addr add ${address} dev ${device} && ip link set ${device} up`)
      ends.push(end)
    }
    this.#ends.set(machine.name, ends)
  }

  /** As if its cables were pulled out. */
  async cut({ name }: Machine): Promise<void> {
    for (const end of this.#ends.get(name) ?? []) await this.#ip('link', 'set', 'dev', end, 'down')
  }

  async mend({ name }: Machine): Promise<void> {
    for (const end of this.#ends.get(name) ?? []) await this.#ip('link', 'set', 'dev', end, 'up')
  }

  async remove(): Promise<void> {
    await this.#program.stop()
  }

  async #ip(...args: string[]): Promise<string> {
    const { stdout } = await run('nsenter', ['--target', String(this.#program.pid), '--net', 'ip', ...args])
    return stdout
  }
}
