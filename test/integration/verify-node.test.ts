import { setTimeout as delay } from 'node:timers/promises'
import type { Connection } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { composeItemKey, type Key, keyFromBytes } from '../../src/domain/key.ts'
import { engineList } from '../support/databases.ts'
import { Memcached } from '../support/memcached.ts'
import { VerifyWorld } from '../support/verify-world.ts'

const clean = { evicted: 0, missing: 0, diverged: 0, orphan: 0, unsettled: 0, examples: [] }

describe.each(engineList)('verify against a directory on %s', (engine) => {
  let world: VerifyWorld

  beforeAll(async () => {
    world = await VerifyWorld.start(engine)
  })
  afterAll(async () => {
    await world?.stop()
  })
  beforeEach(async () => {
    await world.clear()
    await world.createNamespace(7, 'sessions')
    await world.createNamespace(8, 'catalog')
  })

  it('finds nothing where everything is as it should be', async () => {
    for (let i = 0; i < 30; i++) await world.both(7, `key${i}`, { value: `value ${i}`, flags: String(i) })
    await world.both(8, 'key0', { value: '', flags: '4294967295' })
    await world.both(8, 'large', { value: 'x'.repeat(1_000_000) })
    const answer = await world.verify({ limits: { chunkRows: 7 } })
    expect(answer.namespaces).toEqual([
      { name: 'sessions', keys: 30, present: 30, ...clean },
      { name: 'catalog', keys: 2, present: 2, ...clean },
    ])
    expect(answer).toMatchObject({ name: 'node1', dialect: engine, foreign: 0 })
    expect(answer.position).toMatch(engine === 'mariadb' ? /^0-\d+-\d+$/ : /^[0-9a-f-]{36}:1-\d+$/)
  })

  it('finds missing, diverged and orphan keys, with examples that can be printed', async () => {
    for (let i = 0; i < 30; i++) await world.both(7, `key${i}`)
    for (let i = 0; i < 12; i++) await world.removeItem(7, `key${i}`)
    await world.item(7, 'key20', { value: 'wrong' })
    await world.item(7, 'key21', { value: 'value', flags: '3' })
    await world.item(7, 'key22', { value: 'longer value' })
    await world.item(7, 'nobody\n\u0001', { value: 'x' })
    const found = await world.verifyOne('sessions', { limits: { chunkRows: 4 } })
    expect(found).toMatchObject({ keys: 30, present: 15, evicted: 0, missing: 12, diverged: 3, orphan: 1 })
    const keys = (kind: string): string[] => found.examples.filter((one) => one.kind === kind).map(({ key }) => key)
    expect(keys('missing')).toHaveLength(10)
    expect(keys('missing')).toContain('key0')
    expect(keys('diverged')).toEqual(['key20', 'key21', 'key22'])
    expect(keys('orphan')).toEqual(['nobody\\n\\u0001'])
    expect(await world.verifyOne('catalog')).toEqual({ name: 'catalog', keys: 0, present: 0, ...clean })
  })

  it('takes deleted rows for no keys, and their items for orphans', async () => {
    await world.row(7, 'gone', { expireSql: '1' })
    await world.row(7, 'served still', { expireSql: '1' })
    await world.item(7, 'served still')
    const found = await world.verifyOne('sessions')
    expect(found).toMatchObject({ keys: 0, present: 0, missing: 0, orphan: 1 })
    expect(found.examples).toEqual([{ kind: 'orphan', key: 'served still' }])
  })

  it('allows two seconds around an expiry', async () => {
    await world.row(7, 'long gone', { expireSql: 'UNIX_TIMESTAMP() - 60' })
    await world.row(7, 'about to go', { expireSql: 'UNIX_TIMESTAMP() + 1' })
    await world.row(7, 'here still', { expireSql: 'UNIX_TIMESTAMP() + 1' })
    await world.item(7, 'here still')
    await world.row(7, 'missing', { expireSql: 'UNIX_TIMESTAMP() + 100' })
    await world.row(7, 'far', { expireSql: '18446744073709551615' })
    await world.item(7, 'far')
    const found = await world.verifyOne('sessions')
    expect(found).toMatchObject({ keys: 2, present: 1, missing: 1, diverged: 0, orphan: 0, unsettled: 0 })
    await world.row(7, 'here still', { expireSql: 'UNIX_TIMESTAMP() - 60' })
    expect(await world.verifyOne('sessions')).toMatchObject({ orphan: 1 })
  })

  it('takes flushed items for no orphans, and flushed rows for no keys', async () => {
    for (let i = 0; i < 5; i++) await world.both(7, `key${i}`)
    await world.flush(7)
    expect(await world.verifyOne('sessions')).toEqual({ name: 'sessions', keys: 0, present: 0, ...clean })
    await world.both(7, 'key0')
    await world.row(7, 'key1')
    const found = await world.verifyOne('sessions')
    expect(found).toMatchObject({ keys: 2, present: 1, missing: 1, orphan: 0 })
  })

  it('takes an item of a lost flush for an orphan', async () => {
    await world.both(7, 'key')
    await world.root.query('UPDATE mc_namespaces SET generation = generation + 1 WHERE ns_id = 7')
    expect(await world.verifyOne('sessions')).toMatchObject({ keys: 0, orphan: 1 })
  })

  it('compares hashed and binary keys', async () => {
    const binary = keyFromBytes(Buffer.from([0, 10, 32, 255, 37, 128]))
    const long = 'l'.repeat(250) as Key
    const tilde = '~tilde' as Key
    for (const key of [binary, long, tilde, 'schlüssel' as Key]) await world.both(7, key)
    await world.both(8, long)
    const answer = await world.verify()
    expect(answer.namespaces).toMatchObject([
      { name: 'sessions', keys: 4, present: 4, ...clean },
      { name: 'catalog', keys: 1, present: 1, ...clean },
    ])
    for (const key of [binary, long, tilde]) await world.item(7, key, { value: 'wrong' })
    expect(await world.verifyOne('sessions')).toMatchObject({ present: 1, diverged: 3 })
    for (const key of [binary, long]) await world.removeItem(7, key)
    expect(await world.verifyOne('sessions')).toMatchObject({ present: 1, diverged: 1, missing: 2 })
  })

  it.each([250_000, 1])('finds orphans among hashed keys, remembering up to %i of them', async (hashedKeys) => {
    const long = (i: number): Key => `${i}${'l'.repeat(245)}` as Key
    for (let i = 0; i < 5; i++) await world.both(7, long(i))
    await world.item(7, long(9))
    await world.item(7, '~orphan')
    // The same key has its row in another namespace.
    await world.both(8, long(1))
    await world.both(8, long(7))
    await world.item(7, long(7))
    const answer = await world.verify({ limits: { hashedKeys, chunkRows: 2 } })
    const [sessions, catalog] = answer.namespaces
    expect(sessions).toMatchObject({ keys: 5, present: 5, missing: 0, orphan: 3 })
    expect(catalog).toEqual({ name: 'catalog', keys: 2, present: 2, ...clean })
    const hashed = composeItemKey('sessions', long(9)).slice('sessions:'.length)
    expect(sessions?.examples).toContainEqual({ kind: 'orphan', key: hashed })
  })

  it("leaves other people's items and the state item alone, and counts the former", async () => {
    await world.connection.request('ms ~whitehole 1', Buffer.from('x'))
    await world.connection.request('ms session 1', Buffer.from('x'))
    await world.connection.request('ms other:key 1', Buffer.from('x'))
    await world.connection.request('ms sessions:~not-hashed 1', Buffer.from('x'))
    const answer = await world.verify()
    expect(answer.foreign).toBe(3)
    expect(answer.namespaces).toMatchObject([clean, clean])
  })

  it('takes the keys of a namespace that the node does not know for missing', async () => {
    await world.both(7, 'key')
    world.namespaces.drop(7)
    expect(await world.verifyOne('sessions')).toMatchObject({ keys: 1, missing: 1 })
  })

  it('takes the items of a namespace that only the node knows for orphans', async () => {
    await world.both(7, 'key')
    await world.root.query('DELETE FROM mc_namespaces WHERE ns_id = 7')
    expect(await world.verifyOne('sessions')).toMatchObject({ keys: 0, orphan: 1 })
  })

  it('waits for the log before it believes a difference', async () => {
    await world.both(7, 'key')
    world.log.move(engine, await positionOf(world))
    await world.row(7, 'key', { value: 'later' })
    const verifying = world.verifyOne('sessions')
    await expect(Promise.race([verifying, new Promise((resolve) => setTimeout(resolve, 200, 'waits'))])).resolves.toBe(
      'waits',
    )
    await world.item(7, 'key', { value: 'later' })
    world.log.move(engine, await positionOf(world))
    expect(await verifying).toEqual({ name: 'sessions', keys: 1, present: 1, ...clean })
  })

  it('reads the row before the position: a write that commits right behind either is no difference', async () => {
    await world.both(7, 'key', { value: 'first' })
    await world.row(7, 'key', { value: 'second' })
    world.log.move(engine, await positionOf(world))
    let walked = false
    let later: Promise<void> | undefined
    const directory = {
      query: async (sql: string, values: unknown[]) => {
        const result = await world.directory.query(sql, values)
        walked ||= sql.includes('ORDER BY mc_key')
        if (walked && later === undefined && sql.includes('@@global.')) {
          await world.item(7, 'key', { value: 'second' })
          await world.row(7, 'key', { value: 'third' })
          later = positionOf(world).then(async (position) => {
            await delay(100)
            await world.item(7, 'key', { value: 'third' })
            world.log.move(engine, position)
          })
        }
        return result
      },
    } as Pick<Connection, 'query'>
    const found = await world.verifyOne('sessions', { directory })
    expect(later).toBeDefined()
    await later
    expect(found).toEqual({ name: 'sessions', keys: 1, present: 1, ...clean })
  })

  it('fails where the node does not catch up', async () => {
    world.log.move(engine, await positionOf(world))
    await world.row(7, 'key')
    await expect(world.verify({ limits: { lagMilliseconds: 50 } })).rejects.toThrow('was not reached')
  })

  it('gives up when told to', async () => {
    for (let i = 0; i < 20; i++) await world.both(7, `key${i}`)
    const controller = new AbortController()
    const verifying = world.verify({
      signal: controller.signal,
      limits: { chunkRows: 5 },
      progress: () => controller.abort(new Error('enough')),
    })
    await expect(verifying).rejects.toThrow('enough')
  })

  it('believes what is in the log before it is visible, and still sees what an open transaction does not explain', async () => {
    await world.both(7, 'set')
    await world.both(7, 'deleted')
    await world.both(7, 'damaged', { value: 'first' })
    await world.row(7, 'absent')
    const open = await world.database.connect({ database: 'memcached' })
    await open.query('START TRANSACTION')
    // A commit waits between the log and the engine: the node has applied it, others do not see it.
    await world.row(7, 'set', { value: 'second', on: open })
    await world.item(7, 'set', { value: 'second' })
    await world.row(7, 'created', { on: open })
    await world.item(7, 'created')
    await world.row(7, 'deleted', { expireSql: '1', on: open })
    await world.removeItem(7, 'deleted')
    await world.row(7, 'damaged', { value: 'second', on: open })
    await world.item(7, 'damaged', { value: 'neither' })
    await world.row(7, 'absent', { value: 'second', on: open })
    const found = await world.verifyOne('sessions', { limits: { rounds: 3 } })
    expect(found).toMatchObject({ present: 0, missing: 1, diverged: 1, orphan: 0 })
    expect(found.examples).toEqual(
      expect.arrayContaining([
        { kind: 'diverged', key: 'damaged' },
        { kind: 'missing', key: 'absent' },
      ]),
    )
    await open.query('COMMIT')
    expect(await world.verifyOne('sessions')).toMatchObject({ present: 2, missing: 1, diverged: 1, orphan: 0 })
  })
})

describe('verify and evictions', () => {
  let world: VerifyWorld

  beforeAll(async () => {
    world = await VerifyWorld.start('mariadb', ['-m', '8'])
  })
  afterAll(async () => {
    await world?.stop()
  })

  it('counts absences as evicted up to the number of evictions, the rest as missing', async () => {
    await world.createNamespace(7, 'sessions')
    await world.createNamespace(8, 'catalog')
    const value = 'x'.repeat(10_000)
    await world.both(8, 'key')
    await world.connection.request('mg catalog:key v')
    for (let i = 0; i < 1500; i++) await world.both(7, `key${i}`, { value })
    const answer = await world.verify()
    const [sessions] = answer.namespaces
    expect(answer.evictions).toBeGreaterThan(100)
    expect(sessions?.evicted).toBe(answer.evictions)
    expect(sessions).toMatchObject({ keys: 1500, missing: 0, diverged: 0, orphan: 0, examples: [] })
    for (let i = 1490; i < 1495; i++) await world.removeItem(7, `key${i}`)
    const after = await world.verifyOne('sessions')
    expect(after).toMatchObject({ evicted: answer.evictions, missing: 5 })
    expect(after.examples).toHaveLength(10)
  })

  it('refuses to verify a memcached that may not be listed', async () => {
    await world.useMemcached(await Memcached.start(['-X']))
    await expect(world.verify()).rejects.toThrow('metadump not allowed')
  })
})

async function positionOf(world: VerifyWorld): Promise<string> {
  const column = world.database.engine === 'mariadb' ? 'gtid_binlog_pos' : 'gtid_executed'
  const [row] = await world.database.query<{ position: string }>(`SELECT @@global.${column} AS position`)
  return row?.position ?? ''
}
