import { execFile } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { removeFolder, temporaryFolder } from '../support/processes.ts'
import { freeBasePort } from '../support/sandboxes.ts'

const run = promisify(execFile)
const checkout = fileURLToPath(new URL('../..', import.meta.url))

let folder: string
let tarball: string

beforeAll(async () => {
  folder = await temporaryFolder()
  await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: checkout })
  const [file] = (await readdir(folder)).filter((name) => name.endsWith('.tgz'))
  tarball = join(folder, file ?? '')
})
afterAll(() => removeFolder(folder))

describe('the npm package', () => {
  test('installs globally and runs a whole sandbox, with no checkout near', async () => {
    const prefix = join(folder, 'prefix')
    const cwd = join(folder, 'elsewhere')
    await mkdir(cwd)
    await run('npm', ['install', '--global', '--prefix', prefix, '--prefer-offline', '--silent', tarball], { cwd })
    const installed = join(prefix, 'bin/whitehole')
    const whitehole = async (...args: string[]) => run(installed, args, { cwd })
    expect((await whitehole('--help')).stdout).toContain('First steps')
    expect((await whitehole('init', '--print')).stdout).toContain('PROCEDURE set_key')
    await expect(whitehole('nonsense')).rejects.toMatchObject({ code: 64 })
    const dir = ['--dir', join(folder, 'sandbox')]
    const base = String(await freeBasePort())
    try {
      await whitehole('up', '--detach', '--topology', 'single', '--nodes', '1', '--base-port', base, ...dir)
      await whitehole('set', ...dir, 'default', 'hello', 'world')
      expect((await whitehole('get', ...dir, 'default', 'hello')).stdout.trim()).toBe('world')
    } finally {
      await whitehole('down', ...dir)
    }
  })

  test('pins every package that it rests on, and names no registry of ours', async () => {
    const { stdout } = await run('tar', ['-xzOf', tarball, 'package/npm-shrinkwrap.json'])
    expect(stdout).not.toContain('"resolved"')
    expect((JSON.parse(stdout) as { packages: Record<string, unknown> }).packages).toHaveProperty('node_modules/mysql2')
    expect(await readdir(checkout)).not.toContain('npm-shrinkwrap.json')
  })
})
