import { existsSync } from 'node:fs'
import type { Connection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '../support/client.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const binaries = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))
const line = /\r\n$/

/** The stories of research/races.md about conditional commands, played from outside on whole nodes. */
describe.each(binaries)('a pair with two nodes and %s', (memcachedPath) => {
  let world: World
  let clients: Client[] = []
  let sql: Connection | undefined
  let namespaceId = 0

  beforeAll(async () => {
    world = await World.start({
      topology: 'pair',
      nodes: 2,
      memcachedPath,
      writer: { writeTimeoutMilliseconds: 1500 },
    })
    namespaceId = await world.namespaceId('default')
  })
  afterEach(() => {
    world.standby?.program.signal('SIGCONT')
    for (const client of clients) client.close()
    clients = []
    sql?.destroy()
  })
  afterAll(async () => world?.remove())

  async function connect(node: number): Promise<Client> {
    const client = await Client.connect(world.node(node).ports.main)
    clients.push(client)
    return client
  }
  async function both(): Promise<[Client, Client]> {
    return [await connect(1), await connect(2)]
  }
  async function tokenOf(client: Client, key: string): Promise<string> {
    const reply = await client.ask(`gets ${key}\r\n`, /END\r\n$/)
    return /^VALUE \S+ \d+ \d+ (\d+)\r\n/.exec(reply)?.[1] ?? `none in ${reply}`
  }
  async function open(statement: string): Promise<Connection> {
    sql = await world.primary.connect({ database: 'memcached' })
    await sql.query(`START TRANSACTION; ${statement}`)
    return sql
  }

  /** As memory pressure would: nobody but this memcached knows. */
  async function evict(node: number, key: string): Promise<void> {
    await dialogue(world.node(node).memcached.port, `delete default:${key}\r\n`, /DELETED/)
  }

  test('a token that one node gives is good on the other, once, in the text and the meta protocol', async () => {
    const [a, b] = await both()
    await a.ask('set token 0 0 3\r\none\r\n', line)
    await world.settled()
    const token = await tokenOf(a, 'token')
    expect(await tokenOf(b, 'token')).toBe(token)
    expect(await b.ask('mg token c v\r\n', /\r\n.*\r\n$/)).toBe(`VA 3 c${token}\r\none\r\n`)
    expect(await b.ask(`cas token 0 0 3 ${token}\r\ntwo\r\n`, line)).toBe('STORED\r\n')
    expect(await a.ask(`cas token 0 0 5 ${token}\r\nthree\r\n`, line)).toBe('EXISTS\r\n')
    expect(await a.ask(`ms token 5 C${token}\r\nthree\r\n`, line)).toBe('EX\r\n')
    const next = /^HD c(\d+)\r\n$/.exec(await b.ask('ms token 4 c\r\nfour\r\n', line))?.[1]
    expect(await a.ask(`md token C${next}\r\n`, line)).toBe('HD\r\n')
    expect(await b.ask(`cas token 0 0 4 ${next}\r\nfive\r\n`, line)).toBe('NOT_FOUND\r\n')
  })

  test('R2: a primary that is cut off from its standby refuses nobody, since its rows may be old', async () => {
    const [a, b] = await both()
    await a.ask('set r2 0 0 1\r\nx\r\n', line)
    world.standby?.program.signal('SIGSTOP')
    const refusals = [
      'add r2 0 0 1\r\ny\r\n',
      'cas r2 0 0 1 5\r\ny\r\n',
      'incr r2 1\r\n',
      'replace r2-absent 0 0 1\r\ny\r\n',
    ]
    const asked = [...refusals, 'incr r2-absent 1\r\n', 'touch r2-absent 5\r\n'].map(async (command, n) =>
      (await connect(1 + (n % 2))).ask(command, line),
    )
    for (const reply of await Promise.all(asked)) expect(reply).toMatch(/^SERVER_ERROR (outcome unknown|not written)/)
    world.standby?.program.signal('SIGCONT')
    await until('the refusal', async () => (await b.ask('add r2 0 0 1\r\ny\r\n', line)) === 'NOT_STORED\r\n')
  })

  test('R16: of two adds for an item that is gone everywhere one wins; where one node still holds it, none', async () => {
    const [a, b] = await both()
    for (let round = 0; round < 5; round++) {
      const key = `r16-${round}`
      expect(await a.ask(`add ${key} 0 0 1\r\nx\r\n`, line)).toBe('STORED\r\n')
      await world.settled()
      await evict(1, key)
      const none = await Promise.all([a, b].map((client) => client.ask(`add ${key} 0 0 1\r\nn\r\n`, line)))
      expect(none).toEqual(['NOT_STORED\r\n', 'NOT_STORED\r\n'])
      await evict(2, key)
      const replies = await Promise.all([a, b].map((client, n) => client.ask(`add ${key} 0 0 1\r\n${n}\r\n`, line)))
      expect(replies.toSorted()).toEqual(['NOT_STORED\r\n', 'STORED\r\n'])
      await world.settled()
      const winner = String(replies.indexOf('STORED\r\n'))
      for (const node of world.nodes) expect(await node.get(key)).toBe(winner)
    }
  })

  test('R18: whoever was refused by an item then finds it', async () => {
    const [a, b] = await both()
    let refused = 0
    for (let round = 0; round < 60; round++) {
      const adding = a.ask(`add r18-${round} 0 0 1\r\na\r\n`, line)
      const reply = await b.ask(`add r18-${round} 0 0 1\r\nb\r\nget r18-${round}\r\n`, /END\r\n$/)
      const winner = (await adding) === 'STORED\r\n' ? 'a' : 'b'
      const outcome = winner === 'a' ? 'NOT_STORED' : 'STORED'
      expect(reply).toBe(`${outcome}\r\nVALUE r18-${round} 0 1\r\n${winner}\r\nEND\r\n`)
      if (winner === 'a') refused += 1
    }
    expect(refused).toBeGreaterThan(5)
  })

  test('R19: a delete of what the directory does not know takes leases and stray copies along on every node', async () => {
    const [a, b] = await both()
    const lease = /^VA 0 .*c(\d+).* W\r\n/.exec(await a.ask('mg r19 v c N60\r\n', /\r\n\r\n$/))?.[1]
    expect(lease).toBeDefined()
    await dialogue(world.node(1).memcached.port, 'set default:r19-stray 0 0 1\r\nx\r\n', /STORED/)
    expect(await b.ask('delete r19\r\n', line)).toBe('NOT_FOUND\r\n')
    expect(await b.ask('delete r19-stray\r\n', line)).toBe('NOT_FOUND\r\n')
    await world.settled()
    // A fill that was computed before the delete comes after it.
    expect(await a.ask(`ms r19 3 C${lease}\r\nold\r\n`, line)).toBe('NF\r\n')
    for (const client of [a, b])
      expect(await client.ask('mg r19 v\r\nmg r19-stray v\r\n', /EN\r\nEN\r\n$/)).toBe('EN\r\nEN\r\n')
  })

  test('R21: a token does not come back, not after a delete, a purge of the row and a new add of the same value', async () => {
    const [a, b] = await both()
    const tokens = new Set<string>()
    for (let round = 0; round < 5; round++) {
      expect(await a.ask('add r21 0 0 4\r\nsame\r\n', line)).toBe('STORED\r\n')
      const token = await tokenOf(a, 'r21')
      for (const former of tokens) expect(await b.ask(`cas r21 0 0 1 ${former}\r\nx\r\n`, line)).toBe('EXISTS\r\n')
      tokens.add(token)
      expect(await b.ask('delete r21\r\n', line)).toBe('DELETED\r\n')
      await world.primary.query("DELETE FROM memcached.mc_stored_keys WHERE mc_key = 'r21'")
    }
    expect(tokens.size).toBe(5)
  })

  test('R22: touch, gat and mg with T keep the token, on both nodes', async () => {
    const [a, b] = await both()
    await a.ask('set r22 0 0 1\r\nx\r\n', line)
    const token = await tokenOf(a, 'r22')
    expect(await b.ask('touch r22 1000\r\n', line)).toBe('TOUCHED\r\n')
    expect(await a.ask('gats 900 r22\r\n', /END\r\n$/)).toBe(`VALUE r22 0 1 ${token}\r\nx\r\nEND\r\n`)
    expect(await b.ask('mg r22 T800 c\r\n', line)).toBe(`HD c${token}\r\n`)
    await world.settled()
    expect([await tokenOf(a, 'r22'), await tokenOf(b, 'r22')]).toEqual([token, token])
    expect(await b.ask(`cas r22 0 0 1 ${token}\r\ny\r\n`, line)).toBe('STORED\r\n')
  })

  test('R23: a token that wins was read with the value that it replaces', async () => {
    const [a, b] = await both()
    await a.ask('set r23 0 0 1\r\n0\r\n', line)
    await world.settled()
    // Each adds one to what it reads; a new token beside an old value would lose a step.
    let won = 0
    const count = async (client: Client): Promise<void> => {
      for (let n = 0; n < 80; n++) {
        const reply = await client.ask('gets r23\r\n', /END\r\n$/)
        const read = /^VALUE r23 0 \d+ (\d+)\r\n(\d+)\r\n/.exec(reply)
        const next = String(Number(read?.[2]) + 1)
        const stored = await client.ask(`cas r23 0 0 ${next.length} ${read?.[1]}\r\n${next}\r\n`, line)
        if (stored === 'STORED\r\n') won += 1
      }
    }
    await Promise.all([count(a), count(b)])
    expect(won).toBeGreaterThan(20)
    expect(await b.ask('add r23 0 0 1\r\nx\r\nget r23\r\n', /END\r\n$/)).toContain(`\r\n${won}\r\n`)
  })

  test.each(['COMMIT', 'ROLLBACK'])(
    'R24: an add of what somebody has inserted and not yet committed waits for the %s',
    async (end) => {
      const [a, b] = await both()
      const key = `r24-${end}`
      const theirs = await open(`CALL set_key(${namespaceId}, '${key}', 'theirs', 0)`)
      let told = 0
      const adds = [a, b].map(async (client) => {
        const reply = await client.ask(`add ${key} 0 0 1\r\nx\r\n`, line)
        told += 1
        return reply
      })
      // Others are not kept waiting.
      const other = await connect(1)
      for (let n = 0; n < 10; n++) expect(await other.ask(`add ${key}-${n} 0 0 1\r\nx\r\n`, line)).toBe('STORED\r\n')
      expect(told).toBe(0)
      await theirs.query(end)
      const replies = (await Promise.all(adds)).toSorted()
      expect(replies).toEqual(['NOT_STORED\r\n', end === 'COMMIT' ? 'NOT_STORED\r\n' : 'STORED\r\n'])
      await world.settled()
      for (const node of world.nodes) expect(await node.get(key)).toBe(end === 'COMMIT' ? 'theirs' : 'x')
    },
  )

  test('R26: what a connection sends behind a write that waits for a lock comes after it, whatever else goes on', async () => {
    const [a, b] = await both()
    await a.ask('set r26 0 0 1\r\n0\r\n', line)
    const theirs = await open(`SELECT * FROM mc_stored_keys WHERE ns_id = ${namespaceId} AND mc_key = 'r26' FOR UPDATE`)
    const contended = world.node(1)
    const before = await contended.metric('whitehole_writer_contended_total')
    const first = a.ask('incr r26 1\r\n', /^1\r\n[^]*STORED\r\n2\r\nVALUE[^]*END\r\n$/)
    await until('it to wait', async () => (await contended.metric('whitehole_writer_contended_total')) > before)
    const rest = a.ask('set r26-other 0 0 1\r\na\r\nincr r26 1\r\nget r26\r\n', /END\r\n$/)
    expect(await b.ask('set r26-other 0 0 1\r\nb\r\n', line)).toBe('STORED\r\n')
    await theirs.query('ROLLBACK')
    await rest
    expect(await first).toBe('1\r\nSTORED\r\n2\r\nVALUE r26 0 1\r\n2\r\nEND\r\n')
    await world.settled()
    for (const node of world.nodes) {
      expect(await node.get('r26')).toBe('2')
      expect(await node.get('r26-other')).toBe('a')
    }
  })
})
