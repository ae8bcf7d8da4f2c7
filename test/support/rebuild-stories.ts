import { afterAll, beforeAll, expect, test } from 'vitest'
import { judge } from './linearizability.ts'
import { until } from './processes.ts'
import { MixedTraffic } from './mixed-traffic.ts'
import { type NodeProcess, World } from './world.ts'

/** A node whose memcached lost everything takes the items of another. */
export function rebuildFromPeer(memcachedPath: string): void {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 3, memcachedPath, memcachedOptions: ['-m', '256'] })
  })
  afterAll(async () => world?.remove())

  /** Kills the memcached of a node; resolves when it serves again, with who gave the items. */
  async function lose(node: NodeProcess): Promise<void> {
    const before = await node.metric('whitehole_rebuilds_total')
    await node.memcached.restart()
    await until('the rebuild', async () => (await node.metric('whitehole_rebuilds_total')) > before)
    await node.serving()
  }

  /** The log forgets everything before: only a peer can tell it by then. */
  async function purge(): Promise<void> {
    await world.settled()
    await world.primary.query('FLUSH BINARY LOGS')
    const logs = await world.primary.query<{ Log_name: string }>('SHOW BINARY LOGS')
    await until('the older logs to be let go', async () => {
      await world.primary.query(`PURGE BINARY LOGS TO '${logs.at(-1)?.Log_name}'`)
      return (await world.primary.query('SHOW BINARY LOGS')).length === 1
    })
  }

  test('gets every item from a peer: values of all sizes, flags, keys of all kinds, and the time that is left', async () => {
    const node = world.node(1)
    const binary = Buffer.from('bin\x00 ary\xff').toString('base64')
    const long = 'l'.repeat(250)
    const large = 'v'.repeat(1_000_000)
    await node.ask(`set flagged 4294967295 0 1\r\nf\r\n`)
    await node.ask(`set empty 0 0 0\r\n\r\n`)
    await node.ask(`set ${long} 1 0 4\r\nlong\r\n`)
    await node.ask(`ms ${binary} 3 b\r\nbin\r\n`, /HD\r\n$/)
    await node.ask(`set large 2 0 ${large.length}\r\n${large}\r\n`)
    await node.ask(`set short 0 600 1\r\ns\r\n`)
    await node.ask(`set gone 0 0 1\r\nx\r\n`)
    await node.ask('delete gone\r\n')
    for (let n = 0; n < 5000; n += 1000) {
      const sets = Array.from(
        { length: 1000 },
        (_, i) => `set many${n + i} 7 0 5 noreply\r\n${String(n + i).padStart(5, '0')}\r\n`,
      )
      await node.ask(`${sets.join('')}set mark 0 0 1\r\n1\r\n`)
    }
    await purge()
    const back = world.node(2)
    await lose(back)
    expect(await back.metric('whitehole_last_rebuild_keys')).toBeGreaterThan(5005)
    expect(await back.ask('get flagged\r\n')).toBe('VALUE flagged 4294967295 1\r\nf\r\nEND\r\n')
    expect(await back.get('empty')).toBe('')
    expect(await back.ask(`get ${long}\r\n`)).toContain('VALUE')
    expect(await back.ask(`mg ${binary} b v\r\n`, /\r\n.*\r\n$/)).toBe('VA 3\r\nbin\r\n')
    expect(await back.get('large')).toBe(large)
    expect(await back.get('gone')).toBeUndefined()
    expect(await back.ask('get many4321\r\n')).toBe('VALUE many4321 7 5\r\n04321\r\nEND\r\n')
    const left = Number(/ t(\d+)/.exec(await back.ask('mg short t\r\n', /(HD|EN).*\r\n$/))?.[1])
    const leftThere = Number(/ t(\d+)/.exec(await node.ask('mg short t\r\n', /(HD|EN).*\r\n$/))?.[1])
    expect(Math.abs(left - leftThere)).toBeLessThanOrEqual(1)
    const { namespaces } = (await back.verify()) as {
      namespaces: { missing: number; diverged: number; orphan: number }[]
    }
    for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
  })

  test('gets the same tokens: a cas with the one from before wins', async () => {
    const node = world.node(2)
    await node.set('token', 'one')
    const token = /(\d+)\r\none/.exec(await node.ask('gets token\r\n'))?.[0]?.split('\r')[0]
    await purge()
    await lose(node)
    expect(await node.ask('gets token\r\n')).toContain(` ${token}\r\n`)
    expect(await node.ask(`cas token 0 0 3 ${token}\r\ntwo\r\n`)).toBe('STORED\r\n')
  })

  test('R31: a lease that a client holds at the peer is not taken for an item', async () => {
    const node = world.node(1)
    const placeholder = await node.ask('mg leased N60 v\r\n', /W\r\n\r\n$/)
    expect(placeholder).toContain('W')
    const fresh = await node.ask('mg leased v\r\n', /(EN|VA .*\r\n)\r\n$/)
    expect(fresh).toContain('Z')
    // The other peer has none of it, so it must be this one that gives.
    await world.node(3).kill()
    await lose(world.node(2))
    expect(await world.node(2).ask('mg leased v\r\n', /(EN|VA .*\r\n)\r\n$/)).toBe('EN\r\n')
    world.node(3).start()
    await world.node(3).serving()
  })

  test('a stale item comes as a stale one, and its refill is still to be won at the peer', async () => {
    const [one, two, three] = [world.node(1), world.node(2), world.node(3)]
    await one.set('old', 'value')
    expect(await one.ask('md old I T600\r\n', /HD\r\n$/)).toBe('HD\r\n')
    await world.settled()
    await three.kill()
    await lose(two)
    const told = await two.ask('mg old v\r\n', /(EN|VA .*\r\n.*)\r\n$/)
    expect(told).toContain('value')
    expect(told).toMatch(/ W X| X W/)
    expect(await one.ask('mg old v\r\n', /(EN|VA .*\r\n.*)\r\n$/)).toMatch(/ W X| X W/)
    three.start()
    await three.serving()
  })

  test('what is written, deleted, flushed, created and dropped meanwhile ends the same everywhere', async () => {
    const flushing = async (signal: AbortSignal): Promise<void> => {
      for (let n = 0; !signal.aborted; n++) {
        await world.node(1 + (n % 3)).ask(`set s${n} 0 0 1\r\nx\r\n`, /\r\n$/, world.node(1 + (n % 3)).ports.sessions)
        if (n % 3 === 0) await world.node(1).ask('flush_all\r\n', /OK\r\n/, world.node(1).ports.sessions)
        if (n % 5 === 0) {
          await world.primary.query(`CALL memcached.create_namespace('fleeting')`)
          await world.primary.query(`CALL memcached.set_key(memcached.ns('fleeting'), 'k', '${n}', 0)`)
          if (n % 10 === 0)
            await world.primary.query(`CALL memcached.drop_namespace(memcached.ns('fleeting'))`).catch(() => {})
          else await world.primary.query(`DELETE FROM memcached.mc_namespaces WHERE ns_name = 'fleeting'`)
        }
      }
    }
    const traffic = await MixedTraffic.start(world, { nodes: [1, 2, 3], perNode: 2, keys: 60, beside: flushing })
    try {
      for (const n of [2, 3, 1]) {
        const seen = traffic.changes
        await until('traffic', () => traffic.changes > seen + 150)
        await lose(world.node(n))
      }
    } finally {
      await traffic.stop()
    }
    const { clients, history } = traffic
    await world.settled()
    for (let n = 0; n < 60; n++) {
      for (const node of [0, 2, 4]) await clients[node]?.ask(`live${n}`, { kind: 'get', strict: true })
    }
    for (const client of clients) client.close()
    expect(judge(history.operations)).toEqual([])
    for (const node of world.nodes) {
      const { namespaces } = (await node.verify()) as {
        namespaces: { missing: number; diverged: number; orphan: number }[]
      }
      for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
    }
  })

  test('gives nothing to whoever does not know the secret', async () => {
    const ask = (headers: Record<string, string>) =>
      fetch(`http://127.0.0.1:${world.node(1).ports.http}/v1/peer/items`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ format: 1 }),
      })
    expect((await ask({})).status).toBe(401)
    expect((await ask({ 'x-whitehole-peer': 'guess' })).status).toBe(401)
  })
}
