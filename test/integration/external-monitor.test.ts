import { readFileSync } from 'node:fs'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { serverAccountStatements } from '../../src/schema/accounts.ts'
import { Database } from '../support/databases.ts'
import { managedAccounts } from '../support/managed.ts'
import { freePort, Program, removeFolder, temporaryFolder, until } from '../support/processes.ts'

let folder: string
let port: number
let monitor: Program
const databases: Database[] = []
const database = (n: 1 | 2): Database => databases[n - 1]!

/** Everything that a monitor could have changed. */
const settings = async (one: Database): Promise<unknown> => ({
  variables: (await one.query<{ Variable_name: string; Value: string }>('SHOW GLOBAL VARIABLES')).filter(
    // These tell of the log and of the clock.
    ({ Variable_name: name }) => !/gtid|timestamp|^read_only$|rand_seed|pseudo/.test(name),
  ),
  replicas: await one.query('SHOW ALL SLAVES STATUS'),
  position: await one.query('SELECT @@gtid_binlog_pos AS position'),
})

beforeAll(async () => {
  folder = await temporaryFolder()
  for (const readOnly of [0, 1]) {
    const one = await Database.start()
    databases.push(one)
    for (const statement of serverAccountStatements('mariadb', { monitor: managedAccounts.monitor })) {
      await one.query(`SET sql_log_bin = 0; ${statement}`)
    }
    await one.query(`SET GLOBAL read_only = ${readOnly}`)
  }
  port = await freePort()
  await writeFile(join(folder, 'password'), managedAccounts.monitor.password)
  await chmod(join(folder, 'password'), 0o600)
  const file = join(folder, 'monitor.yaml')
  await writeFile(
    file,
    stringify({
      name: 'monitor1',
      dataDirectory: join(folder, 'data'),
      databases: {
        takeover: 'external',
        pair: databases.map(({ address }, n) => ({ name: `db${n + 1}`, address })),
        user: managedAccounts.monitor.user,
        passwordFile: 'password',
      },
      http: { listen: `127.0.0.1:${port}` },
      alerts: {
        email: { emailalert: 'ops@example.org', command: `cat >> ${join(folder, 'mails')}`, gatherSeconds: 0.1 },
      },
      hooks: {
        after: [{ command: `echo "$WHITEHOLE_PRIMARY $WHITEHOLE_PRIMARY_ADDRESS" >> ${join(folder, 'hook')}` }],
      },
    }),
    { mode: 0o600 },
  )
  monitor = new Program(process.execPath, ['--import', 'tsx', 'src/main.ts', 'monitor', '--config', file])
})

afterAll(async () => {
  await monitor?.stop()
  await Promise.all(databases.map((one) => one.remove()))
  await removeFolder(folder)
})

const status = async (path: string): Promise<number> => (await fetch(`http://127.0.0.1:${port}${path}`)).status
const told = (): string => {
  if (!monitor.running) throw new Error(`it ended: ${monitor.output}`)
  return monitor.output
}

test(
  'a monitor of databases that somebody else looks after tells what they do, and changes nothing',
  { timeout: 60_000 },
  async () => {
    const before = await Promise.all(databases.map(settings))
    await until('the primary to be known', () => /"event":"primary-changed".*db1/.test(told()))
    expect(await status('/databases/db1/primary')).toBe(200)
    expect(await status('/databases/db2/primary')).toBe(503)

    // Somebody makes both writable, and then the other one alone.
    await database(2).query('SET GLOBAL read_only = 0')
    await until('both to be noticed', () => /"event":"two-primaries"/.test(told()))
    expect(await status('/databases/db1/primary')).toBe(503)
    await database(1).query('SET GLOBAL read_only = 1')
    await until('the new one', () => /"event":"primary-changed".*db2/.test(told()))
    expect(await status('/databases/db2/primary')).toBe(200)
    expect(await Promise.all(databases.map(settings))).toEqual(before)

    await database(2).stop('SIGKILL')
    await until('its loss', () => /"event":"primary-lost".*db2/.test(told()))
    await until('that there is none', () => /"event":"no-primary"/.test(told()))
    expect(await status('/databases/db1/primary')).toBe(503)
    const { read_only: readOnly } = (
      await database(1).query<{ read_only: number }>('SELECT @@global.read_only AS read_only')
    )[0]!
    expect(readOnly).toBe(1)

    const each = `db1 ${database(1).address}\ndb2 ${database(2).address}\n`
    await until('the hooks', () => readFileSync(join(folder, 'hook'), 'utf8') === each)
    const mails = (): string => readFileSync(join(folder, 'mails'), 'utf8')
    await until('mails', () => /critical: no database is writable/.test(mails()))
    const answer = await fetch(`http://127.0.0.1:${port}/v1/takeover`, { method: 'POST' })
    expect(answer.ok).toBe(false)
  },
)
