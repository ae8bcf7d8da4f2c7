import type { Connection, RowDataPacket } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { Database, engineList } from '../support/databases.ts'
import { LogTail, type LoggedTransaction } from '../support/log-tail.ts'
import { until } from '../support/processes.ts'

interface Answer {
  readonly outcome: string
  readonly version: string | null
  readonly number?: string | null
}

/** `set a 1`: a transaction's entries in the order of the log. */
function entries(transaction: LoggedTransaction | undefined): string[] {
  const names = ['', 'set', 'delete', 'touch']
  return (transaction?.rows ?? [])
    .filter(({ table }) => table === 'mc_storage')
    .map(({ row }) => `${names[Number(row['op'])]} ${String(row['mc_key'])} ${String(row['mc_value'])}`)
}

async function call(connection: Connection, statement: string): Promise<Answer> {
  const [[[answer]]] = (await connection.query(`CALL ${statement}`)) as unknown as [[[Answer]]]
  return answer
}

/** Until no deadlock and no lock wait ends it: then nothing was done. */
async function retried(connection: Connection, statement: string): Promise<Answer> {
  for (;;) {
    try {
      return await call(connection, statement)
    } catch (error) {
      if (![1213, 1205].includes((error as { errno: number }).errno)) throw error
    }
  }
}

const levels = ['REPEATABLE READ', 'READ COMMITTED', 'READ UNCOMMITTED'] as const

describe.each(engineList)('two who want the same key on %s', (engine) => {
  let database: Database
  let a: Connection
  let b: Connection
  let tail: LogTail

  beforeAll(async () => {
    database = await Database.start(engine, ['--innodb-lock-wait-timeout=1'])
    a = await database.connect({ bigNumberStrings: true })
    await initializeSchema(a, { accounts: {} })
    await a.query(
      'CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(100)) ENGINE=InnoDB',
    )
    b = await database.connect({ database: 'memcached', bigNumberStrings: true })
    tail = await LogTail.start(database, 4_000_004)
  })
  afterAll(async () => {
    tail?.stop()
    await database?.remove()
  })
  beforeEach(async () => {
    for (const connection of [a, b]) {
      await connection.query('ROLLBACK; SET autocommit = 1; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ')
      await connection.query('SET SESSION innodb_lock_wait_timeout = 1')
    }
    await a.query('DELETE FROM mc_stored_keys; DELETE FROM mc_namespaces; DELETE FROM shop.orders')
    await a.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'), (2, 'two')")
    await tail.transactions()
  })

  const version = async (key = 'k'): Promise<string> => {
    const query = 'SELECT CAST(version AS CHAR) AS version FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = ?'
    const [[found]] = await b.query<RowDataPacket[]>(query, [key])
    return String(found?.['version'])
  }
  const liveKeys = async (): Promise<string[]> => {
    const [found] = await b.query<RowDataPacket[]>(
      'SELECT mc_key FROM mc_stored_keys WHERE expire <> 1 ORDER BY mc_key',
    )
    return found.map(({ mc_key }) => String(mc_key))
  }
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
  /** b's call waits for a's row; then a ends its transaction. */
  const waiting = async (statement: string, end: 'COMMIT' | 'ROLLBACK'): Promise<Answer> => {
    await b.query('SET SESSION innodb_lock_wait_timeout = 20')
    const answer = call(b, statement)
    await somebodyWaitsForALock()
    await a.query(end)
    return answer
  }

  test('of two adds of an absent key exactly one wins, and the log has its value alone', async () => {
    for (let round = 0; round < 40; round++) {
      const key = `'k${round}'`
      const [x, y] = await Promise.all([
        retried(a, `add_key(1, ${key}, 'a', 0)`),
        retried(b, `add_key(1, ${key}, 'b', 0)`),
      ])
      expect([x?.outcome, y?.outcome].toSorted(), key).toEqual(['not_stored', 'stored'])
      expect(x?.version, 'the refusal tells the version of the winner').toBe(y?.version)
      const winner = x?.outcome === 'stored' ? 'a' : 'b'
      expect((await tail.transactions()).flatMap(entries)).toEqual([`set k${round} ${winner}`])
    }
  })

  test.each([
    { first: 'add_key', end: 'COMMIT', outcome: 'not_stored' },
    { first: 'add_key', end: 'ROLLBACK', outcome: 'stored' },
    { first: 'set_key', end: 'COMMIT', outcome: 'not_stored' },
    { first: 'set_key', end: 'ROLLBACK', outcome: 'stored' },
  ] as const)(
    "R24: an add waits for somebody's uncommitted $first, and after its $end is $outcome",
    async ({ first, end, outcome }) => {
      await a.query(`START TRANSACTION; CALL ${first}(1, 'k', 'first', 0)`)
      expect((await waiting("add_key(1, 'k', 'second', 0)", end)).outcome).toBe(outcome)
      expect((await tail.transactions()).flatMap(entries)).toEqual([`set k ${end === 'COMMIT' ? 'first' : 'second'}`])
    },
  )

  test.each([
    ["incr_key(1, 'k', 1)", { outcome: 'stored', number: '11' }],
    ["replace_key(1, 'k', 'v', 0)", { outcome: 'stored' }],
    ["cas_key(1, 'k', 'v', 0, 1)", { outcome: 'exists' }],
  ])('%s waits for an uncommitted value, and is decided by it', async (statement, answer) => {
    await a.query("START TRANSACTION; CALL set_key(1, 'k', '10', 0)")
    expect(await waiting(statement, 'COMMIT')).toMatchObject(answer)
  })

  test('a delete that is committed first makes cas, replace and incr find nothing, and add win', async () => {
    for (const [statement, outcome] of [
      ["cas_key(1, 'k', 'v', 0, 1)", 'not_found'],
      ["replace_key(1, 'k', 'v', 0)", 'not_stored'],
      ["incr_key(1, 'k', 1)", 'not_found'],
      ["add_key(1, 'k', 'v', 0)", 'stored'],
    ] as const) {
      await a.query("CALL set_key(1, 'k', '10', 0); START TRANSACTION; CALL delete_key(1, 'k')")
      expect((await waiting(statement, 'COMMIT')).outcome, statement).toBe(outcome)
    }
  })

  test('each is decided by the row as it is now, not as an old snapshot shows it', async () => {
    await call(b, "add_key(1, 'gone', '1', 0)")
    await a.query('START TRANSACTION; SELECT * FROM mc_stored_keys')
    const { version: token } = await call(b, "add_key(1, 'n', '10', 0)")
    await b.query("CALL set_key(1, 'k', 'theirs', 0); CALL delete_key(1, 'gone')")
    expect((await call(a, "add_key(1, 'k', 'mine', 0)")).outcome).toBe('not_stored')
    expect((await call(a, "replace_key(1, 'k', 'mine', 0)")).outcome).toBe('stored')
    expect((await call(a, "incr_key(1, 'n', 5)")).number).toBe('15')
    expect((await call(a, `cas_key(1, 'n', '1', 0, ${token})`)).outcome).toBe('exists')
    expect((await call(a, "incr_key(1, 'gone', 1)")).outcome).toBe('not_found')
    expect((await call(a, "add_key(1, 'gone', '2', 0)")).outcome).toBe('stored')
    await a.query('COMMIT')
    expect((await tail.transactions()).flatMap(entries).slice(-3)).toEqual(['set k mine', 'set n 15', 'set gone 2'])
  })

  test("R6: nothing goes below the row's own generation, whatever the snapshot says", async () => {
    await b.query("CALL set_key(1, 'k', '1', 0)")
    await a.query('START TRANSACTION; SELECT * FROM mc_namespaces')
    const old = BigInt(await version()) >> 33n
    await b.query("CALL flush_namespace(1); CALL set_key(1, 'k', '10', 0)")
    expect((await call(a, "add_key(1, 'k', 'mine', 0)")).outcome).toBe('not_stored')
    const { number, version: counted } = await call(a, "incr_key(1, 'k', 1)")
    expect(number).toBe('11')
    expect(BigInt(counted ?? 0) >> 33n).toBe(old + 1n)
    expect((await call(a, `cas_key(1, 'k', '20', 0, ${counted})`)).outcome).toBe('stored')
    await a.query('COMMIT')
    expect(BigInt(await version()) >> 33n).toBe(old + 1n)
  })

  test('R2: a read-only server refuses to refuse: also what would change nothing', async () => {
    await call(b, "add_key(1, 'k', 'v', 0)")
    await database.query('SET GLOBAL read_only = 1')
    try {
      for (const statement of [
        "add_key(1, 'k', 'v', 0)",
        "replace_key(1, 'x', 'v', 0)",
        "cas_key(1, 'k', 'v', 0, 1)",
        "incr_key(1, 'x', 1)",
        "decr_key(1, 'k', 1)",
      ]) {
        await expect(call(a, statement), statement).rejects.toMatchObject({ errno: 1290 })
      }
      await expect(a.query("SELECT mc_incr(1, 'x', 1)")).rejects.toMatchObject({ errno: 1290 })
    } finally {
      await database.query('SET GLOBAL read_only = 0')
    }
  })

  test.each(levels)(
    'R25: what finds no key (%s) does not stop inserts of its neighbours, nor a flush',
    async (level) => {
      await b.query("CALL set_key(1, 'b', 'v', 0); CALL set_key(1, 'y', 'v', 0)")
      await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}; START TRANSACTION`)
      await a.query(`CALL replace_key(1, 'm1', 'v', 0); CALL cas_key(1, 'm2', 'v', 0, 1); CALL incr_key(1, 'm3', 1);
        CALL add_key(1, 'm4', 'v', 0); CALL add_key(1, 'y', 'v', 0); CALL decr_key(2, 'm5', 1)`)
      for (const key of ['a', 'l', 'm', 'm0', 'm11', 'm35', 'n', 'z']) {
        await b.query('CALL set_key(1, ?, "v", 0); CALL add_key(2, ?, "v", 0)', [key, key])
      }
      await b.query('CALL flush_namespace(1); CALL drop_namespace(2)')
    },
  )

  const forms = [
    ['add_key', "CALL add_key(1, 'k', 'v', 0)"],
    ['replace_key', "CALL replace_key(1, 'n', 'v', 0)"],
    ['cas_key', "CALL cas_key(1, 'n', 'v', 0, 5)"],
    ['incr_key by name', "CALL incr_key(ns('one'), 'n', 1)"],
    ['SELECT mc_add', "SELECT mc_add(1, 'k', 'v', 0)"],
    ['SET = mc_incr', "SET @number = mc_incr(1, 'n', 1)"],
    ['a trigger with IF mc_cas', "INSERT INTO shop.orders VALUES (1, 'k')"],
  ] as const
  test.each(forms.flatMap(([what, statement]) => levels.map((level) => ({ what, statement, level }))))(
    'an open transaction with $what ($level) delays neither a flush nor another key',
    async ({ statement, level }) => {
      await b.query("CALL set_key(1, 'n', '1', 0)")
      await trigger("IF memcached.mc_cas(1, 'n', 'w', 0, 5) = 'stored' THEN SET @won = 1; END IF;", async () => {
        await a.query(`SET SESSION TRANSACTION ISOLATION LEVEL ${level}; START TRANSACTION`)
        await a.query(statement)
        // Each would fail after innodb_lock_wait_timeout, one second.
        await b.query("CALL flush_namespace(1); CALL add_key(1, 'j', 'v', 0); CALL add_key(1, 'l', 'v', 0)")
        await b.query('CALL drop_namespace(2)')
      })
    },
  )

  test('in autocommit a call is one transaction: directory row and log row, or neither', async () => {
    await call(a, "add_key(1, 'k', '1', 0)")
    await call(a, "incr_key(1, 'k', 1)")
    await call(a, "replace_key(1, 'x', '1', 0)")
    const transactions = await tail.transactions()
    expect(transactions.map(({ rows }) => rows.map(({ table }) => table))).toEqual([
      ['mc_stored_keys', 'mc_storage'],
      ['mc_stored_keys', 'mc_storage'],
      ['mc_stored_keys'],
    ])
    expect(transactions.every(({ end, statements }) => end === 'xid' && statements.length === 0)).toBe(true)
  })

  test("in a caller's transaction each sees what came before it; a rollback leaves nothing, a commit all of it at once", async () => {
    const answers = async (): Promise<unknown[]> => {
      const added = await call(a, "add_key(1, 'k', '5', 0)")
      const steps = [added, await call(a, "add_key(1, 'k', '6', 0)"), await call(a, "incr_key(1, 'k', 10)")]
      steps.push(await call(a, `cas_key(1, 'k', '7', 0, ${added.version})`), await call(a, "decr_key(1, 'k', 6)"))
      steps.push(await call(a, `cas_key(1, 'k', 'end', 0, ${steps.at(-1)?.version})`))
      return steps.map(({ outcome, number }) => [outcome, number].filter((part) => part !== undefined).join(' '))
    }
    const expected = ['stored', 'not_stored', 'stored 15', 'exists', 'stored 9', 'stored']
    await a.query('START TRANSACTION')
    expect(await answers()).toEqual(expected)
    await a.query('ROLLBACK')
    expect(await tail.transactions()).toEqual([])
    const [rows] = await b.query<RowDataPacket[]>('SELECT * FROM mc_stored_keys')
    expect(rows).toEqual([])
    await a.query('START TRANSACTION')
    expect(await answers()).toEqual(expected)
    await a.query(
      "SAVEPOINT s; CALL incr_key(1, 'k', 1); CALL add_key(1, 'l', 'v', 0); ROLLBACK TO SAVEPOINT s; COMMIT",
    )
    const transactions = await tail.transactions()
    expect(transactions.map(entries)).toEqual([['set k 5', 'set k 15', 'set k 9 ', 'set k end']])
    expect(String(transactions[0]?.rows.at(-1)?.row['version'])).toBe(await version())
    expect(await liveKeys()).toEqual(['k'])
  })

  test('a trigger can call the functions, inside its transaction; the procedures it cannot', async () => {
    await trigger("CALL memcached.add_key(1, 'k', 'v', 0);", async () => {
      await expect(a.query("INSERT INTO shop.orders VALUES (1, 'a')")).rejects.toMatchObject({ errno: 1415 })
    }).catch((error: { errno: number }) => expect(error.errno).toBe(1415))
    const body = `IF memcached.mc_add(1, CONCAT('order:', NEW.id), NEW.note, 60) <> 'stored' THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'taken'; END IF;
      SET @orders = COALESCE(memcached.mc_incr(1, 'orders', 1), 0);`
    await trigger(body, async () => {
      await b.query("CALL set_key(1, 'orders', '8', 0); CALL set_key(1, 'order:3', 'theirs', 0)")
      await tail.transactions()
      await a.query("START TRANSACTION; INSERT INTO shop.orders VALUES (1, 'a'); ROLLBACK")
      expect(await tail.transactions()).toEqual([])
      await a.query("INSERT INTO shop.orders VALUES (1, 'a'), (2, 'b')")
      expect((await tail.transactions()).map(entries)).toEqual([
        ['set order:1 a', 'set orders 9', 'set order:2 b', 'set orders 10'],
      ])
      await expect(a.query("INSERT INTO shop.orders VALUES (3, 'c')")).rejects.toThrow('taken')
      await expect(a.query("INSERT INTO shop.orders VALUES (4, 'd'), (3, 'c')")).rejects.toThrow('taken')
      expect((await tail.transactions()).flatMap(entries)).toEqual([])
      expect(await liveKeys()).toEqual(['order:1', 'order:2', 'order:3', 'orders'])
    })
  })

  test('where the log refuses, the directory keeps nothing, also if the caller swallows the error', async () => {
    await call(b, "add_key(1, 'n', '1', 0)")
    const before = await version('n')
    await a.query(
      `CREATE TRIGGER refuse BEFORE INSERT ON mc_storage FOR EACH ROW
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the log is full'`,
    )
    await a.query(
      `CREATE PROCEDURE shop.careless() BEGIN
         DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
         CALL memcached.add_key(1, 'k', 'v', 0);
         CALL memcached.incr_key(1, 'n', 1);
       END`,
    )
    await tail.transactions()
    try {
      await expect(call(a, "add_key(1, 'k', 'v', 0)")).rejects.toThrow('the log is full')
      await a.query('START TRANSACTION')
      await expect(call(a, "incr_key(1, 'n', 1)")).rejects.toThrow('the log is full')
      await a.query('COMMIT; CALL shop.careless()')
      expect(await tail.transactions()).toEqual([])
      expect([await liveKeys(), await version('n')]).toEqual([['n'], before])
    } finally {
      await a.query('DROP TRIGGER refuse; DROP PROCEDURE shop.careless')
    }
  })

  test('many counters at once: the sum is exact, each step is told to one caller, the log goes up by one', async () => {
    await call(b, "add_key(1, 'n', '0', 0)")
    await tail.transactions()
    const callers = await Promise.all(Array.from({ length: 6 }, () => database.connect({ database: 'memcached' })))
    const numbers: number[] = []
    await Promise.all(
      callers.map(async (connection) => {
        for (let step = 0; step < 25; step++) {
          numbers.push(Number((await retried(connection, "incr_key(1, 'n', 1)")).number))
        }
        connection.destroy()
      }),
    )
    const steps = Array.from({ length: 150 }, (_, index) => index + 1)
    expect(numbers.toSorted((x, y) => x - y)).toEqual(steps)
    expect((await tail.transactions()).flatMap(entries)).toEqual(steps.map((step) => `set n ${step}`))
  })

  test('many that compare: each version is taken by exactly one, so none of their steps is lost', async () => {
    await call(b, "add_key(1, 'n', '0', 0)")
    const callers = await Promise.all(
      Array.from({ length: 4 }, () => database.connect({ database: 'memcached', bigNumberStrings: true })),
    )
    const tokens: string[] = []
    await Promise.all(
      callers.map(async (connection) => {
        for (let step = 0; step < 20;) {
          const [[seen]] = await connection.query<RowDataPacket[]>(
            "SELECT version, number FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = 'n'",
          )
          const next = Number(seen?.['number']) + 1
          const answer = await retried(connection, `cas_key(1, 'n', '${next}', 0, ${String(seen?.['version'])})`)
          if (answer.outcome !== 'stored') continue
          tokens.push(String(seen?.['version']))
          step++
        }
        connection.destroy()
      }),
    )
    expect(new Set(tokens).size).toBe(80)
    expect((await call(b, "incr_key(1, 'n', 0)")).number).toBe('80')
  })
})
