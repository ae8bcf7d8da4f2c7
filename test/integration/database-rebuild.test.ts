import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { copyDatabase } from '../../src/schema/copy-database.ts'
import { engineList } from '../support/databases.ts'
import { long, type Managed, ManagedPair } from '../support/managed.ts'
import { until } from '../support/processes.ts'

const set = (key: string): string => `CALL memcached.set_key(memcached.ns('default'), '${key}', 'v', 0)`

async function rebuild(target: Managed, source: Managed): Promise<void> {
  const [locking, reading, into] = await Promise.all([
    source.database.connect(),
    source.database.connect(),
    target.database.connect(),
  ])
  await copyDatabase({ locking, reading }, into)
  for (const connection of [locking, reading, into]) connection.destroy()
}

async function contents({ database }: Managed): Promise<unknown> {
  return {
    keys: await database.query('SELECT * FROM memcached.mc_stored_keys ORDER BY ns_id, mc_key'),
    namespaces: await database.query('SELECT * FROM memcached.mc_namespaces ORDER BY ns_id'),
    meta: await database.query('SELECT * FROM memcached.mc_meta ORDER BY name'),
    objects: await database.query(
      `SELECT ROUTINE_NAME AS name, ROUTINE_DEFINITION AS text, SQL_MODE, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'memcached'
       UNION ALL SELECT TRIGGER_NAME, ACTION_STATEMENT, SQL_MODE, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'memcached' ORDER BY 1`,
    ),
    users: await database.query("SELECT User, Host FROM mysql.user WHERE User <> 'root' ORDER BY 1, 2"),
  }
}

describe.each(engineList)('an old primary of %s that has what its successor lacks', (engine) => {
  let pair: ManagedPair
  beforeAll(async () => {
    pair = await ManagedPair.start(engine)
  })
  afterAll(async () => pair?.remove())

  test('is filled from its successor, follows it, and may become the primary again', async () => {
    const { first, second } = pair
    for (let n = 0; n < 50; n++) await first.database.query(set(`k${n}`))
    await first.database.query("CALL memcached.set_key(memcached.ns('default'), x'ff27', x'0080', 2147483647)")
    await second.caughtUpWith(first)
    await second.locked(async (locked) => {
      await locked.stopReceiving(long)
      await locked.drain(long)
      await locked.prepare({ epoch: 2, semiSync: false }, long)
      await locked.makeWritable(long)
    })
    await first.locked(async (locked) => locked.disableSemiSync(long))
    await first.database.query(set('surplus'))
    await second.database.query(
      "CALL memcached.create_namespace('later'); CREATE USER later@'10.0.%' IDENTIFIED BY 'x'",
    )
    await second.database.query(set('k1'))

    await expect(rebuild(first, second)).rejects.toThrow(/is writable: it may be the primary/)
    await first.locked(async (locked) => locked.makeReadOnly(long))
    const errant = await first.locked(async (locked) => locked.compareHistory(await second.facts()))
    expect(errant).toMatchObject({ kind: 'errant', cure: 'rebuild' })
    // Writes go on meanwhile.
    const writing = new AbortController()
    const writer = (async () => {
      for (let n = 0; !writing.signal.aborted; n++) await second.database.query(set(`during${n % 20}`))
    })()
    const monitor = new AbortController()
    const meddled: string[] = []
    // As a monitor would that finds a standby that does not follow.
    const meddling = (async () => {
      while (!monitor.signal.aborted) {
        const tried = first.locked(async (locked) => locked.follow(second.control.address, long))
        meddled.push(await tried.then(() => 'followed', String))
      }
    })()
    await until('the monitor to be at it', () => meddled.length > 0)
    try {
      await rebuild(first, second)
    } finally {
      monitor.abort()
      await meddling
      writing.abort()
      await writer
    }
    const verdict = await first.locked(async (locked) => locked.compareHistory(await second.facts()))
    expect(verdict).toEqual({ kind: 'contained' })
    expect((await first.facts()).readOnly).toBe(true)

    await second.locked(async (locked) => locked.makeReadOnly(long))
    await pair.open(second, first, 3)
    await second.database.query(set('after'))
    await first.caughtUpWith(second)
    expect(await contents(first)).toEqual(await contents(second))

    // And back: its history is good for a primary, and for readers of its log.
    const end = await second.locked(async (locked) => locked.makeReadOnly(long))
    await first.locked(async (locked) => {
      await locked.waitForPosition(end, long)
      await locked.stopReceiving(long)
    })
    await pair.open(first, second, 4)
    await first.database.query(set('back'))
    await second.caughtUpWith(first)
    expect(await contents(second)).toEqual(await contents(first))
    expect(await second.locked(async (locked) => locked.compareHistory(await first.facts()))).toEqual({
      kind: 'contained',
    })
  })

  test('is left alone where it holds an application of its own', async () => {
    const { first, second } = pair
    await second.database.query('SET GLOBAL read_only = 0; SET sql_log_bin = 0; CREATE DATABASE shop')
    await second.locked(async (locked) => locked.makeReadOnly(long))
    await expect(rebuild(second, first)).rejects.toThrow(/not whitehole's alone \(shop\)/)
  })
})
