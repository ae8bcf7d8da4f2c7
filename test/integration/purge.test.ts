import type { Connection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { keyFromText } from '../../src/domain/key.ts'
import { armFailpoint } from '../../src/runtime/failpoints.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Purge } from '../../src/upkeep/purge.ts'
import { PurgeSession } from '../../src/upkeep/purge-session.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { WritingWorld } from '../support/writing.ts'

const graceSeconds = 60

describe.each(engineList)('the purge of the directory on %s', (engine) => {
  let world: WritingWorld
  let sql: Connection
  let other: Connection
  let session: PurgeSession

  beforeAll(async () => {
    world = await WritingWorld.start(engine)
    sql = await world.database.connect({ database: 'memcached' })
    other = await world.database.connect({ database: 'memcached' })
  })
  afterAll(async () => world?.stop())
  beforeEach(async () => {
    await sql.query('DELETE FROM mc_stored_keys; DELETE FROM mc_namespaces')
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'), (2, 'two')")
    session = await opened()
  })
  afterEach(() => {
    armFailpoint(undefined)
    session.sever()
  })

  /** The server frees a severed session's lock a moment later. */
  const opened = (): Promise<PurgeSession> =>
    until('the lock of the purge', () => PurgeSession.open(world.databases(), graceSeconds))
  const keys = async (id = 1): Promise<string[]> => {
    const [rows] = await sql.query('SELECT mc_key FROM mc_stored_keys WHERE ns_id = ? ORDER BY mc_key', [id])
    return (rows as { mc_key: Buffer }[]).map(({ mc_key }) => String(mc_key))
  }
  /** As if everything that is there by now had happened so long ago. */
  const age = async (seconds: number): Promise<void> => {
    await sql.query('UPDATE mc_stored_keys SET created = created - INTERVAL ? SECOND', [seconds])
  }
  const purge = async (): Promise<Record<string, number>> => {
    const sum: Record<string, number> = {}
    for (const id of await session.namespacesWithRows()) {
      for (let after: string | undefined = ''; after !== undefined;) {
        const chunk = await session.chunk(id, after, 3)
        for (const [cause, count] of Object.entries(chunk.purged)) sum[cause] = (sum[cause] ?? 0) + count
        after = chunk.last
      }
    }
    return sum
  }

  test('rows that died long ago go, whatever they died of; what lives, or died just now, stays', async () => {
    for (const key of ['live', 'deleted', 'expired']) await sql.query('CALL set_key(1, ?, "v", 0)', [key])
    await sql.query('CALL set_key(1, "lasting", "v", 100000); CALL set_key(2, "flushed", "v", 0)')
    await sql.query('CALL delete_key(1, "deleted"); CALL delete_key(1, "absent")')
    await sql.query('UPDATE mc_stored_keys SET expire = UNIX_TIMESTAMP() - ? WHERE mc_key = "expired"', [
      graceSeconds + 1,
    ])
    await age(graceSeconds + 1)
    await sql.query('CALL flush_namespace(2); CALL set_key(2, "after", "v", 0)')
    await sql.query('CALL delete_key(1, "just now")')
    expect(await purge()).toEqual({ deleted: 2, expired: 1, flushed: 1, dropped: 0 })
    expect(await keys(1)).toEqual(['just now', 'lasting', 'live'])
    expect(await keys(2)).toEqual(['after'])
  })

  test('a key that expired within the time of grace stays, as does one whose expiry was past when it was stored', async () => {
    await sql.query('CALL set_key(1, "k", "v", 0); CALL set_key(1, "born dead", "v", 2592001)')
    await sql.query('UPDATE mc_stored_keys SET expire = UNIX_TIMESTAMP() - 5 WHERE mc_key = "k"')
    expect(await purge()).toMatchObject({ expired: 0 })
    expect(await keys()).toEqual(['born dead', 'k'])
  })

  test('rows of a dropped namespace go, those of its successor stay', async () => {
    await sql.query('CALL set_key(2, "a", "v", 0); CALL set_key(2, "b", "v", 0); CALL drop_namespace(2)')
    expect((await session.chunk(2, '', 1)).purged).toMatchObject({ dropped: 1 })
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (2, 'two'); CALL set_key(2, 'c', 'new', 0)")
    expect(await purge()).toMatchObject({ flushed: 1 })
    expect(await keys(2)).toEqual(['c'])
  })

  test('a namespace that takes the id of a dropped one while the purge looks at its rows loses nothing', async () => {
    await sql.query('CALL set_key(2, "a", "v", 0); CALL set_key(2, "b", "v", 0); CALL drop_namespace(2)')
    session.sever()
    const databases = world.databases()
    const connect = databases.connect.bind(databases)
    let late = async (): Promise<void> => {
      late = async () => {}
      await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (2, 'two'); CALL set_key(2, 'b', 'new', 0)")
    }
    databases.connect = async (...given) => {
      const connection = await connect(...given)
      const query = connection.query.bind(connection) as (options: { sql: string }) => Promise<unknown>
      // After the question about the namespace and the look at its rows, before their lock.
      connection.query = (async (options: { sql: string }) => {
        if (options.sql.startsWith('START')) await late()
        return query(options)
      }) as typeof connection.query
      return connection
    }
    session = await until('the lock of the purge', () => PurgeSession.open(databases, graceSeconds))
    expect((await session.chunk(2, '', 10)).purged).toMatchObject({ dropped: 1 })
    expect(await keys(2)).toEqual(['b'])
  })

  test('R34: a row that somebody holds is skipped, and not waited for', async () => {
    await sql.query('CALL delete_key(1, "held"); CALL delete_key(1, "free")')
    await age(graceSeconds + 1)
    await other.query('START TRANSACTION; CALL set_key(1, "held", "new", 0)')
    expect(await purge()).toMatchObject({ deleted: 1 })
    await other.query('COMMIT')
    expect(await keys()).toEqual(['held'])
  })

  test.each(['COMMIT', 'ROLLBACK'])(
    'R34: a routine that waits for a row which the purge deletes stores its key once the purge ends by %s',
    async (end) => {
      await sql.query('CALL delete_key(1, "k")')
      await age(graceSeconds + 1)
      const purging = await world.database.connect({ database: 'memcached' })
      await purging.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION')
      await purging.query('SELECT 1 FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = "k" FOR UPDATE')
      await purging.query('DELETE FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = "k"')
      const stored = other.query('CALL set_key(1, "k", "new", 0)')
      await waits()
      await purging.query(end)
      await stored
      purging.destroy()
      expect(await live('k')).toBe(true)
    },
  )

  test("R34: a node's batch that meets a row which the purge has deleted and not committed stores its key", async () => {
    const writer = world.writer(`n-${engine}`)
    const clients = writer.openSession()
    await sql.query('CALL delete_key(1, "k")')
    await age(graceSeconds + 1)
    const purging = await world.database.connect({ database: 'memcached' })
    await purging.query('SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION')
    await purging.query('DELETE FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = "k"')
    const mutation = { namespaceId: 1, key: keyFromText('k'), value: Buffer.from('new'), flags: 0n, exptime: 0 }
    const outcome = clients.submit({ kind: 'set', ...mutation })
    await waits()
    await purging.query('COMMIT')
    purging.destroy()
    expect(await outcome).toMatchObject({ kind: 'stored' })
    // The log, which acknowledges, shows a transaction a moment before the engine does.
    await until('the row to live', () => live('k'))
    await writer.close()
  })

  test('one at a time: the lock goes with its connection', async () => {
    expect(await PurgeSession.open(world.databases(), graceSeconds)).toBeUndefined()
    session.sever()
    session = await opened()
  })

  test('keys of any bytes, and more of them than one piece holds', async () => {
    const odd = [Buffer.from([0]), Buffer.from([255, 0, 39]), Buffer.from('~x'), Buffer.alloc(250, 7), Buffer.from("'")]
    for (const key of odd) await sql.query('CALL set_key(1, ?, "v", 0)', [key])
    for (let n = 0; n < 20; n++) await sql.query('CALL set_key(1, ?, "v", 0)', [`k${n}`])
    await sql.query('CALL flush_namespace(1)')
    expect(await purge()).toMatchObject({ flushed: 25 })
    expect(await keys()).toEqual([])
  })

  test('a purge that dies before its commit has purged nothing, and the next one does it', async () => {
    await sql.query('CALL set_key(1, "k", "v", 0); CALL flush_namespace(1)')
    armFailpoint('mid-purge', () => {
      throw new Error('died')
    })
    await expect(purge()).rejects.toThrow('died')
    session.sever()
    session = await opened()
    expect(await keys()).toEqual(['k'])
    expect(await purge()).toMatchObject({ flushed: 1 })
  })

  test('of two nodes one is elected, and the other follows where it goes away', async () => {
    session.sever()
    const purges = [1, 2].map(
      () =>
        new Purge({
          databases: world.databases(),
          rowsPerSecondMax: 1e6,
          pauseMilliseconds: 20,
          graceSeconds,
          logger: silentLogger,
        }),
    )
    try {
      for (const one of purges) one.start()
      const first = await until('an election', () => purges.find(({ elected }) => elected))
      await sql.query('CALL set_key(1, "k", "v", 0); CALL flush_namespace(1)')
      await until('the purge', () => first.figures.flushed === 1)
      first.stop()
      const second = await until('another election', () => purges.find((one) => one !== first && one.elected))
      await sql.query('CALL set_key(1, "k", "v", 0); CALL flush_namespace(1)')
      await until('its purge', () => second.figures.flushed === 1)
      await until('the passes', () => second.figures.passes > 1)
      expect(purges.filter(({ elected }) => elected)).toEqual([second])
    } finally {
      for (const one of purges) one.stop()
    }
    session = await opened()
  })

  test('a database that became read-only is left: somebody is elected on the one that is writable', async () => {
    await sql.query('SET GLOBAL read_only = 1')
    try {
      await expect(session.namespacesWithRows()).rejects.toThrow(/read-only/)
    } finally {
      await sql.query('SET GLOBAL read_only = 0')
    }
  })

  async function live(key: string): Promise<boolean> {
    const [rows] = await sql.query(
      'SELECT k.expire = 0 AND k.version >> 33 = n.generation AS live FROM mc_stored_keys k JOIN mc_namespaces n USING (ns_id) WHERE mc_key = ?',
      [key],
    )
    return Number((rows as { live: number }[])[0]?.live) === 1
  }

  // Not by INNODB_TRX: it is a copy that is not renewed while it is read more often than every 100 ms.
  function waits(): Promise<boolean> {
    return until('a transaction to wait for a row lock', async () => {
      const [found] = await world.database.query<{ Value: string }>(
        "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
      )
      return Number(found?.Value) > 0
    })
  }
})
