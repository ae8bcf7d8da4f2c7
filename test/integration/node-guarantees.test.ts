import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engineList } from '../support/databases.ts'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

/** DESIGN §6, sentence by sentence, on a whole pair with two nodes: as far as it is built. */
describe.each(engineList)('a pair of %s with two nodes', (engine) => {
  let world: World
  let defaultId: number

  beforeAll(async () => {
    world = await World.start({ engine, topology: 'pair', nodes: 2 })
    defaultId = await world.namespaceId('default')
  })
  afterAll(async () => world?.remove())

  const eventually = (node: number, key: string, value: string | undefined): Promise<boolean> =>
    until(`node ${node} to read ${value} from ${key}`, async () => {
      const got = await world.node(node).get(key)
      if (got !== value) throw new Error(`it reads ${got}`)
      return true
    })

  test('a value written through node 1 is read there at once, on node 2, and straight from both memcached', async () => {
    expect(await world.node(1).set('k', 'hello')).toBe('STORED\r\n')
    expect(await world.node(1).get('k')).toBe('hello')
    await eventually(2, 'k', 'hello')
    for (const node of world.nodes) {
      const direct = await dialogue(node.memcached.port, 'get default:k\r\n', /END\r\n$/)
      expect(direct).toContain('hello')
    }
  })

  test('§6.3 a client reads its own writes, in one pipeline and in the order sent', async () => {
    const reply = await world
      .node(1)
      .ask(
        'set o 0 0 1\r\na\r\nget o\r\nset o 0 0 1\r\nb\r\nget o\r\ndelete o\r\nget o\r\ndelete o\r\ntouch o 10\r\nset o 0 0 1\r\nc\r\ntouch o 100\r\ngat 200 o\r\n',
        /VALUE o 0 1\r\nc\r\nEND\r\n$/,
      )
    expect(reply).toBe(
      'STORED\r\nVALUE o 0 1\r\na\r\nEND\r\nSTORED\r\nVALUE o 0 1\r\nb\r\nEND\r\nDELETED\r\nEND\r\nNOT_FOUND\r\nNOT_FOUND\r\nSTORED\r\nTOUCHED\r\nVALUE o 0 1\r\nc\r\nEND\r\n',
    )
  })

  test('§6.1 an acknowledged write is in the log of the standby', async () => {
    await world.node(1).set('durable', 'x')
    const [row] = await world.standby!.query<{ live: number }>(
      "SELECT COUNT(*) AS live FROM memcached.mc_stored_keys WHERE mc_key = 'durable'",
    )
    expect(row?.live).toBe(1)
  })

  test('§6.4 a rolled-back set_key never shows up; a committed one does, with its whole transaction', async () => {
    const sql = await world.primary.connect()
    await sql.query('START TRANSACTION; CALL memcached.set_key(?, ?, ?, 0)', [defaultId, 'ghost', 'boo'])
    await sql.query('ROLLBACK')
    await sql.query(
      "START TRANSACTION; CALL memcached.set_key(?, 'sql1', 'one', 0); CALL memcached.set_key(?, 'sql2', 'two', 100)",
      [defaultId, defaultId],
    )
    expect(await world.node(1).get('sql1')).toBeUndefined()
    await sql.query('COMMIT')
    await Promise.all([eventually(1, 'sql2', 'two'), eventually(2, 'sql2', 'two')])
    expect(await world.node(1).get('sql1')).toBe('one')
    expect(await world.node(1).get('ghost')).toBeUndefined()
    expect(await world.node(2).get('ghost')).toBeUndefined()
    sql.destroy()
  })

  test('§6.6 a flush through one node is in force on the other before any entry logged after it, and elsewhere not', async () => {
    const sessions = world.node(1).ports.sessions
    await world.node(1).ask('set s 0 0 1\r\nx\r\n', /STORED/, sessions)
    await world.node(1).set('old', 'x')
    await eventually(2, 'old', 'x')
    expect(await world.node(1).ask('flush_all\r\n')).toBe('OK\r\n')
    expect(await world.node(1).get('old')).toBeUndefined()
    await world.node(1).set('marker', 'after')
    await eventually(2, 'marker', 'after')
    expect(await world.node(2).get('old')).toBeUndefined()
    expect(await world.node(2).get('s', world.node(2).ports.sessions)).toBe('x')
  })

  test('a set right after a flush survives, also within the same second', async () => {
    const reply = await world
      .node(1)
      .ask('set a 0 0 1\r\n1\r\nflush_all\r\nset b 0 0 1\r\n2\r\nget a b\r\n', /END\r\n$/)
    expect(reply).toBe('STORED\r\nOK\r\nSTORED\r\nVALUE b 0 1\r\n2\r\nEND\r\n')
  })

  test('a delayed flush is executed once, when it is due', async () => {
    await world.node(1).set('late', 'x')
    const [before] = await world.primary.query<{ generation: number }>(
      "SELECT generation FROM memcached.mc_namespaces WHERE ns_name = 'default'",
    )
    expect(await world.node(1).ask('flush_all 2\r\n')).toBe('OK\r\n')
    expect(await world.node(1).get('late')).toBe('x')
    await eventually(1, 'late', undefined)
    await eventually(2, 'late', undefined)
    const [after] = await world.primary.query<{ generation: number }>(
      "SELECT generation FROM memcached.mc_namespaces WHERE ns_name = 'default'",
    )
    expect(after?.generation).toBe((before?.generation ?? 0) + 1)
  })

  test('namespaces: key-prefix listener, creation and drop while running', async () => {
    const { prefix } = world.node(1).ports
    expect(await world.node(1).ask('set fresh:k 0 0 1\r\nx\r\n', /\r\n$/, prefix)).toMatch(
      /^CLIENT_ERROR unknown namespace/,
    )
    await world.primary.query("CALL memcached.create_namespace('fresh')")
    await until(
      'the namespace to be known',
      async () => (await world.node(1).ask('set fresh:k 0 0 1\r\nx\r\n', /\r\n$/, prefix)) === 'STORED\r\n',
    )
    expect(await world.node(1).ask('get fresh:k default:marker\r\n', /END\r\n$/, prefix)).toContain(
      'VALUE fresh:k 0 1\r\nx\r\n',
    )
    await world.primary.query("CALL memcached.drop_namespace(memcached.ns('fresh'))")
    await until('the namespace to be gone', async () =>
      (await world.node(2).ask('get fresh:k\r\n', /\r\n$/, world.node(2).ports.prefix)).startsWith('CLIENT_ERROR'),
    )
    await world.primary.query("CALL memcached.create_namespace('fresh')")
    await until(
      'the namespace to be back',
      async () => (await world.node(2).ask('get fresh:k\r\n', /\r\n$/, world.node(2).ports.prefix)) === 'END\r\n',
    )
    await until(
      'the namespace to be back',
      async () => (await world.node(1).ask('get fresh:k\r\n', /\r\n$/, prefix)) === 'END\r\n',
    )
  })

  test('gets gives the same token on both nodes', async () => {
    await world.node(1).set('token', 'x')
    const one = await world.node(1).ask('gets token\r\n', /END\r\n$/)
    const two = await world.node(2).ask('gets token\r\n', /END\r\n$/)
    expect(one).toMatch(/^VALUE token 0 1 [1-9]\d*\r\nx\r\nEND\r\n$/)
    expect(two).toBe(one)
  })

  test('§6.2 after quiet, verify finds both nodes as the directory says', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, n) => world.node((n % 2) + 1).set(`v${n}`, 'x'.repeat(n))))
    await world.settled()
    for (const node of world.nodes) {
      const result = (await node.verify()) as {
        namespaces: { name: string; missing: number; diverged: number; orphan: number; keys: number }[]
      }
      for (const namespace of result.namespaces) {
        expect(namespace, node.name).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
      }
    }
  })

  test('R34/R19: a delete is logged also where the directory has nothing', async () => {
    // Copies that memcached alone knows of, as if its clock still kept what has expired and was purged.
    await world.node(1).set('stray', 'x')
    await world.settled()
    await world.primary.query("DELETE FROM memcached.mc_stored_keys WHERE mc_key = 'stray'")
    expect(await world.node(2).get('stray')).toBe('x')
    expect(await world.node(1).ask('delete stray\r\n')).toBe('NOT_FOUND\r\n')
    await eventually(2, 'stray', undefined)
  })
})
