import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import type { Connection } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { describeError, WhiteholeError } from '../../src/domain/errors.ts'
import { initializeSchema, readSchemaVersion, schemaSql } from '../../src/schema/initialize.ts'
import { knownSchemaVersion } from '../../src/schema/migrations.ts'
import { shapeProblems } from '../../src/schema/shape.ts'
import { Database, engineList, pairUp } from '../support/databases.ts'
import { until } from '../support/processes.ts'

const host = '127.0.0.1'
const accounts = {
  node: { user: 'whitehole_node', host, password: `n0de"'\\secret` },
  application: { user: 'shop', host, password: 'application-secret' },
  monitor: { user: 'whitehole_monitor', host, password: 'monitor-secret' },
}
const run = promisify(execFile)

async function failure(promise: Promise<unknown>): Promise<WhiteholeError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof WhiteholeError)) throw new Error('expected it to fail', { cause: error })
  return error
}

async function binlogBytes(database: Database): Promise<string> {
  const folder = join(database.folder, 'data')
  const files = (await readdir(folder)).filter((file) => /^binlog\.\d+$/.test(file))
  const contents = await Promise.all(files.map((file) => readFile(join(folder, file), 'latin1')))
  return contents.join('')
}

describe.each(engineList)('init on %s', (engine) => {
  let database: Database
  let sql: Connection

  beforeAll(async () => {
    database = await Database.start(engine)
  })
  afterAll(async () => {
    await database?.remove()
  })
  beforeEach(async () => {
    await database.query('SET GLOBAL read_only = 0; DROP DATABASE IF EXISTS memcached')
    sql = await database.connect()
  })

  const version = knownSchemaVersion(engine)
  const tcp = async (account: { user: string; password: string }): Promise<Connection> =>
    database.connectTcp({ user: account.user, password: account.password })
  const state = async (): Promise<unknown> => [
    await database.query('SELECT * FROM memcached.mc_meta'),
    await database.query('SELECT * FROM memcached.mc_namespaces'),
    await database.query('SELECT * FROM memcached.mc_stored_keys'),
    await database.query('SELECT * FROM memcached.mc_lanes'),
  ]

  test('makes the whole schema, and the second time nothing', async () => {
    expect(await readSchemaVersion(sql)).toBeUndefined()
    const { applied } = await initializeSchema(sql, { accounts: {} })
    expect(applied).toHaveLength(version)
    expect(applied[0]).toBe('0001-tables')
    expect(await readSchemaVersion(sql)).toBe(version)
    expect(await shapeProblems(sql)).toEqual([])
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'); CALL set_key(1, 'k', 'v', 0)")
    const before = await state()
    expect(await initializeSchema(sql, { accounts: {} })).toEqual({ applied: [] })
    expect(await state()).toEqual(before)
  })

  test('the log is really BLACKHOLE, and init notices if it is not', async () => {
    await initializeSchema(sql, { accounts: {} })
    const [found] = await database.query<{ engine: string }>(
      "SELECT ENGINE AS engine FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'memcached' AND TABLE_NAME = 'mc_storage'",
    )
    expect(found?.engine).toBe('BLACKHOLE')
    await sql.query('ALTER TABLE mc_storage ENGINE = InnoDB')
    const error = await failure(initializeSchema(sql, { accounts: {} }))
    expect(error).toMatchObject({ code: 'bad-schema' })
    expect(error.message).toContain('the engine of memcached.mc_storage: found InnoDB, expected BLACKHOLE')
  })

  test.each([
    ['ALTER TABLE mc_stored_keys DROP COLUMN number', 'the columns of memcached.mc_stored_keys'],
    ['ALTER TABLE mc_storage MODIFY flags INT UNSIGNED NOT NULL', 'the columns of memcached.mc_storage'],
    ['ALTER TABLE mc_lanes DROP PRIMARY KEY', 'the primary key of memcached.mc_lanes'],
    ['DROP TABLE mc_nodes', 'table memcached.mc_nodes is missing'],
  ])('tells what differs after %s', async (change, text) => {
    await initializeSchema(sql, { accounts: {} })
    await sql.query(change)
    expect((await failure(initializeSchema(sql, { accounts: {} }))).message).toContain(text)
  })

  test('two at once do the work once', async () => {
    const other = await database.connect()
    const results = await Promise.all([sql, other].map((connection) => initializeSchema(connection, { accounts })))
    expect(results.map(({ applied }) => applied.length).toSorted((x, y) => x - y)).toEqual([0, version])
    expect(await readSchemaVersion(sql)).toBe(version)
  })

  test('goes on where it was interrupted, and keeps the data', async () => {
    await initializeSchema(sql, { accounts: {} })
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'); CALL set_key(1, 'k', 'v', 0)")
    const before = await state()
    for (let done = 0; done < version; done++) {
      await sql.query("UPDATE mc_meta SET value = ? WHERE name = 'schema_version'", [String(done)])
      expect((await initializeSchema(sql, { accounts: {} })).applied).toHaveLength(version - done)
      expect(await state()).toEqual(before)
    }
  })

  test('leaves a schema alone that is newer than it knows', async () => {
    await initializeSchema(sql, { accounts: {} })
    await sql.query("UPDATE mc_meta SET value = '99' WHERE name = 'schema_version'")
    const error = await failure(initializeSchema(sql, { accounts }))
    expect(error.code).toBe('bad-schema')
    expect(error.message).toBe(`the schema has version 99, this whitehole knows ${version}: use a newer whitehole`)
    expect(await readSchemaVersion(sql)).toBe(99)
  })

  test("leaves tables alone that it did not make: the seed's own", async () => {
    await sql.query('CREATE DATABASE memcached; CREATE TABLE memcached.mc_namespaces (ns_id int, ns_name varchar(16))')
    const error = await failure(initializeSchema(sql, { accounts: {} }))
    expect(error.message).toBe(
      'database memcached has mc_namespaces that whitehole did not make: rename or drop them first',
    )
  })

  test.each([
    ['read_only = 1', 'this database is read_only: init runs on the primary'],
    ["binlog_format = 'MIXED'", 'binlog_format is MIXED on this database: set it to ROW'],
  ])('refuses a server with %s before it changes anything', async (setting, text) => {
    await database.query(`SET GLOBAL ${setting}`)
    try {
      const error = await failure(initializeSchema(await database.connect(), { accounts }))
      expect(error).toMatchObject({ code: 'bad-configuration', message: text })
      expect(await database.query("SHOW DATABASES LIKE 'memcached'")).toEqual([])
    } finally {
      await database.query("SET GLOBAL binlog_format = 'ROW'; SET GLOBAL read_only = 0")
    }
  })

  test('what --print shows, fed to the client, makes the same schema', async () => {
    const script = join(database.folder, 'schema.sql')
    await writeFile(script, schemaSql(engine, {}))
    await run('sh', ['-c', `mariadb --no-defaults -u root -S '${database.socket}' < '${script}'`])
    expect(await readSchemaVersion(sql)).toBe(version)
    expect(await initializeSchema(sql, { accounts: {} })).toEqual({ applied: [] })
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'); CALL set_key(1, 'k', 'v', 0)")
  })

  describe('with accounts', () => {
    beforeEach(async () => {
      await initializeSchema(sql, { accounts })
      await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'); CALL set_key(1, 'k', 'v', 0)")
    })

    test('a node reads and writes the schema and follows the log, and no more', async () => {
      const node = await tcp(accounts.node)
      await node.query(`START TRANSACTION; INSERT INTO memcached.mc_lanes VALUES ('n1/1', 1, 0);
        UPDATE memcached.mc_lanes SET seq = 1; SELECT * FROM memcached.mc_namespaces LOCK IN SHARE MODE;
        SELECT * FROM memcached.mc_stored_keys FOR UPDATE; DELETE FROM memcached.mc_stored_keys;
        INSERT INTO memcached.mc_stored_keys (ns_id, mc_key, version) VALUES (1, 'k', 1);
        INSERT INTO memcached.mc_storage VALUES (1, 'k', 1, 1, 0, 0, 'v'); UPDATE memcached.mc_namespaces SET flush_due = 1;
        INSERT INTO memcached.mc_nodes (name) VALUES ('n1'); SELECT * FROM memcached.mc_meta; COMMIT`)
      await node.query("CALL memcached.create_namespace('by-node')")
      await node.query(
        engine === 'mariadb' ? 'SHOW MASTER STATUS; SHOW SLAVE STATUS' : 'SHOW BINARY LOG STATUS; SHOW REPLICA STATUS',
      )
      await node.query('SHOW BINARY LOGS')
      for (const statement of [
        'DELETE FROM memcached.mc_meta',
        'DROP TABLE memcached.mc_lanes',
        'TRUNCATE memcached.mc_storage',
        'SET GLOBAL read_only = 1',
        'SET SESSION sql_log_bin = 0',
        'SELECT * FROM mysql.user',
      ]) {
        await expect(node.query(statement), statement).rejects.toThrow(/denied/)
      }
    })

    test('an application calls the routines and reads the directory, and can do nothing else', async () => {
      const application = await tcp(accounts.application)
      await application.query(
        `CALL memcached.set_key(memcached.ns('one'), 'a', 'v', 0); CALL memcached.touch_key(1, 'a', 5); CALL memcached.delete_key(1, 'a');
         CALL memcached.add_key(1, 'a', '1', 0); CALL memcached.replace_key(1, 'a', '2', 0); CALL memcached.cas_key(1, 'a', '3', 0, 1);
         CALL memcached.incr_key(1, 'a', 1); CALL memcached.decr_key(1, 'a', 1); SELECT memcached.mc_incr(1, 'a', 1);
         CALL memcached.create_namespace('mine'); CALL memcached.flush_namespace(1);
         CALL memcached.drop_namespace(memcached.ns('mine')); SELECT * FROM memcached.mc_stored_keys; SELECT * FROM memcached.mc_namespaces`,
      )
      const before = await state()
      for (const statement of [
        "INSERT INTO memcached.mc_storage VALUES (1, 'k', 1, 1, 0, 0, 'v')",
        'SELECT * FROM memcached.mc_storage',
        'SELECT * FROM memcached.mc_meta',
        'SELECT * FROM memcached.mc_lanes',
        'SELECT * FROM memcached.mc_nodes',
        "INSERT INTO memcached.mc_namespaces (ns_id, ns_name) VALUES (5, 'five')",
        'UPDATE memcached.mc_namespaces SET generation = 9',
        'DELETE FROM memcached.mc_namespaces',
        'UPDATE memcached.mc_stored_keys SET version = 1',
        'DELETE FROM memcached.mc_stored_keys',
        'TRUNCATE memcached.mc_stored_keys',
        'CREATE TABLE memcached.x (id INT)',
        'CREATE PROCEDURE memcached.x() SELECT 1',
        'CREATE TRIGGER memcached.x BEFORE INSERT ON memcached.mc_stored_keys FOR EACH ROW SET NEW.expire = 0',
        'DROP PROCEDURE memcached.set_key',
        'LOCK TABLES memcached.mc_stored_keys WRITE',
        "SET SESSION binlog_format = 'STATEMENT'",
        'SET SESSION sql_log_bin = 0',
        engine === 'mariadb' ? 'SHOW MASTER STATUS' : 'SHOW BINARY LOG STATUS',
        'SELECT * FROM mysql.user',
        "GRANT SELECT ON memcached.mc_stored_keys TO 'whitehole_node'@'127.0.0.1'",
      ]) {
        await expect(application.query(statement), statement).rejects.toThrow(/denied|SUPER privilege/)
      }
      expect(await state()).toEqual(before)
    })

    test('a monitor commits markers and watches replication, and writes nothing else', async () => {
      const monitor = await tcp(accounts.monitor)
      await monitor.query(
        "CALL memcached.mc_mark(0); UPDATE memcached.mc_meta SET value = 1 WHERE name = 'epoch'; SELECT * FROM memcached.mc_nodes",
      )
      await monitor.query(
        engine === 'mariadb' ? 'SHOW MASTER STATUS; SHOW SLAVE STATUS' : 'SHOW BINARY LOG STATUS; SHOW REPLICA STATUS',
      )
      for (const statement of [
        "CALL memcached.set_key(1, 'k', 'v', 0)",
        'DELETE FROM memcached.mc_stored_keys',
        'DELETE FROM memcached.mc_meta',
        'SELECT * FROM mysql.user',
        "CREATE USER 'x'@'%'",
        'CREATE TABLE memcached.x (id INT)',
      ]) {
        await expect(monitor.query(statement), statement).rejects.toThrow(/denied/)
      }
    })

    test('nobody logs in as the account that the routines run as', async () => {
      const definer = { socketPath: database.socket, user: 'whitehole_definer' }
      await expect(database.connect({ ...definer, password: '' })).rejects.toThrow(/denied|locked/)
      await sql.query('ALTER USER whitehole_definer@localhost ACCOUNT UNLOCK')
      await expect(database.connect({ ...definer, password: '' })).rejects.toThrow(/denied/)
      await initializeSchema(sql, { accounts: {} })
      await expect(database.connect({ ...definer, password: '' })).rejects.toThrow(/denied|locked/)
    })

    test('a new password comes into force, the former one ends', async () => {
      await initializeSchema(sql, {
        accounts: { application: { ...accounts.application, password: 'another-secret' } },
      })
      await (await tcp({ user: 'shop', password: 'another-secret' })).query('SELECT 1')
      await expect(tcp(accounts.application)).rejects.toThrow(/denied/)
      await initializeSchema(sql, { accounts })
    })

    test('no password stands in the binlog, nor in an error', async () => {
      const bytes = await binlogBytes(database)
      expect(bytes).toContain('whitehole_node')
      for (const { password } of Object.values(accounts)) expect(bytes.includes(password)).toBe(false)
      expect(bytes).not.toMatch(/-secret/)
      // A user name that no server takes.
      const bad = { ...accounts.application, user: 'x'.repeat(200) }
      const error = await failure(initializeSchema(sql, { accounts: { application: bad } }))
      expect(error.code).toBe('bad-configuration')
      expect(describeError(error)).toContain('the application account could not be made: ')
      expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/application-secret/)
    })

    test('a read-only standby refuses every routine, whoever calls it: also root', async () => {
      const application = await tcp(accounts.application)
      const before = await state()
      await database.query('SET GLOBAL read_only = 1')
      for (const caller of [application, sql]) {
        for (const call of [
          "set_key(1, 'k', 'w', 0)",
          "delete_key(1, 'k')",
          "delete_key(1, 'absent')",
          "touch_key(1, 'k', 60)",
          "add_key(1, 'k', 'w', 0)",
          "incr_key(1, 'absent', 1)",
          'flush_namespace(1)',
          'drop_namespace(1)',
          "create_namespace('x')",
        ]) {
          await expect(caller.query(`CALL memcached.${call}`), call).rejects.toMatchObject({ errno: 1290 })
        }
      }
      await expect(
        sql.query("INSERT INTO memcached.mc_namespaces (ns_id, ns_name) VALUES (7, 'x')"),
      ).rejects.toMatchObject({
        errno: 1290,
      })
      await database.query('SET GLOBAL read_only = 0')
      expect(await state()).toEqual(before)
    })
  })
})

describe('init on a MariaDB', () => {
  test('without the BLACKHOLE plugin says which option loads it', async () => {
    const database = await Database.start('mariadb', ['--blackhole=OFF'])
    try {
      const error = await failure(initializeSchema(await database.connect(), { accounts: {} }))
      expect(error.message).toBe(
        'this database has no BLACKHOLE engine: on MariaDB, plugin_load_add=ha_blackhole loads it',
      )
    } finally {
      await database.remove()
    }
  })

  test('with a standby brings schema, accounts and rows there, where the routines are refused', async () => {
    const primary = await Database.start()
    const standby = await Database.start()
    try {
      await pairUp(primary, standby)
      const sql = await primary.connect()
      await initializeSchema(sql, { accounts })
      await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one'); CALL set_key(1, 'k', 'v', 100)")
      const directory = 'SELECT * FROM memcached.mc_stored_keys JOIN memcached.mc_namespaces USING (ns_id)'
      await until('the standby to have the key', async () => (await standby.query(directory)).length === 1)
      expect(await standby.query(directory)).toEqual(await primary.query(directory))
      expect(await shapeProblems(await standby.connect())).toEqual([])
      const application = await standby.connectTcp({ user: 'shop', password: accounts.application.password })
      await expect(application.query("CALL memcached.set_key(1, 'k', 'w', 0)")).rejects.toMatchObject({ errno: 1290 })
      expect((await standby.query<{ p: string }>('SELECT @@gtid_current_pos AS p'))[0]?.p).toBe(
        (await primary.query<{ p: string }>('SELECT @@gtid_current_pos AS p'))[0]?.p,
      )
    } finally {
      await Promise.all([primary.remove(), standby.remove()])
    }
  })
})
