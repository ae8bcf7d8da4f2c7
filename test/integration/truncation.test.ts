import { cp, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Connection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roleArguments } from '../../src/compose/recorded-role.ts'
import { formatPlace } from '../../src/domain/cluster-record.ts'
import type { Position } from '../../src/domain/position.ts'
import { copyDatabase } from '../../src/schema/copy-database.ts'
import { long, type Managed, managedAccounts, ManagedPair } from '../support/managed.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

const truncating = ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1']
const set = (key: string): string => `CALL memcached.set_key(memcached.ns('default'), '${key}', 'v', 0)`

let pair: ManagedPair
let epoch = 1
let primary: Managed
let standby: Managed

async function waiters({ database }: Managed): Promise<number> {
  const rows = await database.query<{ State: string | null }>('SHOW PROCESSLIST')
  return rows.filter(({ State }) => /semi-sync ACK/i.test(State ?? '')).length
}

async function has({ database }: Managed, key: string): Promise<boolean> {
  return (await database.query('SELECT 1 FROM memcached.mc_stored_keys WHERE mc_key = ?', [key])).length > 0
}

/** A write that waits for the standby: the log has it, the engine has not committed it. */
async function waiting(key: string): Promise<Connection> {
  const { user, password } = managedAccounts.application
  const client = await primary.database.connectTcp({ user, password })
  client.query(set(key)).catch(() => {})
  await until('the write to wait', async () => (await waiters(primary)) > 0)
  return client
}

/** The primary is killed with a write that waits. `received`: its standby gets it all the same, and is then the only one who may acknowledge it. */
async function killWith(key: string, { received }: { received: boolean }): Promise<void> {
  if (received) {
    standby.database.program.signal('SIGSTOP')
    await until('it to stand still', () => standby.database.program.standsStill)
  } else await standby.locked(async (locked) => locked.stopReceiving(long))
  await waiting(key)
  await primary.database.stop('SIGKILL')
  if (!received) return
  standby.database.program.signal('SIGCONT')
  await until('the standby to have it', () => has(standby, key))
}

/** @returns where the new epoch begins */
async function takeOver(): Promise<Position> {
  epoch += 1
  return standby.locked(async (locked) => {
    await locked.stopReceiving(long)
    const until_ = await locked.drain(long)
    await locked.prepare({ epoch, semiSync: false }, long)
    await locked.makeWritable(long)
    return until_
  })
}

/** As whoever starts the former primary asks. */
function role(promotion: Position): readonly string[] {
  const former = { name: 'former', instance: null, until: formatPlace(promotion) }
  return roleArguments('mariadb', {
    database: 'former',
    pair: ['former', 'other'],
    binlogIndex: join(primary.database.folder, 'data', 'binlog.index'),
    record: {
      epoch,
      primary: 'other',
      standby: 'former',
      mode: 'solo',
      stage: 'steady',
      promotion: formatPlace(promotion),
      instance: null,
      standbyInstance: null,
      former,
      cause: 'takeover',
    },
  })
}

/** The former primary follows its successor, and both are a pair again, the other way round. */
async function pairAgain(): Promise<void> {
  epoch += 1
  await standby.locked(async (locked) => locked.makeReadOnly(long))
  await pair.open(standby, primary, epoch)
  ;[primary, standby] = [standby, primary]
  await primary.database.query(set(`after${epoch}`))
  await standby.caughtUpWith(primary)
}

async function rebuild(target: Managed, source: Managed): Promise<void> {
  const connections = await Promise.all([
    source.database.connect(),
    source.database.connect(),
    target.database.connect(),
  ])
  const [locking, reading, into] = connections
  await copyDatabase({ locking, reading }, into)
  for (const connection of connections) connection.destroy()
}

const compare = (given?: { filtered: boolean }) =>
  primary.locked(async (locked) => locked.compareHistory(await standby.facts(), given))
const passedOver = () => primary.locked(async (locked) => locked.passedOver(await standby.facts()))

/** The log of a killed server, aside and back: what it is where a truncating start was ended before it had cut it. */
async function logAside(work: () => Promise<void>): Promise<void> {
  const data = join(primary.database.folder, 'data')
  const aside = await temporaryFolder()
  const names = async (folder: string): Promise<string[]> =>
    (await readdir(folder)).filter((name) => /^binlog\.(\d+|index)$/.test(name))
  try {
    await mkdir(aside, { recursive: true })
    for (const name of await names(data)) await cp(join(data, name), join(aside, name))
    await work()
    for (const name of await names(data)) await rm(join(data, name))
    for (const name of await names(aside)) await cp(join(aside, name), join(data, name))
  } finally {
    await removeFolder(aside)
  }
}

describe('a former primary of MariaDB that starts in the truncating role', () => {
  beforeAll(async () => {
    pair = await ManagedPair.start('mariadb')
    primary = pair.first
    standby = pair.second
  })
  afterAll(async () => pair?.remove())

  test('as a standby takes back what it had written itself, its successor has, and the start has cut off', async () => {
    await killWith('common', { received: true })
    await takeOver()
    await primary.database.launch(truncating)
    expect(await has(primary, 'common')).toBe(false)
    expect(await compare()).toEqual({ kind: 'contained' })
    expect(await passedOver()).toContain(`-${primary.database.serverId}-`)
    await primary.locked(async (locked) => locked.follow(standby.control.address, long))
    await primary.caughtUpWith(standby)
    expect(await has(primary, 'common')).toBe(true)
    expect(await passedOver()).toBe('')
    await pairAgain()
  })

  test('as a relay would pass over it in silence: it is for a rebuild', async () => {
    await killWith('ignored', { received: true })
    await takeOver()
    await primary.database.launch(truncating)
    const own = expect.stringContaining(`-${primary.database.serverId}-`) as string
    expect(await compare({ filtered: false })).toEqual({ kind: 'errant', gtids: own, cure: 'rebuild' })
    expect(await compare({ filtered: true })).toEqual({ kind: 'errant', gtids: own, cure: 'rebuild' })
    // What MariaDB does with it: it is where its source is, stands there without an error, and lacks the row.
    const { address } = standby.control
    await primary.locked(async (locked) => locked.followAsRelay({ ...address, adminPort: undefined }, long))
    await standby.database.query(set('beyond'))
    await primary.caughtUpWith(standby)
    expect(await has(primary, 'beyond')).toBe(true)
    expect((await primary.facts()).replication?.error).toBe('')
    expect(await has(primary, 'ignored')).toBe(false)
    expect(await passedOver()).toEqual(own)
    // Nor does it come back where it is made a standby after that; so it is found before it is paired.
    await primary.locked(async (locked) => locked.follow(address, long))
    await primary.caughtUpWith(standby)
    expect(await has(primary, 'ignored')).toBe(false)
    expect(await passedOver()).toEqual(own)

    await rebuild(primary, standby)
    expect(await has(primary, 'ignored')).toBe(true)
    expect(await compare({ filtered: false })).toEqual({ kind: 'contained' })
    await pairAgain()
  })

  test('is not started so where its successor has all: ended before the log is cut it would lack a row, and nobody could tell', async () => {
    await killWith('kept', { received: true })
    const promotion = await takeOver()
    const as = role(promotion)
    await primary.database.launch(as)
    expect(await has(primary, 'kept')).toBe(true)
    expect(await compare()).toEqual({ kind: 'contained' })
    await pairAgain()

    await killWith('lost', { received: true })
    await takeOver()
    await logAside(async () => {
      await primary.database.launch(truncating)
      await primary.database.stop('SIGKILL')
    })
    await primary.database.launch()
    expect(await compare()).toEqual({ kind: 'contained' })
    await primary.locked(async (locked) => locked.follow(standby.control.address, long))
    await primary.caughtUpWith(standby)
    expect(await has(primary, 'lost')).toBe(false)
    expect(await passedOver()).toBe('')
    expect(as).toEqual([])
    await rebuild(primary, standby)
    await pairAgain()
  })

  test('is started so where it alone has something, once: ended before the log is cut it is found, and for a rebuild', async () => {
    await killWith('tail', { received: false })
    const promotion = await takeOver()
    expect(role(promotion)).toEqual(truncating)
    await logAside(async () => {
      await primary.database.launch(truncating)
      expect(await has(primary, 'tail')).toBe(false)
      expect(await compare()).toEqual({ kind: 'contained' })
      await primary.database.stop('SIGKILL')
    })
    const again = role(promotion)
    expect(again).toEqual([])
    await primary.database.launch(again)
    expect(await compare()).toMatchObject({ kind: 'errant', cure: 'rebuild' })
    await rebuild(primary, standby)
    await pairAgain()
  })
})
