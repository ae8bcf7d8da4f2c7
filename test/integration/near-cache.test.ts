import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { memcachedPaths } from '../support/applied-memcached.ts'
import { Client } from '../support/client.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const seconds = Number(process.env['WHITEHOLE_NEAR_SECONDS'] ?? 3)
const valueEnd = /(END|ERROR[^\r\n]*)\r\n$/

/** docs/adr/0020-near-cache.md */
describe.each(memcachedPaths)('the near cache of a node over %s', (memcachedPath) => {
  let world: World
  let namespaceId: number

  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2, memcachedPath })
    namespaceId = await world.namespaceId('default')
  })
  afterAll(async () => world?.remove())

  const hits = (): Promise<number> => world.node(1).metric('whitehole_near_cache_hits_total')
  const asked = async (): Promise<number> =>
    Number(/STAT cmd_get (\d+)/.exec(await world.node(1).memcached.ask('stats\r\n', /END\r\n$/))?.[1])

  /** Until it is answered without memcached. */
  const warm = (key: string): Promise<boolean> =>
    until(`${key} to be kept`, async () => {
      const before = await hits()
      await world.node(1).get(key)
      if ((await hits()) === before) throw new Error('memcached was asked')
      return true
    })

  test('a hot item is answered as before, in every protocol, and memcached is not asked', async () => {
    const node = world.node(1)
    const client = await Client.connect(node.ports.main)
    await client.ask('set hot 42 0 5\r\nvalue\r\n', /STORED\r\n$/)
    const commands = ['get hot', 'get hot hot', 'mg hot v f k s O7', 'mg hot', 'mg hot v b q']
    if (memcachedPath !== '/usr/bin/memcached') commands.push('gets hot', 'mg hot c v')
    const ask = (command: string): Promise<string> => client.ask(`${command}\r\nmn\r\n`, /MN\r\n$/)
    const first: string[] = []
    for (const command of commands) first.push(await ask(command))
    await warm('hot')
    const before = await asked()
    for (const [index, command] of commands.entries()) expect(await ask(command)).toBe(first[index])
    expect(await client.ask('get hot\r\nget hot\r\n', /END\r\nVALUE[^]*END\r\n$/)).toContain('VALUE hot 42 5\r\nvalue')
    expect(await asked()).toBe(before)
    // What only memcached knows it is asked for.
    expect(await ask('mg hot t h l v')).toMatch(/^VA 5 t-1 h1 l\d+\r\nvalue\r\n/)
    client.close()
  })

  test('whoever changes it reads what it wrote, each time', async () => {
    const client = await Client.connect(world.node(1).ports.main)
    for (let n = 0; n < 50; n++) {
      const value = `v${n}`
      await client.ask(`set own 0 0 ${value.length}\r\n${value}\r\n`, /STORED\r\n$/)
      for (let read = 0; read < 3; read++)
        expect(await client.ask('get own\r\n', valueEnd)).toBe(`VALUE own 0 ${value.length}\r\n${value}\r\nEND\r\n`)
    }
    await warm('own')
    await client.ask('delete own\r\n', /DELETED\r\n$/)
    expect(await client.ask('get own\r\n', valueEnd)).toBe('END\r\n')
    await client.ask('set own 0 0 1\r\n7\r\n', /STORED\r\n$/)
    await warm('own')
    expect(await client.ask('incr own 1\r\n', /\d\r\n$/)).toBe('8\r\n')
    expect(await client.ask('get own\r\n', valueEnd)).toBe('VALUE own 0 1\r\n8\r\nEND\r\n')
    await warm('own')
    expect(await client.ask('flush_all\r\n', /OK\r\n$/)).toBe('OK\r\n')
    expect(await client.ask('get own\r\n', valueEnd)).toBe('END\r\n')
    client.close()
  })

  test('T1–T3: it never shows less than was read from memcached before, nor more than is read there behind', async () => {
    const node = world.node(1)
    const before = await hits()
    let written = 0
    const state = { over: false }
    const end = performance.now() + seconds * 1000
    const write = async (): Promise<void> => {
      const clients = await Promise.all([1, 2].map((n) => Client.connect(world.node(n).ports.main)))
      const sql = await world.primary.connect()
      while (performance.now() < end) {
        const value = String(++written)
        const client = clients[written % 3]
        if (client === undefined) await sql.query('CALL memcached.set_key(?, ?, ?, 0)', [namespaceId, 'seen', value])
        else await client.ask(`set seen 0 0 ${value.length}\r\n${value}\r\n`, /STORED\r\n$/)
        // Now and then it is kept for a while.
        if (Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, Math.random() * 8))
      }
      state.over = true
      for (const client of clients) client.close()
      sql.destroy()
    }
    const read = async (): Promise<number> => {
      const [through, direct] = await Promise.all([node.ports.main, node.memcached.port].map((p) => Client.connect(p)))
      const number = async (client: Client | undefined, key: string): Promise<number> =>
        Number(/\r\n(\d+)\r\n/.exec((await client?.ask(`get ${key}\r\n`, valueEnd)) ?? '')?.[1] ?? 0)
      let last = 0
      let reads = 0
      while (!state.over) {
        for (const there of [await number(direct, 'default:seen'), await number(through, 'seen')]) {
          if (there < last) throw new Error(`${there} after ${last}`)
          last = there
          reads++
        }
      }
      through?.close()
      direct?.close()
      return reads
    }
    const [, ...reads] = await Promise.all([write(), ...Array.from({ length: 6 }, read)])
    expect(written).toBeGreaterThan(20)
    const total = reads.reduce((sum, one) => sum + one, 0)
    // Else nothing was tried.
    expect((await hits()) - before).toBeGreaterThan(total / 20)
  })

  test('T4: behind a read that is under way it is not used', async () => {
    const node = world.node(1)
    await node.set('hot', 'x')
    await node.set('cold', 'y')
    await warm('hot')
    const before = await hits()
    const both = 'VALUE cold 0 1\r\ny\r\nEND\r\nVALUE hot 0 1\r\nx\r\nEND\r\n'
    expect(await node.ask('get cold\r\nget hot\r\n', /hot[^]*END\r\n$/)).toBe(both)
    expect(await node.ask('get none hot\r\n', valueEnd)).toBe('VALUE hot 0 1\r\nx\r\nEND\r\n')
    expect(await hits()).toBe(before)
  })

  test('T5: it ends no later than in memcached', async () => {
    const node = world.node(1)
    const [through, direct] = await Promise.all([node.ports.main, node.memcached.port].map((p) => Client.connect(p)))
    const before = await hits()
    await through?.ask('set short 0 3 1\r\nx\r\n', /STORED\r\n$/)
    let lives = 0
    let last: string | undefined
    await until('the item to be over', async () => {
      for (;;) {
        const there = await direct?.ask('get default:short\r\n', valueEnd)
        last = await through?.ask('get short\r\n', valueEnd)
        if (there === 'END\r\n') return true
        lives++
      }
    })
    expect(last).toBe('END\r\n')
    expect(lives).toBeGreaterThan(10)
    expect(await hits()).toBeGreaterThan(before)
    through?.close()
    direct?.close()
  })

  test('T8: it is silent with its memcached, and begins anew with it', async () => {
    const node = world.node(1)
    await node.set('hot', 'x')
    await warm('hot')
    await node.memcached.stop()
    await until('the node to notice', async () => {
      const { state } = await node.status()
      if (state === 'serving') throw new Error('it serves')
      return true
    })
    await world.node(2).set('hot', 'newer')
    await node.memcached.restart()
    await node.serving()
    expect(await node.get('hot')).toBe('newer')
    await warm('hot')
    expect(await node.get('hot')).toBe('newer')
  })
})
