import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { TestSandbox, whitehole, whiteholeCommand } from '../support/sandboxes.ts'

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up()
})
afterAll(() => sandbox.remove())

async function sql(database: string, statement: string): Promise<Record<string, unknown>[]> {
  const connection = await createConnection({ socketPath: sandbox.socket(database), user: 'root' })
  try {
    const [rows] = await connection.query(statement)
    return rows as Record<string, unknown>[]
  } finally {
    connection.destroy()
  }
}

const options = (name: string): string => readFileSync(`/proc/${sandbox.pid(name)}/cmdline`, 'utf8')

describe('a sandbox in the background', () => {
  test('has a ready status of the shape that scripts rely on', async () => {
    const { code, stdout } = await sandbox.run('status', '--json')
    expect(code).toBe(0)
    const base = sandbox.basePort
    const at = (offset: number): string => `127.0.0.1:${base + offset}`
    const text = expect.any(String)
    const number = expect.any(Number)
    const database = (index: number, role: string) => ({
      name: `db${index}`,
      engine: 'mariadb',
      datacenter: 'dc1',
      address: at(40 + index),
      socket: sandbox.socket(`db${index}`),
      role,
      position: text,
      pid: sandbox.pid(`db${index}`),
    })
    const node = (index: number) => ({
      name: `node${index}`,
      datacenter: 'dc1',
      state: 'serving',
      pid: sandbox.pid(`node${index}`),
      http: `http://${at(20 + index)}`,
      memcached: { address: at(30 + index), version: text, pid: sandbox.pid(`memcached${index}`) },
      listeners: [
        { address: at(10 + index), namespace: 'default' },
        { address: at(60 + index), namespaceFrom: 'key' },
        { address: at(70 + index), namespace: 'sessions' },
      ],
      source: at(42),
      position: text,
      lagSeconds: expect.anything(),
      rebuild: null,
    })
    // A lag is known only after the first look.
    await until('the lags', async () => !(await sandbox.run('status', '--json')).stdout.includes('"lagSeconds": null'))
    expect(JSON.parse((await sandbox.run('status', '--json')).stdout)).toEqual({
      ready: true,
      topology: 'pair',
      mode: 'paired',
      epoch: number,
      databases: [database(1, 'primary'), database(2, 'standby')],
      nodes: [node(1), node(2)],
      monitors: [{ name: 'monitor', http: `http://${at(0)}`, pid: sandbox.pid('monitor'), acting: true }],
      stuck: null,
      namespaces: ['catalog', 'default', 'sessions'].map((name) => ({ id: number, name, generation: number, keys: 0 })),
    })
    expect(JSON.parse(stdout)).toHaveProperty('ready', true)
  })

  test('carries a value from one node to the other, and to both memcacheds', async () => {
    const { basePort } = sandbox
    expect(await dialogue(basePort + 11, 'set greeting 7 0 5\r\nhello\r\n', /\r\n$/)).toBe('STORED\r\n')
    await until('the value on the other node', async () =>
      (await dialogue(basePort + 12, 'get greeting\r\n', /END\r\n$/)).startsWith('VALUE greeting 7 5\r\nhello'),
    )
    for (const port of [basePort + 31, basePort + 32]) {
      expect(await dialogue(port, 'get default:greeting\r\n', /END\r\n$/)).toBe(
        'VALUE default:greeting 7 5\r\nhello\r\nEND\r\n',
      )
    }
  })

  test('is private: the folder, the secrets, and root over TCP', async () => {
    for (const path of ['', '/secrets', '/db1', '/node1']) expect(statSync(sandbox.folder + path).mode & 0o077).toBe(0)
    expect(statSync(`${sandbox.folder}/secrets/node`).mode & 0o777).toBe(0o600)
    const connecting = createConnection({ host: '127.0.0.1', port: sandbox.basePort + 41, user: 'root' })
    await expect(connecting).rejects.toThrow(/Access denied|not allowed/)
  })

  test('refuses a second up on its folder', async () => {
    const { code, stderr } = await sandbox.run('up', '--detach')
    expect(code).toBe(2)
    expect(stderr).toContain('runs already')
  })

  test('goes on alone without its standby, says so, and has a pair again once it is back', async () => {
    expect((await sandbox.run('sandbox', 'kill', 'db2')).code).toBe(0)
    const { code, stdout } = await sandbox.run('status', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({
      ready: false,
      databases: [{}, { role: 'unknown', position: null, pid: null }],
    })
    await until('a write', async () =>
      (await dialogue(sandbox.basePort + 11, 'set late 0 0 1\r\nx\r\n', /\r\n$/)).startsWith('STORED'),
    )
    expect(await sandbox.status()).toMatchObject({ ready: false, mode: 'solo', databases: [{}, { pid: null }] })
    expect((await sandbox.run('sandbox', 'start', 'db2')).code).toBe(0)
    await until('the sandbox to be ready', async () => (await sandbox.status()).ready)
    expect((await sandbox.status()).mode).toBe('paired')
    expect(await dialogue(sandbox.basePort + 11, 'set again 0 0 1\r\ny\r\n', /\r\n$/)).toBe('STORED\r\n')
  })

  test('starts a process that dies by itself, and commits the marker when the standby is back', async () => {
    const marker = async (): Promise<number> => {
      const [row] = await sql('db1', "SELECT value FROM memcached.mc_meta WHERE name = 'marker'")
      return Number(row?.['value'])
    }
    const before = await marker()
    const pid = sandbox.pid('db2')
    process.kill(pid, 'SIGKILL')
    await until('another db2, replicating', async () => {
      const { ready, databases } = await sandbox.status()
      return ready && databases[1]?.pid !== pid
    })
    await until('the marker', async () => (await marker()) > before)
  })

  test('whose primary is killed goes on with the standby, and the old primary follows it', async () => {
    await sql('db1', "CALL memcached.set_key(memcached.ns('catalog'), 'kept', 'yes', 0)")
    const { epoch } = await sandbox.status()
    const pid = sandbox.pid('db1')
    process.kill(pid, 'SIGKILL')
    await until('db2 to be the primary of a pair', async () => {
      const { ready, databases } = await sandbox.status()
      return ready && databases[1]?.role === 'primary' && databases[0]?.pid !== pid
    })
    const status = await sandbox.status()
    expect(status.databases.map(({ role }) => role)).toEqual(['standby', 'primary'])
    expect(status.epoch).toBeGreaterThan(epoch)
    const get = async (): Promise<string> => (await sandbox.run('get', 'catalog', 'kept')).stdout
    await until('the value on a node', async () => (await get()) === 'yes')
  })

  test('moves its primary when it is told to, and truncates no standby that it restarts: that may alone have what it acknowledged', async () => {
    expect(await sandbox.run('switchover')).toMatchObject({ code: 0 })
    await until('the pair', async () => {
      const { ready, databases } = await sandbox.status()
      return ready && databases[0]?.role === 'primary'
    })
    const pid = sandbox.pid('db2')
    expect(await sandbox.run('sandbox', 'restart', 'db2')).toMatchObject({ code: 0 })
    expect(sandbox.pid('db2')).not.toBe(pid)
    expect(options('db2')).not.toContain('--init-rpl-role')
    await until('the pair', async () => (await sandbox.status()).ready)
  })

  test('truncates a former primary that alone has something', async () => {
    // A standby that never restarted may take over by itself.
    expect((await sandbox.run('switchover')).code).toBe(0)
    await until('the pair', async () => {
      const { ready, databases } = await sandbox.status()
      return ready && databases[1]?.role === 'primary'
    })
    const monitor = sandbox.pid('monitor')
    // Else it would record `solo` while its standby does not follow.
    process.kill(monitor, 'SIGSTOP')
    try {
      await sql('db1', 'STOP SLAVE IO_THREAD')
      sql('db2', "CALL memcached.set_key(memcached.ns('catalog'), 'tail', 'x', 0)").catch(() => {})
      await until('it to wait', async () => {
        const sessions = await sql('db2', 'SHOW PROCESSLIST')
        return sessions.some(({ State }) => /semi-sync ACK/i.test(String(State)))
      })
      expect((await sandbox.run('sandbox', 'kill', 'db2')).code).toBe(0)
    } finally {
      process.kill(monitor, 'SIGCONT')
    }
    await until('db1 to be the primary', async () => {
      const status = await sandbox.status()
      if (status.databases[0]?.role !== 'primary') throw new Error(JSON.stringify(status))
      return true
    })
    expect((await sandbox.run('sandbox', 'start', 'db2')).code).toBe(0)
    expect(options('db2')).toContain('--init-rpl-role=SLAVE')
    await until('the pair', async () => (await sandbox.status()).ready)
    for (const name of ['db1', 'db2']) {
      expect(await sql(name, "SELECT 1 FROM memcached.mc_stored_keys WHERE mc_key = 'tail'")).toEqual([])
    }
    expect((await sandbox.run('verify')).code).toBe(0)
  })

  test('fills a standby anew from the primary', async () => {
    expect(await sandbox.run('sandbox', 'rebuild', 'db2')).toMatchObject({ code: 0 })
    await until('the pair', async () => (await sandbox.status()).ready)
    expect((await sandbox.run('verify')).code).toBe(0)
    const refused = await sandbox.run('sandbox', 'rebuild', 'db1')
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('db1 is the primary') })
  })
})

describe('a sandbox in the foreground', () => {
  beforeAll(async () => {
    expect((await sandbox.run('down')).code).toBe(0)
  })

  test('shows what runs and what to try, and ends everything on Ctrl-C, also when npm sends it twice', async () => {
    const [command, ...before] = whiteholeCommand
    const child = spawn(command, [...before, 'up', '--dir', sandbox.folder], { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
    const ended = once(child, 'exit')
    await until(
      'the nodes to be shown',
      () => {
        if (/node1 +serving/.test(output) && output.includes('Ctrl-C ends it')) return true
        throw new Error(output)
      },
      50_000,
    )
    expect(output).toMatch(/memccat --servers=127\.0\.0\.1:\d+ hello/)
    child.kill('SIGINT')
    child.kill('SIGINT')
    expect(await ended).toEqual([0, null])
    expect(sandbox.running()).toEqual([])
    const order = [...output.matchAll(/ (monitor|node1|memcached1|db2|db1) stopped/g)].map(([, name]) => name)
    // The standby goes before the primary.
    expect(order).toEqual(['monitor', 'node1', 'memcached1', 'db2', 'db1'])
  })

  test('cannot change its topology', async () => {
    const { code, stderr } = await whitehole('up', '--detach', '--topology', 'single', '--dir', sandbox.folder)
    expect(code).toBe(2)
    expect(stderr).toContain('is a "pair" and can\'t become a "single"')
  })
})
