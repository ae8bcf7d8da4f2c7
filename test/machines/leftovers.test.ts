import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { Machine, whyNoMachines } from '../support/machine.ts'
import { Program, until } from '../support/processes.ts'
import { Switch } from '../support/switch.ts'

const noMachines = whyNoMachines()
if (noMachines !== undefined) console.warn(`machines that tests leave behind are not looked for: ${noMachines}`)
const support = fileURLToPath(new URL('../support', import.meta.url))

describe.skipIf(noMachines !== undefined)('a machine and its network are gone', () => {
  test('once they are removed', async () => {
    const machine = await Machine.boot('machine1')
    const wires = await Switch.of(['net'])
    await wires.connect(machine, [{ network: 'net', device: 'eth0', address: '10.9.9.1/24' }])
    await machine.must('systemd-run --quiet sleep infinity; ip -br address show eth0 | grep 10.9.9.1')
    const network = networkOf(machine.pid)
    await machine.remove()
    await wires.remove()
    await until('the end of its processes', () => inNetwork(network).length === 0)
    expect(existsSync(machine.given)).toBe(false)
  })

  test("also when the test's process is killed", async () => {
    const script = `
      const { Machine } = await import(${JSON.stringify(join(support, 'machine.ts'))})
      const { Switch } = await import(${JSON.stringify(join(support, 'switch.ts'))})
      const machine = await Machine.boot('machine2')
      await (await Switch.of(['net'])).connect(machine, [{ network: 'net', device: 'eth0', address: '10.9.9.1/24' }])
      await machine.must('systemd-run --quiet sleep infinity')
      process.stdout.write('pid ' + machine.pid + ' at ' + machine.given + ' end')
      setInterval(() => undefined, 1000)`
    const program = new Program(process.execPath, [
      '--import',
      import.meta.resolve('tsx'),
      '--input-type=module',
      '--eval',
      script,
    ])
    try {
      const [, pid = '', given = ''] = await until(
        'its machine',
        () => /pid (\d+) at (\S+) end/.exec(program.output) ?? undefined,
      )
      const network = networkOf(Number(pid))
      expect(inNetwork(network).length).toBeGreaterThan(1)
      await program.stop('SIGKILL')
      await until('the end of its processes', () => inNetwork(network).length === 0)
      const mounts = readFileSync('/proc/self/mounts', 'utf8')
      const folder = join(given, '..')
      expect(mounts).not.toContain(folder)
      rmSync(folder, { recursive: true, force: true })
    } finally {
      await program.stop()
    }
  })
})

function networkOf(pid: number): string {
  return readlink(`/proc/${pid}/ns/net`) ?? ''
}

function inNetwork(network: string): string[] {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && readlink(`/proc/${pid}/ns/net`) === network)
}

function readlink(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}
