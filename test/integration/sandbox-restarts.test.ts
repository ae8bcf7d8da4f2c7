import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeIdentity } from '../../src/sandbox/process-identity.ts'
import { until } from '../support/processes.ts'
import { TestSandbox } from '../support/sandboxes.ts'

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up()
})
afterAll(() => sandbox.remove())

describe('a sandbox whose supervisor is killed', () => {
  test('leaves no process, and the next up resumes its data', async () => {
    expect((await sandbox.run('set', 'default', 'stays', 'here')).code).toBe(0)
    process.kill(sandbox.pid('supervisor'), 'SIGKILL')
    await until('everything to be gone', () => sandbox.running().length === 0)
    expect((await sandbox.run('status')).code).toBe(2)
    await sandbox.up()
    expect((await sandbox.run('get', 'default', 'stays')).stdout).toBe('here')
  })

  test('that left a process behind is cleaned up by the next up', async () => {
    process.kill(sandbox.pid('supervisor'), 'SIGKILL')
    await until('everything to be gone', () => sandbox.running().length === 0)
    // As a system without a parent-death signal would leave it: a memcached that nobody supervises, on its old port.
    const user = userInfo().uid === 0 ? ['-u', 'root'] : []
    const args = ['-l', '127.0.0.1', '-p', String(sandbox.basePort + 31), '-U', '0', ...user]
    const stray = spawn('memcached', args, { stdio: 'ignore' })
    await until('the stray to be known', () => stray.pid !== undefined)
    const gone = once(stray, 'exit')
    writeIdentity(`${sandbox.folder}/memcached1`, stray.pid ?? 0)
    await sandbox.up()
    await gone
    expect((await sandbox.status()).ready).toBe(true)
  })
})

describe('a sandbox that ends', () => {
  test('leaves nothing running, and says so when asked again', async () => {
    expect(await sandbox.run('down')).toMatchObject({ code: 0 })
    expect(sandbox.running()).toEqual([])
    expect((await sandbox.run('down')).stdout).toContain('was not running')
    expect((await sandbox.run('status')).code).toBe(2)
  })

  test('names the port that is taken and by whom, and starts nothing', async () => {
    const server = createServer().listen(sandbox.basePort + 41, '127.0.0.1')
    await once(server, 'listening')
    try {
      const { code, stderr } = await sandbox.run('up', '--detach')
      expect(code).toBe(2)
      expect(stderr).toContain(`port ${sandbox.basePort + 41} (for db1) is in use by `)
      expect(stderr).toContain(`(pid ${process.pid})`)
      expect(stderr).toContain('--base-port')
      expect(sandbox.running()).toEqual([])
    } finally {
      server.close()
      await once(server, 'close')
    }
  })

  test('whose primary lost its disk asks a person, and goes on with the standby once it is told to', async () => {
    await rm(`${sandbox.folder}/db1/data`, { recursive: true })
    const starting = sandbox.run('up', '--detach')
    await until('a person to be asked', async () => {
      const { stuck } = await sandbox.status()
      return stuck?.cure.includes('takeover --force') === true
    })
    expect(await sandbox.run('takeover', '--force', '--to', 'db2')).toMatchObject({ code: 0 })
    const { code, stderr } = await starting
    expect(code).toBe(0)
    expect(stderr).toContain('a person is needed: ')
    const { databases } = await sandbox.status()
    expect(databases.map(({ role }) => role)).toEqual(['standby', 'primary'])
    expect((await sandbox.run('get', 'default', 'stays')).stdout).toBe('here')
    expect((await sandbox.run('down')).code).toBe(0)
  })
})
