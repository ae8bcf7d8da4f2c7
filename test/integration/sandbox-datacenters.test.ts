import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { type SandboxStatus, TestSandbox } from '../support/sandboxes.ts'

const delayMilliseconds = 20
const answer = /(END|STORED|ERROR[^\r\n]*)\r\n$/

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up('--dc', '2', '--nodes', '1', '--link-delay', String(delayMilliseconds))
})
afterAll(() => sandbox.remove())

/** Ports of the node at home and of the one beyond. */
const home = (): number => sandbox.basePort + 11
const beyond = (): number => sandbox.basePort + 111

const set = (port: number, key: string, value: string): Promise<string> =>
  dialogue(port, `set ${key} 0 0 ${value.length}\r\n${value}\r\n`, answer)

const get = async (port: number, key: string): Promise<string | undefined> =>
  /^VALUE \S+ 0 \d+\r\n(.*)\r\nEND/.exec(await dialogue(port, `get ${key}\r\n`, answer))?.[1]

async function sql(database: string, statement: string): Promise<Record<string, unknown>[]> {
  const connection = await createConnection({
    socketPath: sandbox.socket(database),
    user: 'root',
    multipleStatements: true,
  })
  try {
    const [rows] = await connection.query(statement)
    return rows as Record<string, unknown>[]
  } finally {
    connection.destroy()
  }
}

const sourceOf = async (relay: string): Promise<number> =>
  Number((await sql(relay, 'SHOW SLAVE STATUS'))[0]?.['Master_Port'])

async function control(action: string, name: string): Promise<void> {
  const { code, stderr } = await sandbox.run('sandbox', action, name)
  expect(code, stderr).toBe(0)
}

async function untilStatus(what: string, condition: (status: SandboxStatus) => boolean): Promise<SandboxStatus> {
  return until(what, async () => {
    const status = await sandbox.status()
    if (!condition(status)) throw new Error(JSON.stringify(status.databases))
    return status
  })
}

const whole = (): Promise<SandboxStatus> => untilStatus('all of it', ({ ready, mode }) => ready && mode === 'paired')

const roles = ({ databases }: SandboxStatus): Record<string, string> =>
  Object.fromEntries(databases.map(({ name, role }) => [name, role]))

describe('two data centres in a sandbox', () => {
  test('a relay of the standby and its node stand 100 ports further on, beyond a link', async () => {
    const base = sandbox.basePort
    await whole()
    const status = await untilStatus(
      'the relay to be followed',
      ({ nodes }) => nodes[1]?.source === `127.0.0.1:${base + 141}`,
    )
    expect(status.databases).toMatchObject([
      { name: 'db1', datacenter: 'dc1', role: 'primary', address: `127.0.0.1:${base + 41}` },
      { name: 'db2', datacenter: 'dc1', role: 'standby', address: `127.0.0.1:${base + 42}` },
      { name: 'db3', datacenter: 'dc2', role: 'relay', address: `127.0.0.1:${base + 141}` },
    ])
    expect(status.nodes).toMatchObject([
      { name: 'node1', datacenter: 'dc1', source: `127.0.0.1:${base + 42}`, lagSeconds: expect.any(Number) },
      { name: 'node2', datacenter: 'dc2', source: `127.0.0.1:${base + 141}`, lagSeconds: expect.any(Number) },
    ])
    expect(await sourceOf('db3')).toBe(base + 182)
    const from = performance.now()
    expect(await set(beyond(), 'k', 'v')).toBe('STORED\r\n')
    expect(performance.now() - from).toBeGreaterThan(2 * delayMilliseconds)
    expect(await get(beyond(), 'k')).toBe('v')
    await until('home to read it', async () => (await get(home(), 'k')) === 'v')
  })

  test('the doctor finds what is wrong with the relay, and its own statements put it right', async () => {
    const findings = async (): Promise<{ where: string; check: string; severity: string; sql?: string[] }[]> => {
      const { stdout } = await sandbox.run('doctor', '--json')
      return JSON.parse(stdout).findings
    }
    const toChange = async (): Promise<string[]> =>
      (await findings()).flatMap(({ where, check, severity }) => (severity === 'note' ? [] : [`${where} ${check}`]))
    await until('nothing to change', async () => {
      const found = await toChange()
      if (found.length > 0) throw new Error(found.join(', '))
      return true
    })

    await sql('db3', 'SET GLOBAL rpl_semi_sync_slave_enabled = ON')
    const voting = (await findings()).find(({ check }) => check === 'relay_semi_sync')
    expect(voting).toMatchObject({ where: 'db3', severity: 'problem' })
    for (const statement of voting?.sql ?? []) await sql('db3', statement)

    await sql('db3', 'STOP SLAVE SQL_THREAD; SET GLOBAL replicate_do_db = "memcached"; START SLAVE SQL_THREAD')
    // Its receiver was just started.
    await until('the filter to be found', async () => (await toChange()).join() === 'db3 relay_filter')
    await sql('db3', 'STOP SLAVE SQL_THREAD; SET GLOBAL replicate_do_db = ""; START SLAVE SQL_THREAD')

    // The monitor starts it again within moments.
    await until('a relay that stands to be found', async () => {
      await sql('db3', 'STOP SLAVE')
      return (await toChange()).includes('db3 relay_source')
    })
    await until('the monitor to have attached it', async () => (await toChange()).length === 0)
    await whole()
  })

  test('with the link down reads go on there and writes do not; home goes on; then it catches up', async () => {
    await control('stop', 'link')
    expect(await set(home(), 'k', 'w')).toBe('STORED\r\n')
    expect(await get(beyond(), 'k')).toBe('v')
    expect(await set(beyond(), 'k', 'x')).toMatch(/^SERVER_ERROR/)
    await until('the age to be told', async () => {
      const { nodes } = await sandbox.status()
      return (nodes[1]?.lagSeconds ?? 0) > 1
    })
    await control('start', 'link')
    await until('it to catch up', async () => (await get(beyond(), 'k')) === 'w')
    await until('writes to flow', async () => (await set(beyond(), 'k', 'y')) === 'STORED\r\n')
    await whole()
  })

  test('a takeover at home: the relay goes on with the new primary, and with its standby once there is one', async () => {
    await control('kill', 'db1')
    await untilStatus('the takeover', (status) => roles(status)['db2'] === 'primary')
    await until('writes to flow', async () => (await set(beyond(), 'solo', '1')) === 'STORED\r\n')
    expect(await get(beyond(), 'solo')).toBe('1')
    await control('start', 'db1')
    expect(roles(await whole())).toEqual({ db1: 'standby', db2: 'primary', db3: 'relay' })
    expect(await sourceOf('db3')).toBe(sandbox.basePort + 181)
    expect(await set(beyond(), 'k', 'again')).toBe('STORED\r\n')
    expect(await get(beyond(), 'k')).toBe('again')
  })

  test('home is lost: no relay is promoted by itself, but by a person; home comes back, and takes over as planned', async () => {
    await control('kill', 'db1')
    await control('kill', 'db2')
    await untilStatus('a person to be asked for', ({ stuck }) => stuck !== null)
    expect(roles(await sandbox.status())['db3']).not.toBe('primary')
    const { code, stderr } = await sandbox.run('takeover', '--force', '--to', 'db3')
    expect(code, stderr).toBe(0)
    await until('writes to flow there', async () => (await set(beyond(), 'alone', '1')) === 'STORED\r\n')
    expect(await get(beyond(), 'alone')).toBe('1')
    await control('start', 'db1')
    await control('start', 'db2')
    const back = await whole()
    expect(roles(back)['db3']).toBe('primary')
    const standby = back.databases.find(({ role }) => role === 'standby')?.name ?? ''
    expect((await sandbox.run('switchover', '--to', standby)).code).toBe(0)
    const after = roles(await whole())
    expect(after).toMatchObject({ [standby]: 'primary', db3: 'relay' })
    expect(await get(home(), 'alone')).toBe('1')
    const verified = await sandbox.run('verify')
    expect(verified.code, verified.stdout + verified.stderr).toBe(0)
  })
})
