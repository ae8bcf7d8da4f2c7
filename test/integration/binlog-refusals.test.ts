import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { LogStreamOptions } from '../../src/applier/log-stream.ts'
import { BinlogConnection } from '../../src/adapters/binlog-connection.ts'
import { Databases } from '../../src/adapters/databases.ts'
import { WhiteholeError } from '../../src/domain/errors.ts'
import { advance, formatPosition, type Position } from '../../src/domain/position.ts'
import { Database, engineList } from '../support/databases.ts'
import { beyond, endOfLog, Following, setSql, someServerId } from '../support/following.ts'
import { createLogTables, databasesAt, follower } from '../support/log-tables.ts'
import { until } from '../support/processes.ts'

/** Where the log can't be read, or a part of it is lost, a node says so instead of going on with something wrong. */
describe.each(engineList)('the log of %s', (engine) => {
  let database: Database
  let following: Following | undefined

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
    await database.query('CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20))')
  })
  afterAll(async () => database?.remove())
  afterEach(async () => {
    await following?.stop()
    following = undefined
  })

  const followFrom = (start: Position | 'oldest', options: Partial<LogStreamOptions> = {}): Following => {
    following = new Following(databasesAt([database.port]), { start, ...options })
    return following
  }
  /** Runs statements on one connection and follows them from before. */
  const follow = async (sql: string, options: Partial<LogStreamOptions> = {}): Promise<Following> => {
    const start = await endOfLog(database)
    const connection = await database.connect()
    await connection.query(`${setSql('before')}; ${sql}`)
    connection.destroy()
    return followFrom(start, options)
  }
  const expectUnreadable = async (sql: string, text: RegExp): Promise<void> => {
    const followed = await follow(`${sql}; ${setSql('after')}`)
    const error = await followed.failure()
    expect(error).toBeInstanceOf(WhiteholeError)
    expect(error).toMatchObject({ code: 'log-unreadable', message: expect.stringMatching(text) })
    // What came before is delivered, nothing after it.
    expect(followed.keys).toEqual(['before'])
    await followed.stop()
  }

  test('stops with a clear error where an INSERT into it is logged as a statement', async () => {
    await expectUnreadable(
      `SET SESSION binlog_format = STATEMENT; ${setSql('as text', 'topsecret')}`,
      /^(?!.*topsecret).*statement \(INSERT, .*set binlog_format=ROW/,
    )
  })

  test.runIf(engine === 'mariadb')('stops where MIXED, the default of MariaDB, logs one as a statement', async () => {
    await expectUnreadable(`SET SESSION binlog_format = MIXED; ${setSql('as text')}`, /set binlog_format=ROW/)
  })

  test("stops where another table's change is logged as a statement: its triggers may have written to the cache", async () => {
    await expectUnreadable(
      "SET SESSION binlog_format = STATEMENT; INSERT INTO app.t (a) VALUES ('x')",
      /set binlog_format=ROW/,
    )
    await expectUnreadable("SET SESSION binlog_format = STATEMENT; UPDATE app.t SET a = 'y'", /statement \(UPDATE/)
  })

  test('goes on across statements of others where that was allowed, but never across one that names our schema', async () => {
    const sql = `SET SESSION binlog_format = STATEMENT; INSERT INTO app.t (a) VALUES ('x'); SET @a = 'z'; UPDATE app.t SET a = @a;
      SET SESSION binlog_format = ROW; ${setSql('after')}`
    const followed = await follow(sql, { foreignStatements: 'skip' })
    await followed.key('after')
    await followed.stop()
    const ours = await follow(`SET SESSION binlog_format = STATEMENT; ${setSql('x')}`, { foreignStatements: 'skip' })
    expect(await ours.failure()).toMatchObject({ code: 'log-unreadable' })
  })

  test('stops at a TRUNCATE, DROP or RENAME of its tables, which leaves no rows in the log', async () => {
    await expectUnreadable('TRUNCATE memcached.mc_namespaces', /TRUNCATE of mc_namespaces/)
    await expectUnreadable('USE memcached; TRUNCATE TABLE `mc_lanes`', /TRUNCATE of mc_lanes/)
    await expectUnreadable('RENAME TABLE memcached.mc_lanes TO memcached.x', /RENAME TABLE of mc_lanes/)
    await database.query('RENAME TABLE memcached.x TO memcached.mc_lanes')
    await expectUnreadable('DROP TABLE IF EXISTS app.none, memcached.mc_lanes', /DROP TABLE of mc_lanes/)
    await database.query(
      'CREATE TABLE memcached.mc_lanes (lane VARBINARY(96) PRIMARY KEY, incarnation BIGINT UNSIGNED, seq BIGINT UNSIGNED)',
    )
  })

  test('stops where a column of its tables has another shape, and names it', async () => {
    await database.query('ALTER TABLE memcached.mc_storage MODIFY mc_key VARBINARY(300) NOT NULL')
    const followed = await follow('SELECT 1')
    expect(await followed.failure()).toMatchObject({
      code: 'log-unreadable',
      message: expect.stringMatching(
        /mc_storage .*column 2 \(mc_key\) is expected to be VARBINARY\(250\), found VARCHAR or VARBINARY of 300 bytes/,
      ),
    })
    await database.query('ALTER TABLE memcached.mc_storage MODIFY mc_key VARBINARY(250) NOT NULL')
    await database.query('ALTER TABLE memcached.mc_lanes MODIFY seq INT UNSIGNED NOT NULL')
    await expectUnreadable(
      "INSERT INTO memcached.mc_lanes VALUES ('l', 1, 1)",
      /mc_lanes .*column 3 \(seq\) is expected to be BIGINT UNSIGNED, found INT/,
    )
    await database.query('ALTER TABLE memcached.mc_lanes MODIFY seq BIGINT UNSIGNED NOT NULL')
    await database.query('ALTER TABLE memcached.mc_storage DROP COLUMN mc_value')
    const start = await endOfLog(database)
    await database.query("INSERT INTO memcached.mc_storage VALUES (1, 'a', 2, 5, 0, 0)")
    const fewer = followFrom(start)
    expect(await fewer.failure()).toMatchObject({ message: expect.stringContaining('it has 6 columns, at least 7') })
    await database.query('ALTER TABLE memcached.mc_storage ADD COLUMN mc_value LONGBLOB NULL')
  })

  test('stops where the table of the log is not a BLACKHOLE table and somebody changes its rows', async () => {
    await database.query('ALTER TABLE memcached.mc_storage ENGINE=InnoDB')
    await expectUnreadable("UPDATE memcached.mc_storage SET mc_value = 'x'", /must be a BLACKHOLE table/)
    await expectUnreadable('DELETE FROM memcached.mc_storage', /must be a BLACKHOLE table/)
    await database.query('ALTER TABLE memcached.mc_storage ENGINE=BLACKHOLE')
  })

  test('F25: stops where rows come without all their columns', async () => {
    await database.query("INSERT INTO memcached.mc_lanes VALUES ('m', 1, 1)")
    await expectUnreadable(
      "SET SESSION binlog_row_image = MINIMAL; UPDATE memcached.mc_lanes SET seq = 2 WHERE lane = 'm'",
      /set binlog_row_image=FULL/,
    )
  })

  test('refuses an XA transaction that writes to the cache', async () => {
    await expectUnreadable(
      `XA START 'x'; ${setSql('in xa')}; INSERT INTO app.t (a) VALUES ('x'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'`,
      /XA transaction: that is not supported/,
    )
  })

  test('refuses an operation that a newer version has written, and a set without a value', async () => {
    await expectUnreadable("INSERT INTO memcached.mc_storage VALUES (1, 'a', 9, 5, 0, 0, 'v')", /operation 9/)
    await expectUnreadable("INSERT INTO memcached.mc_storage VALUES (1, 'a', 1, 5, 0, 0, NULL)", /set without a value/)
  })

  test.runIf(engine === 'mysql')('stops at compressed transactions', async () => {
    await expectUnreadable(
      `SET SESSION binlog_transaction_compression = ON; ${setSql('packed', 'x'.repeat(1000))}`,
      /set binlog_transaction_compression=OFF/,
    )
  })

  // The last one: such a number stays in the server's own set for ever.
  test.runIf(engine === 'mysql')('stops at tagged GTIDs, and says so where a server has any', async () => {
    const start = await endOfLog(database)
    const followed = followFrom(start)
    await followed.connectedTimes(1)
    await database.query(`${setSql('before')}; SET gtid_next = 'AUTOMATIC:tag'; ${setSql('tagged')}`)
    expect(await followed.failure()).toMatchObject({
      code: 'log-unreadable',
      message: expect.stringMatching(/tagged GTID/),
    })
    expect(followed.keys).toEqual(['before'])
    await expect(databasesAt([database.port]).findSource(start)).rejects.toThrow(/tagged GTIDs are not supported/)
  })
})

describe.each(engineList)('a position in the log of %s', (engine) => {
  let database: Database
  let following: Following | undefined

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
  })
  afterAll(async () => database?.remove())
  afterEach(async () => following?.stop())

  const purge = async (): Promise<void> => {
    await database.query('FLUSH BINARY LOGS')
    // A file stays as long as the server believes that a former reader still reads it.
    await until('the older files to be purged', async () => {
      const files = await database.query<{ Log_name: string }>('SHOW BINARY LOGS')
      await database.query(`PURGE BINARY LOGS TO '${files.at(-1)?.Log_name}'`)
      return files.length === 1
    })
  }

  test('that is purged ends the iteration with that error; the oldest one left can still be followed', async () => {
    const start = await endOfLog(database)
    await database.query(setSql('lost'))
    await database.query(setSql('lost too'))
    await purge()
    await database.query(setSql('kept'))
    following = new Following(databasesAt([database.port]), { start })
    expect(await following.failure()).toMatchObject({ code: 'log-purged' })
    expect(following.keys).toEqual([])
    following = new Following(databasesAt([database.port]), { start: 'oldest' })
    await following.key('kept')
    expect(following.keys).toEqual(['kept'])
    await following.stop()
    const middle = following.position
    await database.query(setSql('more'))
    following = new Following(databasesAt([database.port]), { start: middle as Position })
    await following.key('more')
    expect(following.keys).toEqual(['more'])
  })

  test('that a standby has not reached is waited for', async () => {
    const end = await endOfLog(database)
    const start = beyond(end, 2)
    // Nobody is writable, so nobody can tell that the position is lost; root may write all the same.
    await database.query('SET GLOBAL read_only = 1')
    try {
      following = new Following(databasesAt([database.port], 'external'), { start })
      await until('a refusal', () => following?.disconnected.some(({ message }) => message.includes('not yet')))
      expect(following.ended).toBe(false)
      await database.query(setSql('first'))
      await database.query(setSql('second'))
      // MySQL's surplus number stands alone, and the database's own never pass it by: it has it once it has given it.
      await database.query(setSql('third'))
      await following.key('third')
      expect(following.keys).toEqual(engine === 'mariadb' ? ['third'] : expect.arrayContaining(['third']))
    } finally {
      await database.query('SET GLOBAL read_only = 0')
    }
  })

  test('F24: ahead of the database is refused by MariaDB, and by MySQL only for numbers of its own', async () => {
    const end = await endOfLog(database)
    const ask = async (position: Position): Promise<Error | 'streams'> =>
      new Promise((resolve, reject) => {
        const request = {
          address: { host: '127.0.0.1', port: database.port },
          serverId: someServerId(),
          position,
          heartbeatMilliseconds: 200,
        }
        let connection: BinlogConnection | undefined
        const settle = (outcome: Error | 'streams'): void => {
          connection?.close()
          resolve(outcome)
        }
        const isHeartbeat = (event: Buffer): boolean => event[4] === 27 || event[4] === 41
        BinlogConnection.open(databasesAt([database.port]), request, {
          event: (event) => isHeartbeat(event) && settle('streams'),
          failed: settle,
        }).then((opened) => (connection = opened), reject)
      })
    expect(await ask(beyond(end, 100))).toMatchObject({ errno: 1236 })
    if (engine === 'mysql') {
      const foreign = { dialect: 'mysql', source: '11111111-2222-3333-4444-555555555555', sequence: 7 } as const
      // So a node asks for itself whether the database has all that it has (Databases.findSource).
      expect(await ask(advance(end, foreign))).toBe('streams')
      following = new Following(databasesAt([database.port]), { start: advance(end, foreign) })
      // The one database is the primary: what it lacks is lost.
      await until('the end', () => following?.ended)
      expect(following.error).toMatchObject({ code: 'log-diverged' })
      expect(following.connected).toEqual([])
    }
  })

  test.runIf(engine === 'mariadb')(
    'with a hole behind it is not followed across the hole, save on a filtered replica',
    async () => {
      const start = await endOfLog(database)
      await database.query(setSql('before'))
      const last = await endOfLog(database)
      const [gtid] = last.dialect === 'mariadb' ? last.domains.values() : []
      await database.query(`SET gtid_seq_no = ${(gtid?.sequence ?? 0) + 10}; ${setSql('after')}`)
      following = new Following(databasesAt([database.port]), { start })
      await until('the hole to be seen twice', () => {
        const holes = following?.disconnected.filter(
          (error) => error instanceof WhiteholeError && error.code === 'log-gap',
        )
        return (holes?.length ?? 0) >= 2
      })
      expect(following.keys).toEqual(['before'])
      expect(formatPosition(following.position as Position)).toBe(formatPosition(last))
      await following.stop()
      const { access } = databasesAt([database.port])
      const relay = { host: '127.0.0.1', port: database.port, own: true, filtered: true }
      const filtered = new Databases({ ...access, addresses: [], relays: [relay] })
      following = new Following(filtered, { start })
      await following.key('after')
      expect(following.keys).toEqual(['before', 'after'])
    },
  )

  test('is asked for in vain with a wrong password: the error names the account, never the password', async () => {
    const access = { ...databasesAt([database.port]).access, password: 'not-the-secret' }
    following = new Following(new Databases(access), { start: 'oldest' })
    await until('a refusal', () => (following?.disconnected.length ?? 0) > 0)
    const [error] = following.disconnected
    expect(error?.message).toContain(follower.user)
    expect(error?.message).not.toContain('not-the-secret')
  })
})
