import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { haveMysql, mysqldPath } from '../support/databases.ts'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { TestSandbox, whitehole } from '../support/sandboxes.ts'

describe.skipIf(!haveMysql)('a sandbox on MySQL', () => {
  let sandbox: TestSandbox
  beforeAll(async () => {
    sandbox = await TestSandbox.make()
    await sandbox.up('--engine', `mysql:${mysqldPath}`)
  })
  afterAll(async () => sandbox.remove())

  const ready = async (): Promise<void> => {
    await until('the sandbox to be ready', async () => (await sandbox.status()).ready)
  }

  test('carries a value from node to node, and verify agrees', async () => {
    expect((await sandbox.status()).databases).toMatchObject([
      { name: 'db1', engine: 'mysql', role: 'primary' },
      { name: 'db2', engine: 'mysql', role: 'standby' },
    ])
    const { basePort } = sandbox
    expect(await dialogue(basePort + 11, 'set greeting 7 0 5\r\nhello\r\n', /\r\n$/)).toBe('STORED\r\n')
    await until('the value on the other node', async () =>
      (await dialogue(basePort + 12, 'get greeting\r\n', /END\r\n$/)).startsWith('VALUE greeting 7 5\r\nhello'),
    )
    expect((await sandbox.run('verify')).code).toBe(0)
  })

  test('lets root in over its socket alone, and nobody write to the standby, not even root', async () => {
    for (const port of [41, 51]) {
      const connecting = createConnection({ host: '127.0.0.1', port: sandbox.basePort + port, user: 'root' })
      await expect(connecting).rejects.toThrow(/Access denied|not allowed/)
    }
    const root = await createConnection({ socketPath: sandbox.socket('db2'), user: 'root' })
    try {
      await expect(root.query("UPDATE memcached.mc_meta SET value = 1 WHERE name = 'marker'")).rejects.toThrow(
        /super-read-only/,
      )
    } finally {
      root.destroy()
    }
  })

  test('goes on after its standby and then its primary were killed, with all that was written', async () => {
    for (const name of ['db2', 'db1']) {
      const pid = sandbox.pid(name)
      process.kill(pid, 'SIGKILL')
      await until(`another ${name}`, async () => {
        const status = await sandbox.status()
        return status.ready && status.databases.every((database) => database.pid !== pid)
      })
      await until('a write', async () => {
        const reply = await dialogue(sandbox.basePort + 11, `set after-${name} 0 0 1\r\ny\r\n`, /\r\n$/)
        return reply === 'STORED\r\n'
      })
    }
    expect((await sandbox.run('get', 'default', 'greeting')).stdout).toBe('hello')
  })

  test('is resumed with its engine by the next up, also after its supervisor was killed', async () => {
    process.kill(sandbox.pid('supervisor'), 'SIGKILL')
    await until('everything to be gone', () => sandbox.running().length === 0)
    await sandbox.up()
    await ready()
    expect((await sandbox.run('get', 'default', 'greeting')).stdout).toBe('hello')
    expect((await sandbox.run('down')).code).toBe(0)
    expect(sandbox.running()).toEqual([])
  })

  test('cannot change its engine', async () => {
    const { code, stderr } = await whitehole('up', '--detach', '--engine', 'mariadb', '--dir', sandbox.folder)
    expect(code).toBe(2)
    expect(stderr).toContain('can\'t be run by "mariadb"')
  })
})

describe.skipIf(!haveMysql)('a single MySQL', () => {
  let sandbox: TestSandbox
  beforeAll(async () => {
    sandbox = await TestSandbox.make()
    await sandbox.up('--engine', `mysql:${mysqldPath}`, '--topology', 'single', '--nodes', '1')
  })
  afterAll(async () => sandbox.remove())

  test('serves reads and writes, and becomes writable again after it was killed', async () => {
    process.kill(sandbox.pid('db1'), 'SIGKILL')
    await until('a write', async () => {
      const reply = await dialogue(sandbox.basePort + 11, 'set k 0 0 1\r\ny\r\n', /\r\n$/)
      return reply === 'STORED\r\n'
    })
    expect((await sandbox.run('get', 'default', 'k')).stdout).toBe('y')
  })
})
