import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { debianPackage } from './debian-package.ts'
import { guideSteps, type GuideStep } from './install-guide.ts'
import { Machine } from './machine.ts'
import { removeFolder, until } from './processes.ts'
import { type Plug, Switch } from './switch.ts'

/** Machines in networks of their own, installed by nothing but the commands of docs/INSTALL.md. */
export class GuidedMachines {
  readonly #machines = new Map<string, Machine>()
  readonly #plugs = new Map<string, readonly Plug[]>()
  #switch: Switch | undefined

  static async boot(plugs: Readonly<Record<string, readonly Plug[]>>): Promise<GuidedMachines> {
    const made = new GuidedMachines()
    try {
      const networks = new Set(Object.values(plugs).flatMap((some) => some.map(({ network }) => network)))
      made.#switch = await Switch.of([...networks])
      const [file] = await Promise.all([
        debianPackage(),
        (async () => {
          for (const [name, some] of Object.entries(plugs)) await made.#boot(name, some)
        })(),
      ])
      await Promise.all([...made.#machines.values()].map((machine) => machine.give(file)))
    } catch (error) {
      await made.remove()
      throw error
    }
    return made
  }

  at(name: string): Machine {
    const machine = this.#machines.get(name)
    if (machine === undefined) throw new Error(`there is no machine "${name}"`)
    return machine
  }

  /** Step by step; the machines of one step side by side. */
  async follow(heading: string): Promise<void> {
    for (const step of guideSteps(heading)) await this.#do(step)
  }

  /** One more, with nothing on it but the package's file. */
  async add(name: string, plugs: readonly Plug[]): Promise<Machine> {
    await this.#boot(name, plugs)
    await this.at(name).give(await debianPackage())
    return this.at(name)
  }

  async kill(name: string): Promise<void> {
    await this.at(name).kill()
  }

  async bootAgain(name: string): Promise<void> {
    const machine = this.at(name)
    await machine.bootAgain()
    await this.#switch?.connect(machine, this.#plugs.get(name) ?? [])
    await machine.startEnabled()
  }

  async cut(name: string): Promise<void> {
    await this.#switch?.cut(this.at(name))
  }

  async mend(name: string): Promise<void> {
    await this.#switch?.mend(this.at(name))
  }

  async remove(): Promise<void> {
    await Promise.all([...this.#machines.values()].map((machine) => machine.remove()))
    await this.#switch?.remove()
  }

  async #boot(name: string, plugs: readonly Plug[]): Promise<void> {
    const machine = await Machine.boot(name)
    this.#machines.set(name, machine)
    this.#plugs.set(name, plugs)
    await this.#switch?.connect(machine, plugs)
    await machine.write('/usr/local/bin/scp', scp)
    await machine.must('chmod 755 /usr/local/bin/scp')
  }

  async #do({ on, commands, says }: GuideStep): Promise<void> {
    await Promise.all(
      on.map(async (name) => {
        const commandLine = `set -e; cd /given\n${commands}`
        if (says === undefined) await this.at(name).must(commandLine, stepMilliseconds)
        // A CALL is answered before nodes have applied it: whoever is a moment early looks again.
        else await until(`${name} to say "${says}"`, () => this.#says(name, commandLine, says), 5000)
      }),
    )
    for (const name of on) await this.#deliver(name)
  }

  async #says(name: string, commandLine: string, wanted: string): Promise<boolean> {
    return (await this.at(name).must(commandLine)).includes(wanted)
  }

  async #deliver(from: string): Promise<void> {
    const sent = join(this.at(from).given, 'sent')
    if (!existsSync(sent)) return
    for (const to of readdirSync(sent)) {
      for (const file of readdirSync(join(sent, to))) {
        const arrived = await this.at(to).give(join(sent, to, file))
        await this.at(to).must(`mv ${arrived} ${sentTo}`)
      }
    }
    await removeFolder(sent)
  }
}

/** Packages are unpacked in it, on a busy machine. */
const stepMilliseconds = 150_000

const sentTo = '/etc/whitehole/'

/** In place of the program, since no machine has a daemon for it: what is sent to a machine lies ready for `#deliver`. */
const scp = `#!/bin/sh
set -e
for to; do :; done
case $to in root@*:${sentTo}) ;; *) echo "scp: not foreseen: $*" >&2; exit 1 ;; esac
to=\${to#root@}
mkdir -p "/given/sent/\${to%%:*}"
for file; do case $file in -p | root@*) ;; *) cp -p "$file" "/given/sent/\${to%%:*}/" ;; esac; done
`
