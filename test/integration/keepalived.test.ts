import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { Program, removeFolder, temporaryFolder, until } from '../support/processes.ts'

const run = promisify(execFile)
/** Networks of one's own want root; scripts/setup.sh installs the program. */
const canRun = existsSync('/usr/sbin/keepalived') && existsSync('/usr/sbin/ip') && process.getuid?.() === 0

const writer = '10.91.0.100'
const monitors = '10.91.0.254:22100'

/** Two machines on one switch, with a monitor at it: each a network namespace. */
describe.skipIf(!canRun)('an address for writers, held by keepalived', () => {
  const id = process.pid
  const names = { hub: `whhub${id}`, db1: `whdb1-${id}`, db2: `whdb2-${id}` }
  const programs: Program[] = []
  let folder: string
  let primaryFile: string

  const ip = (...args: string[]): Promise<{ stdout: string }> => run('ip', args)
  const inside = (network: string, ...command: string[]): Program => {
    const program = new Program('ip', ['netns', 'exec', network, ...command])
    programs.push(program)
    return program
  }
  const holds = async (machine: 'db1' | 'db2'): Promise<boolean> =>
    (await ip('-n', names[machine], '-4', 'addr', 'show', 'dev', 'eth0')).stdout.includes(`${writer}/`)
  const holders = async (): Promise<string> => {
    const found = await Promise.all((['db1', 'db2'] as const).map(async (name) => ((await holds(name)) ? name : '')))
    return found.filter(Boolean).join(' and ')
  }
  const told = (): string => programs.map(({ name, output }) => `${name}: ${output}`).join('\n')

  async function addMachine(name: 'db1' | 'db2', own: string, peer: string): Promise<void> {
    await ip('netns', 'add', names[name])
    await ip('-n', names.hub, 'link', 'add', `p${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', names[name])
    await ip('-n', names.hub, 'link', 'set', `p${name}`, 'master', 'br0', 'up')
    await ip('-n', names[name], 'addr', 'add', `${own}/24`, 'dev', 'eth0')
    for (const device of ['lo', 'eth0']) await ip('-n', names[name], 'link', 'set', device, 'up')
    const settings: Record<string, string> = {
      NAME: name,
      INTERFACE: 'eth0',
      OWN: own,
      PEER: peer,
      WRITER: `${writer}/24`,
      CHECK: `${join(folder, 'is-primary')} ${name} 10.91.0.253:22100,${monitors}`,
    }
    const example = await readFile('examples/keepalived/keepalived.conf', 'utf8')
    const text = example.replaceAll(/^\$([A-Z]+)=.*$/gm, (_, key: string) => `$${key}=${settings[key] ?? ''}`)
    const file = join(folder, `${name}.conf`)
    await writeFile(file, text, { mode: 0o600 })
    const own_ = (what: string): string => join(folder, `${name}.${what}`)
    inside(names[name], 'keepalived', '-P', '-n', '-l', '-f', file, '-p', own_('pid'), '-r', own_('vrrp'))
  }

  beforeAll(async () => {
    folder = await temporaryFolder()
    // The check runs as nobody.
    await chmod(folder, 0o755)
    primaryFile = join(folder, 'primary')
    await writeFile(primaryFile, '')
    await copyFile('examples/keepalived/is-primary', join(folder, 'is-primary'))
    await chmod(join(folder, 'is-primary'), 0o755)
    await ip('netns', 'add', names.hub)
    await ip('-n', names.hub, 'link', 'add', 'br0', 'type', 'bridge')
    await ip('-n', names.hub, 'addr', 'add', '10.91.0.254/24', 'dev', 'br0')
    for (const device of ['lo', 'br0']) await ip('-n', names.hub, 'link', 'set', device, 'up')
    const monitor = inside(
      names.hub,
      process.execPath,
      '--import',
      'tsx',
      'test/support/role-server.ts',
      '10.91.0.254',
      '22100',
      primaryFile,
    )
    await addMachine('db1', '10.91.0.1', '10.91.0.2')
    await addMachine('db2', '10.91.0.2', '10.91.0.1')
    await until('the monitor to answer', () => monitor.output.includes('listening'))
  })

  afterAll(async () => {
    await Promise.allSettled(programs.map((program) => program.stop('SIGTERM')))
    for (const name of Object.values(names)) await ip('netns', 'del', name).catch(() => {})
    await removeFolder(folder)
  })

  const isAt = async (name: string): Promise<void> => {
    await until(`the address to be at ${name}`, async () => {
      const now = await holders()
      if (now === name) return true
      throw new Error(`it is at ${now || 'nobody'}: ${told()}`)
    })
  }

  test('is nobody’s while nobody is the primary, and goes where the primary is', async () => {
    for (const primary of ['db1', 'db2', 'db1']) {
      await writeFile(primaryFile, primary)
      await isAt(primary)
      // Who is asked at that address is the one that has it.
      await until('the neighbours to know', async () => {
        await run('ip', ['netns', 'exec', names.hub, 'curl', '-s', '-m', '1', `telnet://${writer}:9`]).catch(() => {})
        const { stdout } = await ip('-n', names.hub, 'neigh', 'show', writer)
        const mac = /lladdr (\S+)/.exec(stdout)?.[1]
        const link = await ip('-n', names[primary as 'db1' | 'db2'], 'link', 'show', 'eth0')
        return mac !== undefined && link.stdout.includes(mac)
      })
    }
    await writeFile(primaryFile, '')
    await until('nobody to have it', async () => (await holders()) === '')
  })

  test('goes to the primary though the machine that had it is cut off', async () => {
    await writeFile(primaryFile, 'db1')
    await isAt('db1')
    await ip('-n', names.hub, 'link', 'set', 'pdb1', 'down')
    await writeFile(primaryFile, 'db2')
    await until('db2 to have it', () => holds('db2'))
    await ip('-n', names.hub, 'link', 'set', 'pdb1', 'up')
    await isAt('db2')
  })
})
