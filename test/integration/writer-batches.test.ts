import { crc32 } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { keyFromBytes, keyFromText } from '../../src/domain/key.ts'
import { groupKeys } from '../../src/writer/lane-session.ts'
import { lockAndRead, readDirty, sessionSettings } from '../../src/writer/statements.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { ending, endings, flush, remove, set, touch, WritingWorld } from '../support/writing.ts'

describe.each(engineList)('writes through %s', (engine) => {
  let world: WritingWorld
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  afterEach(async () => world?.closeWriters())
  afterAll(async () => world?.stop())

  it('are acknowledged with the outcome that the log then carries', async () => {
    const session = world.writer('a').openSession()
    const outcomes = await endings([
      session.submit(set('first', '12', 100)),
      session.submit(touch('first', 200)),
      session.submit(touch('nothing', 200)),
      session.submit(remove('first')),
      session.submit(remove('first')),
      session.submit(set('first', 'again')),
    ])
    expect(outcomes).toEqual(['stored', 'touched', 'not-found', 'deleted', 'not-found', 'stored'])
    const entries = world.log.entriesOf('first')
    expect(entries.map(({ kind }) => kind)).toEqual(['set', 'touch', 'delete', 'delete', 'set'])
    expect(entries[1]?.version).toBe(entries[0]?.version)
    const row = await world.row('first')
    expect(row).toMatchObject({ version: String(entries.at(-1)?.version), size: 5, expire: 0, number: null, live: 1 })
    expect(world.log.entriesOf('nothing')).toEqual([])
  })

  it('leave directory and log with the same version, size, checksum and expiry', async () => {
    const session = world.writer('a').openSession()
    await session.submit({ ...set('same', '77', 1000), flags: 2n ** 64n - 1n })
    await session.submit(set('kept', 'x'))
    await session.submit(touch('kept', 500))
    const [entry] = world.log.entriesOf('same')
    expect(entry).toMatchObject({
      kind: 'set',
      value: '77',
      flags: '18446744073709551615',
      generation: await world.generation(),
    })
    expect(await world.row('same')).toMatchObject({
      version: String(entry?.version),
      expire: entry?.expiry,
      flags: entry?.flags,
      size: 2,
      checksum: crc32('77'),
      number: '77',
    })
    expect(Math.abs((entry?.expiry ?? 0) - 1000 - (await world.nowSeconds()))).toBeLessThanOrEqual(5)
    const [stored, touched] = world.log.entriesOf('kept')
    expect(await world.row('kept')).toMatchObject({
      version: String(stored?.version),
      expire: touched?.expiry,
      size: 1,
    })
  })

  it('carry every byte of keys and values', async () => {
    const session = world.writer('a').openSession()
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    const key = keyFromBytes(bytes.subarray(6))
    await session.submit({ ...set('', bytes), key })
    await session.submit({ ...set(''), key: keyFromText("';DROP TABLE mc_lanes;-- \\"), value: Buffer.alloc(0) })
    expect(world.log.entriesOf(key).at(-1)?.value).toBe(bytes.toString('latin1'))
    expect(world.log.entriesOf("';DROP TABLE mc_lanes;-- \\").at(-1)?.value).toBe('')
    const [row] = await world.database.query<{ checksum: number; expected: number; size: number }>(
      'SELECT checksum, CRC32(?) AS expected, size FROM memcached.mc_stored_keys WHERE ns_id = 1 AND mc_key = ?',
      [bytes, bytes.subarray(6)],
    )
    expect(row).toEqual({ checksum: row?.expected, expected: row?.expected, size: 256 })
  })

  it('gather while a transaction is under way, and keep the order of the log', async () => {
    const writer = world.writer('a')
    const sessions = Array.from({ length: 50 }, () => writer.openSession())
    await Promise.all(
      sessions.flatMap((session, index) =>
        Array.from({ length: 20 }, async (_, round) => session.submit(set(`gather${index % 10}`, `${index}-${round}`))),
      ),
    )
    expect(writer.metrics.batches).toBeLessThan(100)
    for (let index = 0; index < 50; index++) {
      const rounds = world.log
        .entriesOf(`gather${index % 10}`)
        .filter(({ value }) => value?.startsWith(`${index}-`) === true)
        .map(({ value }) => Number(value?.split('-')[1]))
      expect(rounds).toEqual(Array.from({ length: 20 }, (_, round) => round))
    }
  })

  it('keep the order of a session around its flush, across keys', async () => {
    const session = world.writer('a').openSession()
    const before = await world.generation()
    const first = world.log.transactions.length
    const outcomes = await endings([
      session.submit(set('o1')),
      session.submit(flush()),
      session.submit(set('o2')),
      session.submit(remove('o1')),
      session.submit(flush(0, 2)),
      session.submit(set('o3')),
    ])
    expect(outcomes).toEqual(['stored', 'flushed', 'stored', 'not-found', 'flushed', 'stored'])
    const told = world.log.transactions
      .slice(first)
      .flatMap(({ entries, flushes }) => [
        ...entries.map(({ key }) => key),
        ...flushes.map(({ namespaceId }) => namespaceId),
      ])
    expect(told).toEqual(['o1', 1, 'o2', 'o1', 2, 'o3'])
    expect(world.log.entriesOf('o1').map(({ generation }) => generation)).toEqual([before, before + 1])
  })

  it('to unknown namespaces, with bad keys and with too large values fail alone', async () => {
    await world.database.query('UPDATE memcached.mc_namespaces SET max_value_bytes = 10 WHERE ns_id = 2')
    const session = world.writer('a').openSession()
    await session.submit({ ...set('big', 'small'), namespaceId: 2 })
    const told = await Promise.all([
      ending(session.submit({ ...set('big', 'eleven byte'), namespaceId: 2 })),
      ending(session.submit({ ...set('x'), namespaceId: 77 })),
      ending(session.submit(flush(0, 77))),
      ending(session.submit(set('y'.repeat(251)))),
      ending(session.submit(set(''))),
      ending(session.submit(set('huge', Buffer.alloc(40 * 1024 * 1024)))),
      ending(session.submit(set('y'.repeat(250)))),
    ])
    expect(told).toEqual([
      'value-too-large',
      'unknown-namespace',
      'unknown-namespace',
      'key-too-long',
      'key-too-long',
      'value-too-large',
      'stored',
    ])
    expect(world.log.entriesOf('big').map(({ kind }) => kind)).toEqual(['set', 'delete'])
    expect(await world.row('big', 2)).toMatchObject({ expire: 1 })
  })

  it('of a delayed flush note the due time by the primary, and exactly one node executes it', async () => {
    const [one, two] = [world.writer('a'), world.writer('b')]
    const before = await world.generation()
    await one.openSession().submit(flush(2))
    const due = world.log.transactions.flatMap(({ flushes }) => flushes).at(-1)?.flushDue ?? 0
    expect(Math.abs(due - 2 - (await world.nowSeconds()))).toBeLessThanOrEqual(2)
    expect(await one.flushDue(1, due)).toBe(false)
    expect(await world.generation()).toBe(before)
    await until('the flush to be due', async () => (await world.nowSeconds()) >= due)
    const done = await Promise.all([one.flushDue(1, due), two.flushDue(1, due), one.flushDue(1, due)])
    expect(done.filter(Boolean)).toHaveLength(1)
    expect(await world.generation()).toBe(before + 1)
    // A flush at once makes a later one void.
    await one.openSession().submit(flush(1000))
    await two.openSession().submit(flush())
    expect(await one.flushDue(1, due + 1000)).toBe(false)
    expect(await world.generation()).toBe(before + 2)
  })

  it.each([1, 1000, 2500])('look up %d keys by the primary key alone', async (count) => {
    const connection = await world.database.connect({ database: 'memcached' })
    await connection.query(sessionSettings())
    await connection.query(
      `INSERT IGNORE INTO mc_stored_keys (ns_id, mc_key, version)
       WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
       SELECT 1, CONCAT('range', i), 1 FROM n`,
    )
    const keys = Array.from({ length: count }, (_, index) => {
      const key = keyFromText(`range${index}${'x'.repeat(index % 200)}`)
      return { id: `1:${key}`, namespaceId: 1, key, hex: Buffer.from(key).toString('hex') }
    })
    const place = { lane: 'x', incarnation: 1, sequence: 1 }
    const statements = [
      ...lockAndRead(engine, place, { namespaces: [1], keys: groupKeys(keys) }).split(';'),
      ...readDirty(engine, groupKeys(keys)).split(';'),
    ]
    const reads = statements.filter((text) => text.includes('mc_stored_keys'))
    expect(reads).toHaveLength(2)
    for (const statement of reads) {
      const [plan] = (await connection.query(`EXPLAIN FORMAT=TRADITIONAL ${statement}`)) as unknown as [
        Record<string, unknown>[],
      ]
      const steps = plan.map(({ table, type, key }) => ({ table, type, key }))
      const types = steps
        .filter(({ table }) => table === 'directory')
        .map(({ type, key }) => `${String(type)} ${String(key)}`)
      expect(['eq_ref PRIMARY', 'const PRIMARY']).toContain(types.join())
      await connection.query('FLUSH STATUS')
      await connection.query(statement)
      const [counters] = (await connection.query("SHOW SESSION STATUS LIKE 'Handler_read_%'")) as unknown as [
        { Variable_name: string; Value: string }[],
      ]
      const read = counters.find(({ Variable_name: name }) => name === 'Handler_read_key')
      const scanned = counters.find(({ Variable_name: name }) => name === 'Handler_read_next')
      expect([read?.Value, scanned?.Value]).toEqual([String(count), '0'])
    }
    connection.destroy()
  })
})
