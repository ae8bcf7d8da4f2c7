import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { type CommandResult, TestSandbox, whiteholeHere } from '../support/sandboxes.ts'

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up('--topology', 'single', '--nodes', '1')
})
afterAll(() => sandbox.remove())

const json = ({ stdout }: CommandResult): unknown => JSON.parse(stdout)

describe('get, set and delete', () => {
  test('store a value, print it as it is, and delete it', async () => {
    expect(await sandbox.run('set', 'catalog', 'a/b', 'größe ☃', '--flags', '9')).toMatchObject({ code: 0 })
    expect(await sandbox.run('get', 'catalog', 'a/b')).toMatchObject({ code: 0, stdout: 'größe ☃' })
    const found = json(await sandbox.run('get', 'catalog', 'a/b', '--json'))
    expect(found).toEqual({
      namespace: 'catalog',
      key: 'a/b',
      found: true,
      flags: 9,
      value: 'größe ☃',
      encoding: 'utf8',
    })
    expect(json(await sandbox.run('delete', 'catalog', 'a/b', '--json'))).toMatchObject({ deleted: true })
    expect(await sandbox.run('delete', 'catalog', 'a/b')).toMatchObject({ code: 0 })
  })

  test('a miss is 1, with nothing on stdout', async () => {
    expect(await sandbox.run('get', 'default', 'none')).toMatchObject({ code: 1, stdout: '' })
    expect(json(await sandbox.run('get', 'default', 'none', '--json'))).toMatchObject({ found: false })
  })

  test('an unknown namespace could not be done', async () => {
    const { code, stderr } = await sandbox.run('get', 'nowhere', 'key')
    expect(code).toBe(2)
    expect(stderr).toContain('unknown namespace')
  })

  test('a value expires by its --ttl', async () => {
    await sandbox.run('set', 'default', 'brief', 'x', '--ttl', '1')
    await until('its end', async () => (await sandbox.run('get', 'default', 'brief')).code === 1)
  })
})

describe('ns', () => {
  test('creates, shows, changes, flushes, lists and drops a namespace', async () => {
    expect(json(await sandbox.run('ns', 'create', 'orders', '--id', '7', '--json'))).toMatchObject({
      id: 7,
      name: 'orders',
    })
    const { code, stderr } = await sandbox.run('ns', 'create', 'orders')
    expect(code).toBe(2)
    expect(stderr).toBe('whitehole: namespace orders exists already\n')
    expect((await sandbox.run('ns', 'set', 'orders', 'default-ttl=60', 'max-ttl=3600')).code).toBe(0)
    const shown = json(await sandbox.run('ns', 'show', 'orders', '--json')) as { generation: number }
    expect(shown).toMatchObject({ settings: { 'default-ttl': 60, 'max-ttl': 3600, 'quota-bytes': 0 } })

    await until('the node to know it', async () => (await sandbox.run('set', 'orders', 'k', 'v')).code === 0)
    expect((await sandbox.run('ns', 'flush', 'orders')).code).toBe(0)
    await until('the flush to be in force', async () => (await sandbox.run('get', 'orders', 'k')).code === 1)
    const { namespaces } = json(await sandbox.run('ns', 'list', '--json')) as { namespaces: { name: string }[] }
    expect(namespaces.find(({ name }) => name === 'orders')).toEqual({
      id: 7,
      name: 'orders',
      generation: shown.generation + 1,
      keys: 0,
    })

    expect((await sandbox.run('ns', 'drop', 'orders')).code).toBe(0)
    expect((await sandbox.run('ns', 'show', 'orders')).code).toBe(1)
    expect((await sandbox.run('ns', 'drop', 'orders')).code).toBe(2)
  })
})

describe('verify', () => {
  test('says what every node has, and 1 where a node lacks a key', async () => {
    await sandbox.run('set', 'sessions', 'whole', 'value')
    const sound = await sandbox.run('verify', '--json')
    expect(sound.code).toBe(0)
    expect(json(sound)).toMatchObject({
      consistent: true,
      namespaces: [{}, {}, { name: 'sessions', keys: 1, nodes: [{ name: 'node1', present: 1, missing: 0 }] }],
    })
    await dialogue(sandbox.basePort + 31, 'delete sessions:whole\r\n', /\r\n$/)
    const broken = await sandbox.run('verify', '--json')
    expect(broken.code).toBe(1)
    expect(json(broken)).toMatchObject({ consistent: false })
    expect((await sandbox.run('verify')).stdout).toContain('missing: whole')
  })

  test('could not be done with a node away', async () => {
    await sandbox.run('sandbox', 'stop', 'node1')
    expect((await sandbox.run('verify')).code).toBe(2)
    expect((await sandbox.run('status')).code).toBe(1)
    expect((await sandbox.run('get', 'default', 'x')).code).toBe(2)
    expect((await sandbox.run('sandbox', 'start', 'node1')).code).toBe(0)
    await until('the node to serve', async () => (await sandbox.run('status')).code === 0)
  })
})

describe('a cluster that is no sandbox', () => {
  test("is found by a node's configuration, or by its address", async () => {
    const config = `${sandbox.folder}/node1/config.yaml`
    const byConfig = await whiteholeHere('status', '--json', '--config', config)
    expect(byConfig.code).toBe(0)
    expect(json(byConfig)).toMatchObject({
      ready: true,
      databases: [{ address: `127.0.0.1:${sandbox.basePort + 41}`, role: 'primary' }],
      nodes: [{ name: 'node1', state: 'serving' }],
    })
    expect((await whiteholeHere('set', 'default', 'through', 'config', '--config', config)).code).toBe(0)
    expect((await whiteholeHere('ns', 'flush', 'default', '--config', config)).code).toBe(0)
    const byUrl = await whiteholeHere('status', '--json', '--url', `http://127.0.0.1:${sandbox.basePort + 21}`)
    expect(byUrl.code).toBe(0)
    expect(json(byUrl)).toMatchObject({ ready: true, databases: [], nodes: [{ name: 'node1' }] })
  })

  test('gets its schema and accounts by init, again and again', async () => {
    const given = {
      name: 'other',
      dataDirectory: '/var/lib/whitehole/other',
      databases: {
        topology: 'single',
        addresses: [`127.0.0.1:${sandbox.basePort + 41}`],
        user: 'other_node',
        password: 'hidden word',
      },
      memcached: { address: '127.0.0.1:1' },
      listeners: [{ listen: '127.0.0.1:2', namespace: 'default' }],
    }
    const config = join(sandbox.folder, 'other.yaml')
    writeFileSync(config, stringify(given), { mode: 0o600 })
    const args = ['init', '--config', config, '--admin-socket', sandbox.socket('db1'), '--account-host', '127.0.0.1']
    for (let run = 0; run < 2; run++) {
      const { code, stdout, stderr } = await whiteholeHere(...args, '--json')
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(JSON.parse(stdout)).toEqual({ applied: [] })
    }
    const login = { host: '127.0.0.1', port: sandbox.basePort + 41, user: 'other_node', password: 'hidden word' }
    const connection = await createConnection(login)
    await connection.end()
    expect((await whiteholeHere(...args, '--print')).stdout).not.toContain('hidden word')
  })

  test('that refuses the admin says which address and why', async () => {
    const { code, stderr } = await whiteholeHere('init', '--config', join(sandbox.folder, 'other.yaml'))
    expect(code).toBe(2)
    expect(stderr).toContain(`127.0.0.1:${sandbox.basePort + 41}: Access denied`)
  })
})
