import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { removeFolder, temporaryFolder } from '../../support/processes.ts'
import { whitehole, whiteholeHere } from '../../support/sandboxes.ts'

let folder = ''
beforeAll(async () => {
  folder = await temporaryFolder()
})
afterAll(() => removeFolder(folder))

describe('the command line', () => {
  test('shows every command, first steps and exit codes to a newcomer, and ends with 0', async () => {
    const { code, stdout } = await whitehole('--help')
    expect(code).toBe(0)
    for (const name of ['up', 'down', 'sandbox', 'status', 'node', 'init', 'ns', 'get', 'set', 'delete', 'verify']) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
    }
    expect(stdout).toContain('First steps:')
    expect(stdout).toContain('64 wrong usage')
  })

  test.each([
    ['no command', [], /Usage: whitehole/],
    ['an unknown command', ['upp'], /unknown command 'upp'[\s\S]*Did you mean up/],
    ['an unknown option', ['status', '--nope'], /unknown option '--nope'/],
    ['an argument too few', ['get', 'default'], /missing required argument 'key'/],
    ['an argument too many', ['status', 'extra'], /too many arguments/],
    ['a number out of range', ['up', '--nodes', '10'], /whole number from 1 to 9/],
    ['an unknown topology', ['up', '--topology', 'ring'], /Allowed choices are pair, single, galera/],
    ['what is not there yet', ['up', '--topology', 'galera'], /galera is not there yet/],
    ['an unknown engine', ['up', '--engine', 'oracle'], /"oracle" is no engine: mariadb, or mysql:<path of mysqld>/],
    ['an engine that is not there', ['up', '--engine', 'mysql:/x/mysqld'], /\/x\/mysqld can't be run/],
    ['two ways to name a cluster', ['status', '--dir', 'x', '--url', 'http://x'], /cannot be used with/],
    ['a daemon without its configuration', ['node'], /required option '--config <file>'/],
    ['a bad name of a namespace', ['get', 'a b', 'key'], /is no name of a namespace/],
    ['a key with a space', ['get', 'default', 'a b'], /a key has 1 to 250 bytes/],
    ['an unknown setting', ['ns', 'set', 'default', 'colour=1'], /"colour=1" is no setting/],
  ])('calls %s wrong usage: 64, on stderr', async (_what, args, message) => {
    const { code, stdout, stderr } = await whiteholeHere(...args)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
    expect(code).toBe(64)
  })

  test.each([['status'], ['down'], ['verify'], ['get', 'default', 'key'], ['ns', 'list'], ['sandbox', 'kill', 'db1']])(
    'says in one line how to start a sandbox where there is none: %s %s %s',
    async (...args) => {
      const where = join(folder, 'none')
      const { code, stdout, stderr } = await whiteholeHere(...args, '--json', '--dir', where)
      expect(code).toBe(2)
      expect(stdout).toBe('')
      expect(stderr.trim().split('\n')).toHaveLength(1)
      expect(stderr).toContain(`"whitehole up --dir ${where}"`)
      expect(existsSync(where)).toBe(false)
    },
  )

  test('gives the shell the exit code', async () => {
    expect((await whitehole('upp')).code).toBe(64)
    expect((await whitehole('status', '--dir', join(folder, 'none'))).code).toBe(2)
  })

  test('shows no stack, unless asked', async () => {
    const args = ['status', '--dir', join(folder, 'none')]
    expect((await whiteholeHere(...args)).stderr).not.toContain('    at ')
    expect((await whiteholeHere(...args, '--verbose')).stderr).toContain('    at ')
  })

  test('says where nobody answers', async () => {
    const { code, stderr } = await whiteholeHere('status', '--url', 'http://127.0.0.1:1')
    expect(code).toBe(2)
    expect(stderr).toContain('no node answers at http://127.0.0.1:1')
  })

  test('prints the schema without a database and without a password', async () => {
    const { code, stdout } = await whiteholeHere('init', '--print')
    expect(code).toBe(0)
    expect(stdout).toContain('CREATE TABLE IF NOT EXISTS mc_storage')
    expect(stdout).toContain("'whitehole_node'@'%'")
  })

  test('a daemon with a wrong configuration names the key and ends with 2', async () => {
    const { code, stderr } = await whiteholeHere('node', '--config', join(folder, 'none.yaml'))
    expect(code).toBe(2)
    expect(stderr).toContain('none.yaml')
  })
})
