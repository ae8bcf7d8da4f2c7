import { crc32 } from 'node:zlib'
import type { Connection, RowDataPacket } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { counterBytesMax, counterOf } from '../../src/domain/counter.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { counterCases } from '../support/counter-cases.ts'
import { Database, engineList } from '../support/databases.ts'
import { LogTail } from '../support/log-tail.ts'
import { dialogue, Memcached } from '../support/memcached.ts'

interface Answer {
  readonly outcome: string
  readonly version: string | null
  readonly number?: string | null
}

describe.each(engineList)('the routines with a condition on %s', (engine) => {
  let database: Database
  let sql: Connection
  let tail: LogTail

  beforeAll(async () => {
    database = await Database.start(engine)
    sql = await database.connect({ bigNumberStrings: true })
    await initializeSchema(sql, { accounts: {} })
    tail = await LogTail.start(database, 4_000_003)
  })
  afterAll(async () => {
    tail?.stop()
    await database?.remove()
  })
  beforeEach(async () => {
    await sql.query('DELETE FROM mc_stored_keys; DELETE FROM mc_namespaces')
    await sql.query("INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (1, 'one')")
    await tail.transactions()
  })

  const call = async (statement: string, values: unknown[] = []): Promise<Answer> => {
    const [[[answer]]] = (await sql.query(`CALL ${statement}`, values)) as unknown as [[[Answer]]]
    return answer
  }
  const outcome = async (statement: string): Promise<string> => (await call(statement)).outcome
  const row = async (key = 'k'): Promise<RowDataPacket | undefined> => {
    const [[found]] = await sql.query<RowDataPacket[]>(
      'SELECT *, UNIX_TIMESTAMP(created) AS created_at FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = ?',
      [key],
    )
    return found
  }
  const log = async (): Promise<Record<string, unknown>[]> => {
    const rows = (await tail.transactions()).flatMap((transaction) => transaction.rows)
    return rows.filter(({ table }) => table === 'mc_storage').map((entry) => entry.row)
  }
  const logged = async (): Promise<string[]> =>
    (await log()).map(({ op, mc_key, mc_value }) => `${String(op)} ${String(mc_key)} ${String(mc_value)}`)
  /** A key of each kind that is not live. */
  const notLive = async (): Promise<string[]> => {
    await sql.query(`CALL set_key(1, 'flushed', '5', 0); CALL flush_namespace(1); CALL set_key(1, 'deleted', '5', 0);
      CALL delete_key(1, 'deleted'); CALL set_key(1, 'expired', '5', 2592001)`)
    await tail.transactions()
    return ['absent', 'deleted', 'expired', 'flushed']
  }

  test('add stores where there is no live key, with the version that directory and log carry', async () => {
    for (const key of await notLive()) {
      const { outcome: added, version } = await call(`add_key(1, ?, 'new', 50)`, [key])
      expect(added, key).toBe('stored')
      const stored = await row(key)
      expect(stored).toMatchObject({ version, size: 3, checksum: crc32('new'), number: null, flags: '0' })
      expect(Number(stored?.['expire']) - Number(stored?.['created_at'])).toBe(50)
      const [entry, ...others] = await log()
      expect(others).toEqual([])
      expect([entry?.['op'], String(entry?.['version']), String(entry?.['expire'])]).toEqual([
        1,
        version,
        stored?.['expire'],
      ])
      expect(String(entry?.['mc_value'])).toBe('new')
    }
  })

  test('add leaves a live key alone and tells its version', async () => {
    const { version } = await call("add_key(1, 'k', 'first', 0)")
    await tail.transactions()
    expect(await call("add_key(1, 'k', 'second', 0)")).toEqual({ outcome: 'not_stored', version })
    expect(await tail.transactions()).toEqual([])
    expect(await row()).toMatchObject({ version, size: 5 })
  })

  test('replace stores over a live key, and its flags go as with set', async () => {
    await sql.query("CALL set_key(1, 'k', 'old', 50); UPDATE mc_stored_keys SET flags = 7")
    await log()
    const { outcome: replaced, version } = await call("replace_key(1, 'k', '123', 0)")
    expect(replaced).toBe('stored')
    expect(await row()).toMatchObject({
      version,
      size: 3,
      checksum: crc32('123'),
      number: '123',
      expire: '0',
      flags: '0',
    })
    expect(await logged()).toEqual(['1 k 123'])
  })

  test('what finds no live key says so, logs nothing, and leaves no more than a dead row', async () => {
    for (const key of await notLive()) {
      const before = await row(key)
      expect(await call('replace_key(1, ?, "v", 0)', [key])).toEqual({ outcome: 'not_stored', version: null })
      expect(await call('cas_key(1, ?, "v", 0, 1)', [key])).toEqual({ outcome: 'not_found', version: null })
      for (const change of ['incr_key', 'decr_key']) {
        expect(await call(`${change}(1, ?, 1)`, [key])).toEqual({ outcome: 'not_found', number: null, version: null })
      }
      expect(await log()).toEqual([])
      const after = await row(key)
      if (before === undefined) expect(after).toMatchObject({ expire: '1', size: 0, checksum: 0, number: null })
      else expect(after).toEqual(before)
    }
  })

  test('cas stores under the version of the live key alone, and says what is there instead', async () => {
    const { version: first } = await call("add_key(1, 'k', '1', 0)")
    const { outcome: won, version: second } = await call("cas_key(1, 'k', '2', 0, ?)", [first])
    expect(won).toBe('stored')
    expect(second).not.toBe(first)
    await tail.transactions()
    for (const token of [first, '0', '1', '9223372036854775808', '18446744073709551615']) {
      expect(await call("cas_key(1, 'k', '3', 0, ?)", [token])).toEqual({ outcome: 'exists', version: second })
    }
    expect(await tail.transactions()).toEqual([])
    expect(await row()).toMatchObject({ version: second, number: '2' })
  })

  test('R21: an old token never wins again, not after a delete, a purge, a flush or a new creation', async () => {
    const { version: token } = await call("add_key(1, 'k', 'old', 0)")
    const stale = async (): Promise<string> => (await call("cas_key(1, 'k', 'stale', 0, ?)", [token])).outcome
    await sql.query("CALL delete_key(1, 'k')")
    expect(await stale()).toBe('not_found')
    await call("add_key(1, 'k', 'old', 0)")
    expect(await stale()).toBe('exists')
    await sql.query('DELETE FROM mc_stored_keys')
    expect(await stale()).toBe('not_found')
    await call("add_key(1, 'k', 'old', 0)")
    expect(await stale()).toBe('exists')
    await sql.query('CALL flush_namespace(1)')
    expect(await stale()).toBe('not_found')
    await call("add_key(1, 'k', 'old', 0)")
    expect(await stale()).toBe('exists')
  })

  test('R22: a touch keeps the token', async () => {
    const { version } = await call("add_key(1, 'k', 'v', 0)")
    await sql.query("CALL touch_key(1, 'k', 500)")
    expect((await call("cas_key(1, 'k', 'w', 0, ?)", [version])).outcome).toBe('stored')
  })

  test("the namespace's TTLs and its limit on values hold", async () => {
    await sql.query('UPDATE mc_namespaces SET default_ttl = 100, max_ttl = 200, max_value_bytes = 3')
    const ttl = async (): Promise<number> => {
      const stored = await row()
      return Number(stored?.['expire']) - Number(stored?.['created_at'])
    }
    await call("add_key(1, 'k', '999', 0)")
    expect(await ttl()).toBe(100)
    const { version } = await call("replace_key(1, 'k', '999', 300)")
    expect(await ttl()).toBe(200)
    await call("cas_key(1, 'k', '999', 20, ?)", [version])
    expect(await ttl()).toBe(20)
    await expect(call("add_key(1, 'k', '1000', 0)")).rejects.toThrow('its namespace allows 3 bytes')
    expect(await call("incr_key(1, 'k', 1)")).toMatchObject({ outcome: 'stored', number: '1000' })
  })

  test('flags and expiry stay where a counter moves; size, checksum and number follow', async () => {
    await sql.query("CALL set_key(1, 'k', '10', 500); UPDATE mc_stored_keys SET flags = 4294967295")
    const before = await row()
    await log()
    const { number, version } = await call("decr_key(1, 'k', 1)")
    expect(number).toBe('9')
    expect(version).not.toBe(before?.['version'])
    const { flags, expire } = { ...before }
    expect(await row()).toMatchObject({ version, flags, expire, size: 2, checksum: crc32('9 '), number: '9' })
    const [entry] = await log()
    expect([entry?.['op'], String(entry?.['version']), String(entry?.['flags']), String(entry?.['expire'])]).toEqual([
      1,
      version,
      '4294967295',
      expire,
    ])
    expect(String(entry?.['mc_value'])).toBe('9 ')
  })

  test("what is a number is decided as nodes decide it, and so as memcached's incr does", async () => {
    const cases = [...counterCases(), '', ' ', '\r\n', '-', '\0', '5'.padEnd(counterBytesMax + 1)]
    for (let at = 0; at < cases.length; at += 500) {
      const some = cases.slice(at, at + 500).map((text) => Buffer.from(text, 'latin1'))
      const columns = some.map((value, index) => `CAST(mc_number(X'${value.toString('hex')}') AS CHAR) AS n${index}`)
      const [[found]] = await sql.query<RowDataPacket[]>(`SELECT ${columns.join(', ')}`)
      const expected = some.map((value) => counterOf(value)?.toString() ?? null)
      expect(Object.values(found ?? {})).toEqual(expected)
    }
  })

  test("counters go as memcached's own: answers, wrap, floor, padding, values that are none", async () => {
    const max = '18446744073709551615'
    const stories: [value: string, ...steps: string[]][] = [
      ['10', 'decr 20', 'incr 1', 'incr 99', 'decr 1', 'decr 1'],
      ['10', 'decr 1', 'decr 9', 'decr 1', 'incr 5'],
      [max, 'incr 1', 'incr 0', 'incr 12345', 'decr 6', `incr ${max}`, `decr ${max}`],
      ['99', 'incr 1', `incr ${max}`, 'incr 0', 'decr 9223372036854775808'],
      ['9223372036854775808', 'incr 9223372036854775807', 'incr 1', `incr ${max}`, `incr ${max}`],
      [' 12', 'incr 1', 'decr 4', 'incr 100000'],
      ['000000000000000000001', 'incr 1', 'decr 1', 'decr 1'],
      ['7 apples', 'incr 3'],
      ['-18446744073709551615', 'incr 1'],
      ...['abc', '12ab', '', '18446744073709551616', '-5', '1.5'].map((value): [string, string] => [value, 'incr 1']),
    ]
    // Where a background thread looks at the item at that moment, memcached stores a new one, without the padding.
    const memcached = await Memcached.start(['-o', 'no_lru_maintainer,no_lru_crawler'])
    try {
      for (const [value, ...steps] of stories) {
        await sql.query("CALL set_key(1, 'k', ?, 0)", [value])
        await dialogue(memcached.port, `set k 0 0 ${value.length}\r\n${value}\r\n`, /STORED\r\n/)
        for (const step of steps) {
          const [command, delta] = step.split(' ') as [string, string]
          await log()
          const theirs = await dialogue(memcached.port, `${command} k ${delta}\r\nget k\r\n`, /END\r\n$/)
          const { outcome: how, number } = await call(`${command}_key(1, 'k', ${delta})`)
          const [entry] = await log()
          const kept = entry === undefined ? value : String(entry['mc_value'])
          const reply = how === 'not_a_number' ? nonNumeric : String(number)
          expect(`${reply}\r\nVALUE k 0 ${kept.length}\r\n${kept}\r\nEND\r\n`, `${value}, ${step}`).toBe(theirs)
        }
      }
    } finally {
      await memcached.stop()
    }
  })

  test('set, add, replace and cas note the number of what they store; delete takes it away', async () => {
    const number = async (): Promise<unknown> => (await row())?.['number']
    await sql.query("CALL set_key(1, 'k', '41', 0)")
    expect(await number()).toBe('41')
    await sql.query("CALL set_key(1, 'k', 'none', 0)")
    expect(await number()).toBeNull()
    const { version } = await call("replace_key(1, 'k', '43 ', 0)")
    expect(await number()).toBe('43')
    await call("cas_key(1, 'k', ?, 0, ?)", ['18446744073709551615', version])
    expect(await number()).toBe('18446744073709551615')
    await sql.query("CALL delete_key(1, 'k')")
    expect(await number()).toBeNull()
    await call("add_key(1, 'k', '44', 0)")
    expect(await number()).toBe('44')
  })

  test.each([
    ["add_key(7, 'k', 'v', 0)", 'unknown namespace 7'],
    ["replace_key(NULL, 'k', 'v', 0)", 'unknown namespace NULL'],
    ["cas_key(7, 'k', 'v', 0, 1)", 'unknown namespace 7'],
    ["incr_key(7, 'k', 1)", 'unknown namespace 7'],
    ["decr_key(ns('nobody'), 'k', 1)", "unknown namespace 'nobody'"],
    ["add_key(1, '', 'v', 0)", 'a key has 1 to 250 bytes, this one has 0'],
    ["incr_key(1, REPEAT('k', 251), 1)", 'a key has 1 to 250 bytes, this one has 251'],
    ['decr_key(1, NULL, 1)', 'a key has 1 to 250 bytes, this one has none (it is NULL)'],
    ["replace_key(1, 'k', NULL, 0)", "a value can't be NULL: use delete_key"],
    ["add_key(1, 'k', REPEAT('v', 1048517), 0)", 'value too large: at most 1048516 bytes fit beside this key'],
    ["add_key(1, 'k', 'v', NULL)", 'expire is at most 2147483647, this one is NULL'],
    ["cas_key(1, 'k', 'v', 2147483648, 1)", 'expire is at most 2147483647, this one is 2147483648'],
    ["cas_key(1, 'k', 'v', 0, NULL)", `a version lies between 0 and 18446744073709551615, this one is NULL`],
    ["cas_key(1, 'k', 'v', 0, -1)", `a version lies between 0 and 18446744073709551615, this one is -1`],
    ["incr_key(1, 'k', -1)", `a delta lies between 0 and 18446744073709551615, this one is -1`],
    ["incr_key(1, 'k', NULL)", `a delta lies between 0 and 18446744073709551615, this one is NULL`],
    [
      "decr_key(1, 'k', 18446744073709551616)",
      `a delta lies between 0 and 18446744073709551615, this one is 18446744073709551616`,
    ],
  ])('%s is refused with a clear text and leaves nothing', async (statement, text) => {
    await expect(call(statement)).rejects.toMatchObject({
      errno: 1644,
      sqlState: '45000',
      message: `whitehole: ${text}`,
    })
    expect(await tail.transactions()).toEqual([])
    expect(await row()).toBeUndefined()
  })

  test('without row-based logging, or with none, all of them refuse', async () => {
    const session = await database.connect({ database: 'memcached' })
    for (const setting of ["binlog_format = 'STATEMENT'", 'sql_log_bin = 0']) {
      await session.query(`SET SESSION binlog_format = 'ROW', SESSION sql_log_bin = 1, SESSION ${setting}`)
      for (const arguments_ of ["add_key(1, 'k', 'v', 0)", "replace_key(1, 'k', 'v', 0)", "incr_key(1, 'k', 1)"]) {
        await expect(session.query(`CALL ${arguments_}`), arguments_).rejects.toThrow(
          /whitehole: (binlog_format is STATEMENT here|nothing is written to the binlog here)/,
        )
      }
    }
    session.destroy()
    expect(await row()).toBeUndefined()
  })

  test("keys and values are bytes, whatever the caller's mode and character set", async () => {
    const lax = await database.connect({ database: 'memcached', charset: 'latin1', flags: ['-FOUND_ROWS'] })
    await lax.query("SET SESSION sql_mode = ''")
    const key = Buffer.from([0, 0xff, 0x20, 0x27])
    const value = Buffer.from([0xff, 0, 0x5c, 0x0a])
    const added = [0, 0].map(() => lax.query('CALL add_key(1, ?, ?, 0)', [key, value]) as Promise<unknown>)
    const answers = (await Promise.all(added)) as [[[Answer]]][]
    expect(answers.map(([[[answer]]]) => answer.outcome)).toEqual(['stored', 'not_stored'])
    await expect(lax.query("CALL incr_key(1, 'k', -1)")).rejects.toThrow('a delta lies between')
    lax.destroy()
    const [entry, ...others] = await log()
    expect(others).toEqual([])
    expect(entry).toMatchObject({ mc_key: key, mc_value: value })
  })

  test('the functions answer the same in one word, or with the number', async () => {
    const value = async (expression: string): Promise<unknown> => {
      const [[found]] = await sql.query<RowDataPacket[]>(`SELECT ${expression} AS answer`)
      return found?.['answer']
    }
    expect(await value("mc_replace(1, 'k', '1', 0)")).toBe('not_stored')
    expect(await value("mc_add(1, 'k', '1', 0)")).toBe('stored')
    expect(await value("mc_add(1, 'k', '1', 0)")).toBe('not_stored')
    expect(await value("mc_cas(1, 'k', '1', 0, 5)")).toBe('exists')
    expect(await value("mc_cas(1, 'x', '1', 0, 5)")).toBe('not_found')
    expect(
      await value("mc_cas(1, 'k', '7', 0, (SELECT version FROM mc_namespaces JOIN (SELECT 1 AS version) one))"),
    ).toBe('exists')
    expect(await value("mc_replace(1, 'k', '18446744073709551614', 0)")).toBe('stored')
    expect(await value("mc_incr(1, 'k', 1)")).toBe('18446744073709551615')
    expect(await value("mc_decr(1, 'k', 18446744073709551610)")).toBe('5')
    expect(await value("mc_incr(1, 'x', 1)")).toBeNull()
    expect(await outcome("replace_key(1, 'k', 'text', 0)")).toBe('stored')
    expect(await value("mc_decr(1, 'k', 1)")).toBeNull()
  })
})

const nonNumeric = 'CLIENT_ERROR cannot increment or decrement non-numeric value'
