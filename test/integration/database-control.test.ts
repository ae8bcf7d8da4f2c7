import type { Connection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DatabaseControlError } from '../../src/domain/database-control.ts'
import { covers } from '../../src/domain/position.ts'
import { Databases } from '../../src/adapters/databases.ts'
import { type Database, type Engine, engineList } from '../support/databases.ts'
import { Following } from '../support/following.ts'
import { long, Managed, managed, managedAccounts, ManagedPair } from '../support/managed.ts'
import { until } from '../support/processes.ts'

const set = (key: string): string => `CALL memcached.set_key(memcached.ns('default'), '${key}', 'v', 0)`

async function failing(promise: Promise<unknown>): Promise<DatabaseControlError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof DatabaseControlError) return error
  throw new Error('expected a DatabaseControlError', { cause: error })
}

/** A client of the database; what it is told of its statement, once it is told. */
class Writer {
  outcome: 'waiting' | 'acknowledged' | 'lost' | 'refused' = 'waiting'
  readonly connection: Connection

  private constructor(connection: Connection) {
    this.connection = connection
  }

  static async start(database: Database, statement: string): Promise<Writer> {
    const { user, password } = managedAccounts.application
    const writer = new Writer(await database.connectTcp({ user, password }))
    void writer.connection.query(statement).then(
      () => (writer.outcome = 'acknowledged'),
      (error: { errno?: number }) => (writer.outcome = (error.errno ?? 0) > 0 ? 'refused' : 'lost'),
    )
    return writer
  }
}

async function waiters(database: Database): Promise<number> {
  const rows = await database.query<{ State: string | null }>('SHOW PROCESSLIST')
  return rows.filter(({ State }) => /semi-sync ACK/i.test(State ?? '')).length
}

async function has(database: Database, key: string): Promise<boolean> {
  const rows = await database.query('SELECT 1 FROM memcached.mc_stored_keys WHERE mc_key = ?', [key])
  return rows.length > 0
}

async function stopped({ database }: Managed): Promise<void> {
  database.program.signal('SIGSTOP')
  await until('it to stand still', () => database.program.standsStill)
}

async function startWaiter(primary: Managed, key: string): Promise<Writer> {
  const before = await waiters(primary.database)
  const writer = await Writer.start(primary.database, set(key))
  await until(
    'a writer to wait for the standby',
    async () => {
      if ((await waiters(primary.database)) > before) return true
      throw new Error(JSON.stringify(await primary.database.query('SHOW PROCESSLIST')) + writer.outcome)
    },
    5000,
  )
  return writer
}

describe.each(engineList)('a pair of %s under the hand of a monitor', (engine: Engine) => {
  let pair: ManagedPair
  beforeAll(async () => {
    pair = await ManagedPair.start(engine)
  })
  afterAll(async () => pair?.remove())

  test('a probe sees roles, semi-sync, positions and the epoch, and a standby that hears its source', async () => {
    const { first, second } = pair
    await first.database.query(set('seen'))
    await second.caughtUpWith(first)
    const [one, two] = [await first.facts(), await second.facts()]
    expect(one).toMatchObject({
      serverId: first.database.serverId,
      readOnly: false,
      epoch: 1,
      replication: undefined,
      semiSync: { primaryEnabled: true, primaryActive: true, clients: 1, attached: [expect.any(String)] },
      diskFull: false,
    })
    expect(Math.abs(one.clockSeconds - Date.now() / 1000)).toBeLessThan(5)
    expect(two).toMatchObject({
      readOnly: true,
      epoch: 1,
      replication: {
        source: { host: '127.0.0.1', port: first.database.extraPort },
        receiver: 'connected',
        applier: 'running',
        error: '',
      },
      semiSync: { primaryEnabled: false, standbyEnabled: true },
    })
    expect(covers(two.replication!.received, one.position)).toBe(true)
    await until('a sign of life', async () => {
      const { replication } = await second.facts()
      return replication!.heartbeats > two.replication!.heartbeats
    })
    expect((await first.facts()).instance).toBe(one.instance)
  })

  test('a marker covers what was written before it, and a read-only database refuses it', async () => {
    const { first, second } = pair
    await first.database.query(set('before'))
    const position = await first.control.commitMarker(long)
    await second.locked(async (locked) => locked.waitForPosition(position, long))
    expect(await has(second.database, 'before')).toBe(true)
    expect((await failing(second.control.commitMarker(long))).code).toBe('read-only')
    expect(await second.locked(async (locked) => locked.compareHistory(await first.facts()))).toEqual({
      kind: 'contained',
    })
  })

  test('only one monitor has the lock: a successor ends the session of the one before', async () => {
    const { first } = pair
    const other = managed(first.database, 'db1 of another monitor')
    const before = await first.control.takeLock(long)
    const after = await other.takeLock(long)
    expect((await failing(before.disableSemiSync(long))).code).toBe('lock-lost')
    expect(before.held).toBe(false)
    expect(after.held).toBe(true)
    expect((await first.facts()).semiSync.primaryEnabled).toBe(true)
    after.release()
    other.close()
  })

  test('read-only, writable and back: a switchover and a second one, without a lost or a double primary', async () => {
    for (const [primary, standby, epoch] of [
      [pair.first, pair.second, 2],
      [pair.second, pair.first, 3],
    ] as const) {
      const end = await primary.locked(async (locked) => locked.makeReadOnly(long))
      const refused = await Writer.start(primary.database, set('late'))
      await until('the writer to be refused', () => refused.outcome === 'refused')
      await standby.locked(async (locked) => {
        await locked.waitForPosition(end, long)
        await locked.stopReceiving(long)
        expect(covers(await locked.drain(long), end)).toBe(true)
        expect((await failing(locked.prepare({ epoch, semiSync: true }, 1))).code).toMatch(/timed-out|lock-lost/)
      })
      await standby.locked(async (locked) => locked.prepare({ epoch, semiSync: false }, long))
      expect(await standby.facts()).toMatchObject({ readOnly: true, epoch, replication: undefined })
      await pair.open(standby, primary, epoch)
      await standby.database.query(set(`epoch${epoch}`))
      await primary.caughtUpWith(standby)
      expect(await has(primary.database, `epoch${epoch}`)).toBe(true)
    }
    expect(await has(pair.first.database, 'late')).toBe(false)
  })

  test('a change to read-only that a waiting writer holds up is withdrawn in time, and writes go on', async () => {
    const { first, second } = pair
    await stopped(second)
    const waiting = await startWaiter(first, 'held-up')
    const locked = await first.control.takeLock(long)
    const started = performance.now()
    const error = await failing(locked.makeReadOnly(300))
    expect(error.code).toBe('timed-out')
    expect(performance.now() - started).toBeLessThan(3000)
    expect(locked.held).toBe(true)
    locked.release()
    expect(waiting.outcome).toBe('waiting')
    second.database.program.signal('SIGCONT')
    await until('the writer to be acknowledged', () => waiting.outcome === 'acknowledged')
    expect((await first.facts()).readOnly).toBe(false)
    await first.database.query(set('goes-on'))
  })

  test('readers of a primary are ended, its standby stays', async () => {
    const { first } = pair
    const { user, password } = managedAccounts.node
    const address = { host: '127.0.0.1', port: first.database.port }
    const following = new Following(
      new Databases({ addresses: [address], user, password, database: 'memcached', topology: 'external' }),
    )
    const readers = async (): Promise<number[]> => {
      const rows = await first.database.query<{ Id: number; User: string; Command: string }>('SHOW PROCESSLIST')
      return rows.filter((row) => row.User === user && row.Command.startsWith('Binlog Dump')).map(({ Id }) => Id)
    }
    try {
      const [reader] = await until('the reader', async () => {
        const ids = await readers()
        return ids.length > 0 && ids
      })
      const before = (await first.facts()).semiSync.attached
      await first.locked(async (locked) => locked.evictReaders(long))
      // It comes back, as a node does that does not know better yet; that one is gone.
      await until('it to be gone', async () => !(await readers()).includes(reader ?? 0))
      expect((await first.facts()).semiSync.attached).toEqual(before)
    } finally {
      await following.stop()
    }
  })

  test('a silent standby: writers wait, neither probe nor fence releases one of them, and nobody reads what waits', async () => {
    const { first, second } = pair
    await stopped(second)
    const waiting = [await startWaiter(first, 'w1')]
    // A second one waits behind it, where SHOW MASTER STATUS would hang.
    waiting.push(await Writer.start(first.database, set('w2')))
    const facts = await first.facts()
    expect(facts.semiSync).toMatchObject({ primaryActive: true })
    expect(await has(first.database, 'w1')).toBe(false)
    const marker = first.control.commitMarker(500)
    expect((await failing(marker)).code).toBe('timed-out')

    expect(await (await first.control.takeLock(long)).fence(1000)).toBe('pending')
    expect(await letsIn(first)).toBe(false)
    await until('the clients to be gone', () => waiting.every(({ outcome }) => outcome !== 'waiting'))
    expect(waiting.map(({ outcome }) => outcome)).toEqual(['lost', 'lost'])
    expect(await has(first.database, 'w1')).toBe(false)
    expect((await first.facts()).semiSync.unacknowledged).toBe(facts.semiSync.unacknowledged)

    second.database.program.signal('SIGCONT')
    await until('the fence to be complete', async () => (await first.facts()).readOnly)
    expect(await letsIn(first)).toBe(false)
    await first.locked(async (locked) => locked.makeWritable(long))
    expect(await letsIn(first)).toBe(true)
  })

  test('an old primary with an unacknowledged tail: found, never merged; MariaDB truncates it, in that role alone', async () => {
    const { first, second } = pair
    const { waiting, tail } = await takeOver(first, second, 4)
    expect(await first.locked(async (locked) => locked.fence(1000)).catch(String)).toBe('pending')
    const living = await first.locked(async (locked) => locked.compareHistory(await second.facts()))
    expect(living).toEqual({
      kind: 'errant',
      gtids: expect.stringMatching(/\d/),
      cure: engine === 'mariadb' ? 'truncate' : 'rebuild',
    })
    await first.database.stop('SIGKILL')
    expect(await first.control.probe(long)).toMatchObject({ answers: false, kind: 'refused' })
    const { instance } = await second.facts()
    await first.database.launch(engine === 'mariadb' ? roleSlave : [])
    expect(waiting.outcome).toBe('lost')
    const verdict = await first.locked(async (locked) => locked.compareHistory(await second.facts()))
    if (engine === 'mysql') {
      // The engine says nothing by itself and would follow; so the tail stays until the database is rebuilt.
      expect(verdict).toEqual({ kind: 'errant', gtids: expect.stringMatching(/\d/), cure: 'rebuild' })
      return
    }
    expect(verdict).toEqual({ kind: 'contained' })
    expect(await has(first.database, tail)).toBe(false)
    await pair.second.locked(async (locked) => locked.makeReadOnly(long))
    await pair.open(second, first, 5)
    await second.database.query(set('after'))
    await first.caughtUpWith(second)
    expect(await has(first.database, 'after')).toBe(true)
    expect((await second.facts()).instance).toBe(instance)
  })

  test.runIf(engine === 'mariadb')(
    'a tail that a restart in the former role has committed is for a rebuild',
    async () => {
      const { first, second } = pair
      const { tail } = await takeOver(second, first, 6)
      await second.database.stop('SIGKILL')
      await second.database.launch()
      expect(await has(second.database, tail)).toBe(true)
      expect(await second.locked(async (locked) => locked.compareHistory(await first.facts()))).toEqual({
        kind: 'errant',
        gtids: expect.stringContaining(String(second.database.serverId)),
        cure: 'rebuild',
      })
    },
  )
})

describe('a standby of MariaDB that crashed while it did not sync its log', () => {
  test('R10: has in its tables what its log lost: it is for a rebuild, and does not follow', async () => {
    const standby = await Managed.start('mariadb', 'db2')
    try {
      // What is left after such a crash: the end of the log is gone, the tables (gtid_slave_pos is one) are whole.
      await standby.database.query("RESET MASTER; SET GLOBAL gtid_slave_pos = '0-1-100'")
      const primary = await standby.facts()
      expect(await standby.locked(async (locked) => locked.compareHistory(primary))).toMatchObject({
        kind: 'errant',
        cure: 'rebuild',
      })
      const refused = await failing(standby.locked(async (locked) => locked.follow(standby.control.address, long)))
      expect(refused).toMatchObject({ code: 'refused', message: expect.stringContaining('rebuild') })
    } finally {
      await standby.remove()
    }
  })
})

/** As a monitor that has lost the old one: the standby becomes primary without it, while it holds a write that nobody has. */
async function takeOver(old: Managed, standby: Managed, epoch: number): Promise<{ waiting: Writer; tail: string }> {
  await standby.caughtUpWith(old)
  const locked = await standby.control.takeLock(long)
  await locked.stopReceiving(long)
  const tail = `tail${epoch}`
  const waiting = await startWaiter(old, tail)
  await locked.drain(long)
  await locked.prepare({ epoch, semiSync: false }, long)
  await locked.makeWritable(long)
  await standby.database.query(set(`epoch${epoch}`))
  locked.release()
  expect(await has(standby.database, tail)).toBe(false)
  return { waiting, tail }
}

const roleSlave = ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1']

async function letsIn({ database }: Managed): Promise<boolean> {
  try {
    const client = await database.connectTcp(managedAccounts.application)
    await client.query('SELECT 1')
    return true
  } catch {
    return false
  }
}

describe('a primary of mariadb on which a GRANT waits for a standby that is gone', () => {
  let pair: ManagedPair
  beforeAll(async () => {
    pair = await ManagedPair.start('mariadb')
  })
  afterAll(async () => pair?.remove())

  test('locks out others, but not its monitor, which lets it go', async () => {
    const { first, second } = pair
    const { instance, epoch } = await first.facts()
    await second.database.stop('SIGKILL')
    const granted = first.database.query("CREATE USER late@'127.0.0.1'")
    await until('it to wait', async () => (await waiters(first.database)) > 0)
    let isAnswered = false
    const others = first.database
      .query('SELECT * FROM information_schema.GLOBAL_STATUS')
      .then(() => (isAnswered = true))
    const sight = await first.control.probe(2000)
    expect(sight).toMatchObject({ answers: true, facts: { instance, epoch, semiSync: { primaryEnabled: true } } })
    expect(isAnswered).toBe(false)
    await first.locked(async (locked) => locked.disableSemiSync(2000))
    await Promise.all([granted, others])
  })
})
