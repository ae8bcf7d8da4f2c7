import type { LogStreamOptions } from '../../src/applier/log-stream.ts'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { formatGtid, formatPosition, type Position } from '../../src/domain/position.ts'
import { Database, engineList } from '../support/databases.ts'
import { endOfLog, Following, setSql } from '../support/following.ts'
import { createLogTables, databasesAt } from '../support/log-tables.ts'

/** The log of a real server becomes whole transactions: the traps of BLACKHOLE tables, row events and foreign tables. */
describe.each(engineList)('transactions in the log of %s', (engine) => {
  let database: Database
  let start: Position
  let following: Following

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
    await database.query('CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(20))')
    await database.query('CREATE TABLE app.plain (id INT) ENGINE=MyISAM')
  })
  afterAll(async () => database?.remove())

  /** Runs statements on one connection and gives what a node then reads. */
  const follow = async (sql: string, options: Partial<LogStreamOptions> = {}, fails = false): Promise<Following> => {
    start = await endOfLog(database)
    const connection = await database.connect()
    const failure = await connection.query(sql).then(
      () => undefined,
      (error: unknown) => error,
    )
    connection.destroy()
    if (failure !== undefined && !fails) throw failure
    await database.query(setSql('end'))
    following = new Following(databasesAt([database.port]), { start, ...options })
    await following.key('end')
    return following
  }
  afterEach(async () => following?.stop())

  const eventsSince = async (): Promise<{ type: string; info: string }[]> => {
    const [status] = await database.query<{ File: string }>(
      engine === 'mariadb' ? 'SHOW MASTER STATUS' : 'SHOW BINARY LOG STATUS',
    )
    const rows = await database.query<{ Event_type: string; Info: string }>(`SHOW BINLOG EVENTS IN '${status?.File}'`)
    const from = rows.findLastIndex(({ Info }) => Info.includes(formatPosition(start).split(',')[0] ?? ''))
    return rows.slice(from + 1).map(({ Event_type, Info }) => ({ type: Event_type, info: Info }))
  }

  test('a transaction of the BLACKHOLE table alone is read, though it ends in QUERY COMMIT, not in XID', async () => {
    const { chunks } = await follow(setSql('a', 'text'))
    const [first] = chunks
    expect(first).toMatchObject({
      first: true,
      last: true,
      entries: [
        { kind: 'set', namespaceId: 1, key: 'a', generation: 3, expiry: 0, flags: '0', value: Buffer.from('text') },
      ],
    })
    expect(formatPosition(first!.after)).toContain(formatGtid(first!.gtid).split(/[:-]/).at(-1))
    const events = await eventsSince()
    expect(events.some(({ type, info }) => type === 'Query' && info.includes('COMMIT'))).toBe(true)
    expect(events.some(({ type }) => type === 'Xid')).toBe(false)
  })

  test('a transaction over several tables comes as one, in the order of its statements', async () => {
    const { chunks } = await follow(`BEGIN;
      INSERT INTO memcached.mc_lanes VALUES ('n1/0', 281474976710655, 1);
      INSERT INTO memcached.mc_namespaces (ns_id, ns_name, generation) VALUES (7, 'seven', 3);
      UPDATE memcached.mc_namespaces SET flush_due = 1800000000 WHERE ns_id = 7;
      UPDATE memcached.mc_namespaces SET generation = 4, flush_due = 0;
      UPDATE memcached.mc_lanes SET seq = 2;
      ${setSql('b')};
      INSERT INTO memcached.mc_storage VALUES (-1, 'c', 2, 5 << 33 | 7, 0, 0, NULL), (2147483647, 'd', 3, 1073741823 << 33 | 8589934591, 4102444800, 0, NULL);
      DELETE FROM memcached.mc_namespaces; DELETE FROM memcached.mc_lanes; COMMIT`)
    expect(chunks[0]?.entries).toEqual([
      { kind: 'lane', lane: 'n1/0', incarnation: 281474976710655, sequence: 1 },
      { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 3, begins: true, dropped: false, flushDue: 0 },
      {
        kind: 'namespace',
        namespaceId: 7,
        name: 'seven',
        generation: 3,
        begins: false,
        dropped: false,
        flushDue: 1800000000,
      },
      { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 4, begins: true, dropped: false, flushDue: 0 },
      { kind: 'lane', lane: 'n1/0', incarnation: 281474976710655, sequence: 2 },
      {
        kind: 'set',
        namespaceId: 1,
        key: 'b',
        generation: 3,
        expiry: 0,
        versionHigh: 6,
        versionLow: 5,
        flags: '0',
        value: Buffer.from('v'),
      },
      { kind: 'delete', namespaceId: -1, key: 'c' },
      { kind: 'touch', namespaceId: 2147483647, key: 'd', generation: 1073741823, expiry: 4102444800 },
      { kind: 'namespace', namespaceId: 7, name: 'seven', generation: 4, begins: false, dropped: true, flushDue: 0 },
    ])
    expect(chunks).toHaveLength(2)
  })

  test('every byte in keys and values, and flags up to 64 bits, come as they were written', async () => {
    start = await endOfLog(database)
    const key = Buffer.from(Array.from({ length: 250 }, (_, index) => 255 - index))
    const value = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    const connection = await database.connect()
    for (const flags of ['0', '1023', '1024', '4294967296', '9007199254740993', '18446744073709551615']) {
      const sql = `INSERT INTO memcached.mc_storage VALUES (1, ?, 1, 3 << 33 | 5, 0, ${flags}, ?)`
      await connection.query(sql, [key, value])
    }
    await connection.query(setSql('end'))
    following = new Following(databasesAt([database.port]), { start })
    await following.key('end')
    const sets = following.entries.flatMap((entry) => (entry.kind === 'set' && entry.key !== 'end' ? [entry] : []))
    expect(sets.map(({ flags }) => flags)).toEqual([
      '0',
      '1023',
      '1024',
      '4294967296',
      '9007199254740993',
      '18446744073709551615',
    ])
    for (const set of sets) {
      expect(Buffer.from(set.key, 'latin1').equals(key)).toBe(true)
      expect(set.value.equals(value)).toBe(true)
    }
  })

  test('a rolled-back transaction leaves nothing', async () => {
    const { keys } = await follow(`BEGIN; ${setSql('gone')}; INSERT INTO app.t VALUES (NULL, 'x'); ROLLBACK`)
    expect(keys).toEqual(['end'])
  })

  test('a rollback to a savepoint takes along what came after it alone', async () => {
    const { keys } = await follow(
      `BEGIN; ${setSql('a')}; SAVEPOINT s; ${setSql('gone')}; ROLLBACK TO s; ${setSql('b')}; COMMIT`,
    )
    expect(keys).toEqual(['a', 'b', 'end'])
  })

  // MySQL refuses such transactions: enforce_gtid_consistency.
  test.runIf(engine === 'mariadb')(
    'a rollback to a savepoint counts also where a table without transactions keeps the rows in the log',
    async () => {
      const { keys } = await follow(
        `BEGIN; ${setSql('a')}; SAVEPOINT \`S p\`; ${setSql('gone')}; INSERT INTO app.plain VALUES (1); ${setSql('gone2')};
       ROLLBACK TO \`s p\`; ${setSql('b')}; COMMIT;
       BEGIN; ${setSql('gone3')}; INSERT INTO app.plain VALUES (2); ROLLBACK`,
      )
      expect(keys).toEqual(['a', 'b', 'end'])
    },
  )

  test('a multi-row INSERT that fails leaves nothing', async () => {
    const { keys } = await follow(
      "INSERT INTO memcached.mc_storage VALUES (1, 'gone', 1, 1, 0, 0, 'v'), (NULL, NULL, 1, 1, 0, 0, 'v')",
      {},
      true,
    )
    expect(keys).toEqual(['end'])
  })

  test('an INSERT that the server splits over several row events is one transaction', async () => {
    const rows = Array.from(
      { length: 40 },
      (_, index) => `(1, 'k${index}', 1, 3 << 33 | 5, 0, 0, REPEAT('${index % 10}', 100000))`,
    )
    const { chunks } = await follow(`INSERT INTO memcached.mc_storage VALUES ${rows.join(', ')}`)
    expect((await eventsSince()).filter(({ type }) => type.startsWith('Write_rows')).length).toBeGreaterThan(3)
    expect(chunks).toHaveLength(2)
    const [chunk] = chunks
    expect(chunk?.bytes).toBeGreaterThan(4_000_000)
    for (const [index, entry] of (chunk?.entries ?? []).entries()) {
      const value = Buffer.alloc(100_000, String(index % 10))
      if (entry.kind !== 'set') throw new Error(`a ${entry.kind}`)
      expect([entry.key, entry.value.equals(value)]).toEqual([`k${index}`, true])
    }
    expect(chunk?.entries).toHaveLength(40)
  })

  test('a value larger than a packet of the protocol (16 MB) comes whole', async () => {
    const { entries } = await follow(
      "SET SESSION max_statement_time = 0; INSERT INTO memcached.mc_storage VALUES (1, 'large', 1, 3 << 33 | 5, 0, 0, CONCAT('<', REPEAT('x', 30000000), '>'))".replace(
        engine === 'mysql' ? /^[^;]*; / : /^$/,
        '',
      ),
    )
    const [large] = entries
    if (large?.kind !== 'set') throw new Error('no set')
    expect(large.value.length).toBe(30_000_002)
    expect(large.value.equals(Buffer.from(`<${'x'.repeat(30_000_000)}>`))).toBe(true)
  })

  test('a transaction above the bound comes in parts, one after the other, the last one marked', async () => {
    const rows = (from: number): string =>
      Array.from(
        { length: 500 },
        (_, index) => `(1, 'p${from + index}', 1, 3 << 33 | 5, 0, 0, REPEAT('x', 1000))`,
      ).join(', ')
    const inserts = [0, 500, 1000, 1500].map((from) => `INSERT INTO memcached.mc_storage VALUES ${rows(from)}`)
    const { chunks } = await follow(`BEGIN; ${inserts.join('; ')}; COMMIT`, { transactionBytesMax: 600_000 })
    const parts = chunks.slice(0, -1)
    expect(parts.map(({ first, last }) => ({ first, last }))).toEqual([
      { first: true, last: false },
      { first: false, last: false },
      { first: false, last: false },
      { first: false, last: false },
      { first: false, last: true },
    ])
    expect(parts.flatMap(({ entries }) => entries)).toHaveLength(2000)
    expect(new Set(parts.map(({ gtid }) => formatGtid(gtid))).size).toBe(1)
    expect(new Set(parts.map(({ after }) => formatPosition(after))).size).toBe(1)
    expect(parts.flatMap(({ entries }) => entries).map((entry) => ('key' in entry ? entry.key : ''))).toEqual(
      Array.from({ length: 2000 }, (_, index) => `p${index}`),
    )
  })

  test('what others write is passed over, and moves the position', async () => {
    start = await endOfLog(database)
    following = new Following(databasesAt([database.port]), { start })
    await following.connectedTimes(1)
    await database.query("INSERT INTO app.t (a) VALUES ('x'); UPDATE app.t SET a = 'y'; DELETE FROM app.t")
    await database.query('CREATE DATABASE other; CREATE TABLE other.mc_storage (a INT) ENGINE=InnoDB')
    await database.query('INSERT INTO other.mc_storage VALUES (1); TRUNCATE other.mc_storage; DROP DATABASE other')
    await database.query(
      'CREATE TABLE memcached.mc_stored_keys (a JSON); INSERT INTO memcached.mc_stored_keys VALUES (\'{"a":1}\')',
    )
    await database.query('DROP TABLE memcached.mc_stored_keys')
    const end = await endOfLog(database)
    await expect
      .poll(() => following.position && formatPosition(following.position), { timeout: 20_000 })
      .toBe(formatPosition(end))
    expect(following.entries).toEqual([])
    expect(following.batches.every((batch) => batch.length === 1)).toBe(true)
  })

  test('rows that a trigger writes come with the statement that fired it', async () => {
    await database.query(`CREATE TRIGGER app.t_log AFTER INSERT ON app.t FOR EACH ROW
      INSERT INTO memcached.mc_storage VALUES (1, NEW.a, 1, 3 << 33 | 5, 0, 0, 'from a trigger')`)
    const { keys, chunks } = await follow("INSERT INTO app.t (a) VALUES ('t1'), ('t2')")
    await database.query('DROP TRIGGER app.t_log')
    expect(keys).toEqual(['t1', 't2', 'end'])
    expect(chunks[0]?.entries).toHaveLength(2)
  })

  test('statements that the log repeats as comments do not disturb', async () => {
    const option = engine === 'mariadb' ? 'binlog_annotate_row_events' : 'binlog_rows_query_log_events'
    const { keys } = await follow(`SET SESSION ${option} = 1; ${setSql('annotated')}`)
    const type = engine === 'mariadb' ? 'Annotate_rows' : 'Rows_query'
    expect((await eventsSince()).some((event) => event.type === type)).toBe(true)
    expect(keys).toEqual(['annotated', 'end'])
  })

  test('columns that a later migration appends are passed over, whatever their type', async () => {
    const columns = [
      'c1 TINYINT', 'c2 SMALLINT', 'c3 MEDIUMINT', 'c4 FLOAT', 'c5 DOUBLE', 'c6 DECIMAL(20,5)', 'c7 DATE', 'c8 TIME(3)', 'c9 DATETIME(6)',
      'c10 TIMESTAMP(2) NULL', 'c11 YEAR', 'c12 CHAR(10)', 'c13 VARCHAR(400)', 'c14 BIT(11)', "c15 ENUM('a','b')", "c16 SET('a','b')",
      'c17 TINYBLOB', 'c18 TEXT', 'c19 MEDIUMTEXT', 'c20 JSON', 'c21 BINARY(200)', 'c22 INT',
    ] // prettier-ignore
    const values = `-1, 2, 3, 1.5, 2.5, 12345.678, '2026-01-02', '10:11:12.5', '2026-01-02 03:04:05.678', '2026-01-02 03:04:05.6', 2026,
      'char', REPEAT('v', 300), b'10101010101', 'b', 'a,b', 'tiny', 'text', 'medium', '{"a": [1]}', 'binary', 9`
    const add = columns.map((column) => `ADD COLUMN ${column}`).join(', ')
    const names = columns.map((column) => column.split(' ')[0]).join(', ')
    const { entries } = await follow(`
      ALTER TABLE memcached.mc_lanes ${add}; ALTER TABLE memcached.mc_storage ${add};
      INSERT INTO memcached.mc_lanes VALUES ('l', 1, 1, ${values}), ('m', 2, 2, ${columns.map(() => 'NULL').join(', ')});
      UPDATE memcached.mc_lanes SET seq = seq + 1 ORDER BY lane;
      INSERT INTO memcached.mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value, ${names})
      VALUES (1, 'a', 1, 3 << 33 | 5, 0, 0, 'va', ${values}), (1, 'b', 2, 3 << 33 | 5, 0, 0, NULL, ${values})`)
    const drop = columns.map((column) => `DROP COLUMN ${column.split(' ')[0]}`).join(', ')
    await database.query(`ALTER TABLE memcached.mc_lanes ${drop}; ALTER TABLE memcached.mc_storage ${drop}`)
    expect(entries).toMatchObject([
      { kind: 'lane', lane: 'l', incarnation: 1, sequence: 1 },
      { kind: 'lane', lane: 'm', incarnation: 2, sequence: 2 },
      { kind: 'lane', lane: 'l', incarnation: 1, sequence: 2 },
      { kind: 'lane', lane: 'm', incarnation: 2, sequence: 3 },
      { kind: 'set', key: 'a', value: Buffer.from('va') },
      { kind: 'delete', key: 'b' },
      { kind: 'set', key: 'end' },
    ])
  })

  test('transactions of an XA manager that do not touch the cache are passed over', async () => {
    const { keys } = await follow(`XA START 'one'; INSERT INTO app.t (a) VALUES ('xa'); XA END 'one'; XA PREPARE 'one';
      XA COMMIT 'one'; XA START 'two'; INSERT INTO app.t (a) VALUES ('xa2'); XA END 'two'; XA PREPARE 'two'; XA ROLLBACK 'two'`)
    expect(keys).toEqual(['end'])
  })

  test.runIf(engine === 'mariadb')('compressed row events are inflated', async () => {
    await database.query('SET GLOBAL log_bin_compress = 1')
    try {
      const { entries } = await follow(`${setSql('packed', 'x'.repeat(100_000))}; ${setSql('small')}`)
      expect((await eventsSince()).some(({ type }) => type.startsWith('Write_rows_compressed'))).toBe(true)
      expect(entries[0]).toMatchObject({ kind: 'set', key: 'packed', value: Buffer.alloc(100_000, 'x') })
    } finally {
      await database.query('SET GLOBAL log_bin_compress = 0')
    }
  })

  test('a log without checksums is read too, and one that changes between', async () => {
    start = await endOfLog(database)
    following = new Following(databasesAt([database.port]), { start })
    await database.query(`${setSql('with')}; SET GLOBAL binlog_checksum = NONE; ${setSql('without')}`)
    await database.query(`SET GLOBAL binlog_checksum = CRC32; ${setSql('with again')}`)
    await following.key('with again')
    expect(following.keys).toEqual(['with', 'without', 'with again'])
  })
})
