import type { Connection, RowDataPacket } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { Database, engineList } from '../support/databases.ts'
import { LogTail, type LoggedTransaction } from '../support/log-tail.ts'
import { until } from '../support/processes.ts'

/** `set a`, `delete b`, `touch c`: a transaction's entries in the order of the log. */
function entries(transaction: LoggedTransaction | undefined): string[] {
  const names = ['', 'set', 'delete', 'touch']
  return (transaction?.rows ?? [])
    .filter(({ table }) => table === 'mc_storage')
    .map(({ row }) => `${names[Number(row['op'])]} ${String(row['mc_key'])}`)
}

describe.each(engineList)('transactions that call the routines on %s', (engine) => {
  let database: Database
  let a: Connection
  let b: Connection
  let tail: LogTail

  beforeAll(async () => {
    database = await Database.start(engine, ['--innodb-lock-wait-timeout=1'])
    a = await database.connect()
    await initializeSchema(a, { accounts: {} })
    await a.query(
      'CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100)) ENGINE=InnoDB',
    )
    b = await database.connect({ database: 'memcached' })
    tail = await LogTail.start(database, 4_000_002)
  })
  afterAll(async () => {
    tail?.stop()
    await database?.remove()
  })
  beforeEach(async () => {
    for (const connection of [a, b]) {
      await connection.query('ROLLBACK; SET autocommit = 1; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ')
    }
    await a.query('DELETE FROM mc_stored_keys; DELETE FROM mc_namespaces; DELETE FROM shop.orders')
    await a.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'), (2, 'two')")
    await tail.transactions()
  })

  const keys = async (): Promise<string[]> => {
    const [found] = await b.query<RowDataPacket[]>(
      'SELECT mc_key FROM mc_stored_keys WHERE expire <> 1 ORDER BY mc_key',
    )
    return found.map(({ mc_key }) => String(mc_key))
  }
  const generation = async (): Promise<bigint> => {
    const [[found]] = await b.query<RowDataPacket[]>('SELECT generation FROM mc_namespaces WHERE ns_id = 1')
    return BigInt(String(found?.['generation']))
  }
  const directory = async (key: string): Promise<{ version: string; live: boolean }> => {
    const [[found]] = await b.query<RowDataPacket[]>(
      `SELECT CAST(version AS CHAR) AS version, expire <> 1 AS live FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = ?`,
      [key],
    )
    return { version: String(found?.['version']), live: Number(found?.['live']) === 1 }
  }
  const versionsOf = (transactions: readonly LoggedTransaction[]): string[] =>
    transactions.flatMap(({ rows }) =>
      rows.filter(({ table }) => table === 'mc_storage').map(({ row }) => String(row['version'])),
    )
  // Not by INNODB_TRX: it is a copy that is not renewed while it is read more often than every 100 ms.
  const somebodyWaitsForALock = (): Promise<boolean> =>
    until('a transaction to wait for a row lock', async () => {
      const [found] = await database.query<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
      return Number(found?.Value) > 0
    })
  const trigger = async (body: string, run: () => Promise<void>): Promise<void> => {
    await a.query(`CREATE TRIGGER shop.on_order AFTER INSERT ON shop.orders FOR EACH ROW BEGIN ${body} END`)
    await tail.transactions()
    try {
      await run()
    } finally {
      await a.query('ROLLBACK; DROP TRIGGER shop.on_order')
    }
  }

  test('in autocommit a call is one transaction with a directory row beside the log row', async () => {
    for (const call of ["set_key(1, 'k', 'v', 0)", "touch_key(1, 'k', 50)", "delete_key(1, 'k')"]) {
      await a.query(`CALL ${call}`)
      const [transaction, ...others] = await tail.transactions()
      expect(others).toEqual([])
      expect(transaction?.end).toBe('xid')
      expect(transaction?.statements).toEqual([])
      expect(transaction?.rows.map(({ table }) => table)).toEqual(['mc_stored_keys', 'mc_storage'])
    }
  })

  test("in a caller's transaction nothing is seen before COMMIT, then all of it in one transaction", async () => {
    await a.query('START TRANSACTION')
    await a.query("CALL set_key(1, 'x', '1', 0); CALL set_key(1, 'y', '2', 0); CALL delete_key(1, 'x')")
    await a.query("INSERT INTO shop.orders VALUES (1, 'ordered')")
    expect(await keys()).toEqual([])
    expect(await tail.transactions()).toEqual([])
    await a.query('COMMIT')
    expect((await tail.transactions()).map(entries)).toEqual([['set x', 'set y', 'delete x']])
    expect(await keys()).toEqual(['y'])
  })

  test('autocommit=0 is a transaction too', async () => {
    await a.query('SET autocommit = 0')
    await a.query("CALL set_key(1, 'x', '1', 0)")
    await a.query('ROLLBACK')
    await a.query("CALL set_key(1, 'y', '1', 0)")
    await a.query('COMMIT')
    expect((await tail.transactions()).map(entries)).toEqual([['set y']])
  })

  test('a rollback leaves nothing, neither in the directory nor in the log nor of a flush', async () => {
    const before = await generation()
    await a.query('START TRANSACTION')
    await a.query("CALL set_key(1, 'x', '1', 0); CALL delete_key(1, 'y'); CALL flush_namespace(1)")
    await a.query('CALL drop_namespace(2)')
    await a.query("CALL create_namespace('three')")
    await a.query('ROLLBACK')
    expect(await tail.transactions()).toEqual([])
    const [rows] = await b.query<RowDataPacket[]>('SELECT * FROM mc_stored_keys')
    expect(rows).toEqual([])
    expect(await generation()).toBe(before)
  })

  test('a rollback to a savepoint takes back what came after it alone', async () => {
    await a.query('START TRANSACTION')
    await a.query("CALL set_key(1, 'x', '1', 0)")
    await a.query('SAVEPOINT s')
    await a.query("CALL set_key(1, 'x', '2', 0); CALL set_key(1, 'y', '2', 0)")
    await a.query('ROLLBACK TO SAVEPOINT s')
    await a.query("CALL set_key(1, 'z', '3', 0)")
    await a.query('COMMIT')
    const transactions = await tail.transactions()
    expect(transactions.map(entries)).toEqual([['set x', 'set z']])
    expect(versionsOf(transactions)[0]).toBe((await directory('x')).version)
    expect(await keys()).toEqual(['x', 'z'])
  })

  test('a trigger of an application table may set, delete, touch and flush, inside its transaction', async () => {
    const body = `CALL memcached.set_key(memcached.ns('one'), CONCAT('order:', NEW.id), NEW.note, 60);
      CALL memcached.touch_key(1, CONCAT('order:', NEW.id), 90);
      CALL memcached.delete_key(1, 'orders'); CALL memcached.flush_namespace(2);`
    await trigger(body, async () => {
      await a.query("START TRANSACTION; INSERT INTO shop.orders VALUES (1, 'a'); ROLLBACK")
      expect(await tail.transactions()).toEqual([])
      await a.query("INSERT INTO shop.orders VALUES (2, 'b'), (3, 'c')")
      const [transaction, ...others] = await tail.transactions()
      expect(others).toEqual([])
      expect(entries(transaction)).toEqual(
        ['2', '3'].flatMap((id) => [`set order:${id}`, `touch order:${id}`, 'delete orders']),
      )
      expect(transaction?.rows.filter(({ table }) => table === 'mc_namespaces')).toHaveLength(2)
      expect(await keys()).toEqual(['order:2', 'order:3'])
    })
  })

  test('an error half way through a statement takes all of the statement back, and no more', async () => {
    const body =
      "CALL memcached.set_key(1, CONCAT('order:', NEW.id), 'v', 0); CALL memcached.set_key(1, NEW.note, 'v', 0);"
    await trigger(body, async () => {
      await a.query('START TRANSACTION')
      await a.query("CALL set_key(1, 'before', 'v', 0)")
      await expect(a.query("INSERT INTO shop.orders VALUES (1, 'fine'), (2, '')")).rejects.toThrow(
        'a key has 1 to 250 bytes',
      )
      await a.query("CALL set_key(1, 'after', 'v', 0)")
      await a.query('COMMIT')
      expect((await tail.transactions()).map(entries)).toEqual([['set before', 'set after']])
      expect(await keys()).toEqual(['after', 'before'])
    })
  })

  test('where the log refuses, the directory keeps nothing: in autocommit, in a transaction, and if the caller swallows the error', async () => {
    await a.query(
      `CREATE TRIGGER refuse BEFORE INSERT ON mc_storage FOR EACH ROW
         IF NEW.mc_key = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the log is full'; END IF`,
    )
    await a.query(
      `CREATE PROCEDURE shop.careless() BEGIN
         DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
         CALL memcached.set_key(1, 'bad', 'v', 0);
         CALL memcached.delete_key(1, 'bad');
         CALL memcached.set_key(1, 'good', 'v', 0);
       END`,
    )
    await tail.transactions()
    try {
      await expect(a.query("CALL set_key(1, 'bad', 'v', 0)")).rejects.toThrow('the log is full')
      expect(await tail.transactions()).toEqual([])
      await a.query('START TRANSACTION')
      await expect(a.query("CALL delete_key(1, 'bad')")).rejects.toThrow('the log is full')
      await a.query("CALL set_key(1, 'x', 'v', 0)")
      await a.query('COMMIT')
      await a.query('CALL shop.careless()')
      expect((await tail.transactions()).map(entries)).toEqual([['set x'], ['set good']])
      const [rows] = await b.query<RowDataPacket[]>('SELECT mc_key FROM mc_stored_keys ORDER BY mc_key')
      expect(rows.map(({ mc_key }) => String(mc_key))).toEqual(['good', 'x'])
    } finally {
      await a.query('DROP TRIGGER refuse; DROP PROCEDURE shop.careless')
    }
  })

  test("R6: a set never goes below the row's own generation, whatever its snapshot says", async () => {
    await a.query('START TRANSACTION; SELECT * FROM mc_namespaces')
    const old = await generation()
    await b.query("CALL flush_namespace(1); CALL set_key(1, 'k', 'theirs', 0)")
    await a.query("CALL set_key(1, 'k', 'mine', 0); CALL delete_key(1, 'gone'); COMMIT")
    const transactions = await tail.transactions()
    expect(transactions.map(entries)).toEqual([[], ['set k'], ['set k', 'delete gone']])
    const { version, live } = await directory('k')
    expect(live).toBe(true)
    expect(BigInt(version) >> 33n).toBe(old + 1n)
    expect(versionsOf(transactions)[1]).toBe(version)
  })

  test('a set of a snapshot older than a flush, of a key with no newer row, is flushed along: committed under the old generation', async () => {
    await a.query('START TRANSACTION; SELECT * FROM mc_namespaces')
    const old = await generation()
    await b.query('CALL flush_namespace(1)')
    await a.query("CALL set_key(1, 'k', 'mine', 0); COMMIT")
    const transactions = await tail.transactions()
    expect(transactions.map(entries)).toEqual([[], ['set k']])
    const { version } = await directory('k')
    expect(BigInt(version) >> 33n).toBe(old)
    expect(versionsOf(transactions)).toEqual([version])
  })

  test('a touch under an old snapshot keeps the version that the row has now', async () => {
    await b.query("CALL set_key(1, 'k', '1', 0)")
    await a.query('START TRANSACTION; SELECT * FROM mc_stored_keys')
    await b.query("CALL flush_namespace(1); CALL set_key(1, 'k', '2', 0)")
    const { version } = await directory('k')
    await tail.transactions()
    await a.query("CALL touch_key(1, 'k', 500); COMMIT")
    const transactions = await tail.transactions()
    expect(transactions.map(entries)).toEqual([['touch k']])
    expect(versionsOf(transactions)).toEqual([version])
    expect((await directory('k')).version).toBe(version)
  })

  const writing = [
    ['set_key', "CALL set_key(1, 'k', 'v', 0)"],
    ['set_key by name', "CALL set_key(ns('one'), 'k', 'v', 0)"],
    ['delete_key', "CALL delete_key(1, 'k')"],
    ['touch_key', "CALL touch_key(1, 'present', 50)"],
    ['a trigger', "INSERT INTO shop.orders VALUES (1, 'k')"],
  ] as const
  const levels = ['REPEATABLE READ', 'READ COMMITTED', 'READ UNCOMMITTED'] as const
  test.each(writing.flatMap(([what, call]) => levels.map((level) => ({ what, call, level }))))(
    'an open transaction with $what ($level) delays neither a flush nor another key',
    async ({ call, level }) => {
      await b.query("CALL set_key(1, 'present', 'v', 0)")
      await trigger("CALL memcached.set_key(memcached.ns('one'), NEW.note, 'v', 0);", async () => {
        await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}; START TRANSACTION`)
        await a.query(call)
        // Each would fail after innodb_lock_wait_timeout, one second.
        await b.query('CALL flush_namespace(1)')
        await b.query("CALL set_key(1, 'j', 'v', 0); CALL set_key(1, 'l', 'v', 0)")
        await b.query('CALL drop_namespace(2)')
      })
    },
  )

  test("somebody's open flush delays no set, delete or touch", async () => {
    await b.query("CALL set_key(1, 'present', 'v', 0)")
    await a.query('START TRANSACTION; CALL flush_namespace(1)')
    await b.query("CALL set_key(1, 'k', 'v', 0); CALL delete_key(1, 'l'); CALL touch_key(1, 'present', 9)")
    await a.query('ROLLBACK')
  })

  test('an open creation of a namespace holds the counters alone: epoch, marker and other namespaces go on', async () => {
    await a.query("START TRANSACTION; CALL create_namespace('three')")
    await b.query("UPDATE mc_meta SET value = value + 1 WHERE name IN ('marker', 'epoch')")
    await b.query("CALL flush_namespace(1); CALL set_key(1, 'k', 'v', 0)")
    await a.query('ROLLBACK')
  })

  test.each(levels)(
    'R25: a delete or touch of an absent key (%s) does not stop inserts of its neighbours',
    async (level) => {
      await b.query("CALL set_key(1, 'b', 'v', 0); CALL set_key(1, 'y', 'v', 0)")
      await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}; START TRANSACTION`)
      await a.query("CALL delete_key(1, 'm'); CALL touch_key(1, 'n', 5); CALL delete_key(2, 'm')")
      await b.query("CALL set_key(1, 'a', 'v', 0); CALL set_key(1, 'l', 'v', 0); CALL set_key(1, 'n', 'v', 0)")
      await b.query("CALL set_key(1, 'z', 'v', 0); CALL set_key(2, 'n', 'v', 0); CALL set_key(2, 'l', 'v', 0)")
      await a.query('COMMIT')
      expect(await keys()).toEqual(['a', 'b', 'l', 'l', 'n', 'n', 'y', 'z'])
    },
  )

  test('a touch of a row that was purged since its snapshot locks no gap and revives nothing', async () => {
    await b.query("CALL set_key(1, 'b', 'v', 0); CALL set_key(1, 'm', 'v', 0); CALL set_key(1, 'y', 'v', 0)")
    await a.query('START TRANSACTION; SELECT * FROM mc_stored_keys')
    await b.query("DELETE FROM mc_stored_keys WHERE mc_key = 'm'")
    await tail.transactions()
    await a.query("CALL touch_key(1, 'm', 50)")
    await b.query("CALL set_key(1, 'l', 'v', 0); CALL set_key(1, 'n', 'v', 0)")
    await a.query('COMMIT')
    expect((await tail.transactions()).map(entries)).toEqual([['set l'], ['set n'], []])
    expect(await keys()).toEqual(['b', 'l', 'n', 'y'])
  })

  test.each(levels)(
    'a flush or drop of an unknown namespace (%s) does not stop the creation of one beside it',
    async (level) => {
      await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}; START TRANSACTION`)
      await expect(a.query('CALL flush_namespace(55)')).rejects.toThrow('unknown namespace 55')
      await expect(a.query('CALL drop_namespace(55)')).rejects.toThrow('unknown namespace 55')
      await expect(a.query("CALL set_key(55, 'k', 'v', 0)")).rejects.toThrow('unknown namespace 55')
      await b.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (54, 'x'), (55, 'y')")
    },
  )

  test.each(['REPEATABLE READ', 'READ COMMITTED'])(
    'R34: a delete of an absent key and a set of it stand in the log as the directory has them (%s)',
    async (level) => {
      await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}`)
      await b.query('SET SESSION innodb_lock_wait_timeout = 50')
      // A deletes first and commits last: B's set waits for A's dead row, so it comes after it.
      await a.query('START TRANSACTION; SELECT * FROM mc_stored_keys')
      await a.query("CALL delete_key(1, 'k')")
      let stored = false
      const set = b.query("CALL set_key(1, 'k', 'v', 0)").then(() => (stored = true))
      await somebodyWaitsForALock()
      await a.query("CALL delete_key(1, 'other')")
      expect(stored).toBe(false)
      await a.query('COMMIT')
      await set
      const transactions = await tail.transactions()
      expect(transactions.map(entries)).toEqual([['delete k', 'delete other'], ['set k']])
      expect(await directory('k')).toEqual({ version: versionsOf(transactions).at(-1), live: true })
      // And A with an old snapshot, where B's set has been committed meanwhile.
      await a.query('START TRANSACTION; SELECT * FROM mc_stored_keys')
      await b.query("CALL set_key(1, 'l', 'v', 0)")
      await a.query("CALL delete_key(1, 'l'); COMMIT")
      const later = await tail.transactions()
      expect(later.map(entries)).toEqual([['set l'], ['delete l']])
      expect(await directory('l')).toEqual({ version: versionsOf(later).at(-1), live: false })
      await b.query('SET SESSION innodb_lock_wait_timeout = 1')
    },
  )

  test('many at once: each key ends in the directory as it ends in the log, each namespace has an id of its own', async () => {
    const connections = await Promise.all(Array.from({ length: 8 }, () => database.connect({ database: 'memcached' })))
    const retried = async (connection: Connection, statement: string): Promise<void> => {
      for (;;) {
        try {
          await connection.query(statement)
          return
        } catch (error) {
          // A deadlock or a lock wait: nothing was done.
          if (![1213, 1205].includes((error as { errno: number }).errno)) throw error
        }
      }
    }
    await Promise.all(
      connections.map(async (connection, index) => {
        await retried(connection, `CALL create_namespace('many-${index}')`)
        for (let round = 0; round < 25; round++) {
          const key = `'k${(round * 7 + index) % 5}'`
          await retried(
            connection,
            (round + index) % 3 === 0 ? `CALL delete_key(1, ${key})` : `CALL set_key(1, ${key}, 'v', 0)`,
          )
          if (round % 10 === index) await retried(connection, 'CALL flush_namespace(1)')
        }
      }),
    )
    const last = new Map<string, string>()
    for (const { rows } of await tail.transactions()) {
      for (const { table, row } of rows) {
        if (table === 'mc_storage') last.set(String(row['mc_key']), `${String(row['version'])} ${row['op'] === 1}`)
      }
    }
    expect(last.size).toBe(5)
    for (const [key, entry] of last) {
      const { version, live } = await directory(key)
      expect(`${version} ${live}`, key).toBe(entry)
    }
    const [ids] = await b.query<RowDataPacket[]>("SELECT DISTINCT ns_id FROM mc_namespaces WHERE ns_name LIKE 'many-%'")
    expect(ids).toHaveLength(8)
  })
})
