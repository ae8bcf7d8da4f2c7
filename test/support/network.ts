import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Where a process of a test runs: at an address of its own, maybe in a network of its own. */
export interface Place {
  readonly host: string
  /** What starts a program there; its process id is the program's. */
  command(program: string, args: readonly string[]): readonly [string, readonly string[]]
}

/** This machine's loopback. */
export const here: Place = { host: '127.0.0.1', command: (program, args) => [program, args] }

/** Why no networks can be made here, or undefined. */
export function whyNoNetworks(): string | undefined {
  if (process.getuid?.() !== 0) return 'it takes root to make networks'
  return existsSync('/usr/sbin/ip') ? undefined : '/usr/sbin/ip is not there'
}

/**
 * Machines on one switch, as far as their network goes: each a network namespace with a cable (veth) to a bridge, at which this process
 * sits too. Neighbours are told, not asked for: so a cut is silent, in one direction or both, also for connections that are there.
 */
export class Network {
  readonly subnet: string
  readonly #id: string
  readonly #names: readonly string[]

  private constructor(id: string, subnet: string, names: readonly string[]) {
    this.#id = id
    this.subnet = subnet
    this.#names = names
  }

  static async make(names: readonly string[]): Promise<Network> {
    // Process ids differ among those that run at once, and so do their subnets.
    const number = process.pid % 32_768
    const network = new Network(number.toString(16), `10.${128 + (number >> 8)}.${number & 255}`, names)
    try {
      await network.#make()
      return network
    } catch (error) {
      await network.remove()
      throw error
    }
  }

  place(name: string): Place {
    return {
      host: this.#address(name),
      command: (program, args) => ['ip', ['netns', 'exec', this.#space(name), program, ...args]],
    }
  }

  /** What `from` sends no longer reaches `to`, and nobody is told. */
  async cut(from: string, to: string): Promise<void> {
    await this.#introduce(from, to, nobody)
  }

  async cutBoth(a: string, b: string): Promise<void> {
    await Promise.all([this.cut(a, b), this.cut(b, a)])
  }

  /** Everybody but those: in both directions. */
  async cutFromAllBut(name: string, spared: readonly string[]): Promise<void> {
    for (const other of this.#names) if (other !== name && !spared.includes(other)) await this.cutBoth(name, other)
  }

  /** Its cable is pulled. */
  async unplug(name: string): Promise<void> {
    await ip('link', 'set', this.#port(name), 'down')
  }

  async plugIn(name: string): Promise<void> {
    await ip('link', 'set', this.#port(name), 'up')
    await this.#introduceAll()
  }

  /** Undoes every cut. */
  async heal(): Promise<void> {
    for (const name of this.#names) await ip('link', 'set', this.#port(name), 'up')
    await this.#introduceAll()
  }

  /** Bits a second that leave it; undefined: as many as go. */
  async limit(name: string, rate: string | undefined): Promise<void> {
    const device = ['dev', 'eth0', 'root']
    const tc = (...args: string[]): Promise<unknown> => run('ip', ['netns', 'exec', this.#space(name), 'tc', ...args])
    if (rate === undefined) await tc('qdisc', 'del', ...device)
    else await tc('qdisc', 'add', ...device, 'tbf', 'rate', rate, 'burst', '16kb', 'latency', '50ms')
  }

  async remove(): Promise<void> {
    for (const name of this.#names) await run('ip', ['netns', 'del', this.#space(name)]).catch(() => {})
    await run('ip', ['link', 'del', this.#bridge]).catch(() => {})
  }

  get #bridge(): string {
    return `whb${this.#id}`
  }

  async #make(): Promise<void> {
    await ip('link', 'add', this.#bridge, 'type', 'bridge')
    await ip('addr', 'add', `${this.subnet}.254/24`, 'dev', this.#bridge)
    await ip('link', 'set', this.#bridge, 'up')
    for (const name of this.#names) {
      const space = this.#space(name)
      await ip('netns', 'add', space)
      const inside = ['peer', 'name', 'eth0', 'address', this.#mac(name), 'netns', space]
      await ip('link', 'add', this.#port(name), 'type', 'veth', ...inside)
      await ip('link', 'set', this.#port(name), 'master', this.#bridge, 'up')
      await ip('-n', space, 'addr', 'add', `${this.#address(name)}/24`, 'dev', 'eth0')
      for (const device of ['lo', 'eth0']) await ip('-n', space, 'link', 'set', device, 'up')
    }
    await this.#introduceAll()
  }

  async #introduceAll(): Promise<void> {
    for (const one of this.#names) {
      for (const other of this.#names) if (other !== one) await this.#introduce(one, other, this.#mac(other))
    }
  }

  async #introduce(one: string, other: string, mac: string): Promise<void> {
    const neighbour = ['neigh', 'replace', this.#address(other), 'lladdr', mac, 'nud', 'permanent', 'dev', 'eth0']
    await ip('-n', this.#space(one), ...neighbour)
  }

  #space(name: string): string {
    return `wh${this.#id}-${name}`
  }

  /** At the bridge; names of devices have 15 letters at most. */
  #port(name: string): string {
    return `wh${this.#id}p${this.#names.indexOf(name)}`
  }

  #address(name: string): string {
    return `${this.subnet}.${this.#names.indexOf(name) + 1}`
  }

  #mac(name: string): string {
    return `02:00:00:00:00:${(this.#names.indexOf(name) + 1).toString(16).padStart(2, '0')}`
  }
}

/** No card listens to it. */
const nobody = '02:00:00:00:ff:ff'

async function ip(...args: string[]): Promise<void> {
  await run('ip', args)
}
