import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from './processes.ts'
import { SecondDatacenter } from './second-datacenter.ts'

export const writeTimeoutMilliseconds = 1500

/** @returns the data centres while the tests run */
export function relayStories(filtered: boolean): () => SecondDatacenter {
  let beyond: SecondDatacenter

  beforeAll(async () => {
    beyond = await SecondDatacenter.start({
      filtered,
      nodes: [
        { writer: { writeTimeoutMilliseconds } },
        { writer: { writeTimeoutMilliseconds, acknowledge: 'committed' }, applier: { maxLagSeconds: 3 } },
      ],
    })
    const { primary } = beyond.world
    await primary.query('CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, note TEXT)')
  })

  afterAll(async () => beyond?.remove())

  /** A transaction that a filtered relay passes over. */
  const foreign = async (): Promise<void> => {
    await beyond.world.primary.query("INSERT INTO shop.orders (note) VALUES ('nothing of ours')")
  }

  test('nodes follow the relay, read what home wrote, and their writes are read at home', async () => {
    for (const node of beyond.nodes) {
      expect((await node.status()).source).toBe(beyond.relay.address)
      expect(await node.set(node.name, 'from beyond')).toBe('STORED\r\n')
      await until('it to be read here', async () => (await node.get(node.name)) === 'from beyond')
      await until('home to read it', async () => (await beyond.home.get(node.name)) === 'from beyond')
    }
    expect((await beyond.home.status()).source).toBe(beyond.world.standby?.address)
    expect(await beyond.home.set('home', '1')).toBe('STORED\r\n')
    for (const node of beyond.nodes) await until('it to arrive', async () => (await node.get('home')) === '1')
  })

  test('transactions of other databases leave no lag, no gap and nobody waiting behind them', async () => {
    for (let n = 0; n < 5; n++) {
      await foreign()
      expect(await beyond.home.set('between', String(n))).toBe('STORED\r\n')
      await foreign()
    }
    const node = beyond.node(1)
    await until('it to arrive', async () => (await node.get('between')) === '4')
    // On a memcached that keeps no versions `gets` waits for where the primary is, whatever stands there last.
    const gets = await node.ask('gets between\r\n', /(END|ERROR[^\r\n]*)\r\n$/)
    const token = /^VALUE between 0 1 (\d+)\r\n4\r\nEND\r\n$/.exec(gets)?.[1]
    expect(token, gets).toBeDefined()
    await foreign()
    expect(await node.ask(`cas between 0 0 1 ${token}\r\n5\r\n`)).toBe('STORED\r\n')
    await foreign()
    await until('nothing to be behind', async () => {
      const { lagSeconds, state } = await node.status()
      return state === 'serving' && lagSeconds === 0
    })
    const { relay, world } = beyond
    const position = async (database: { query: typeof relay.query }): Promise<string> =>
      String((await database.query<{ p: string }>('SELECT @@gtid_binlog_pos AS p'))[0]?.p)
    if (filtered) expect(await position(relay)).not.toBe(await position(world.primary))
    else await until('all of it', async () => (await position(relay)) === (await position(world.primary)))
  })

  test('reads stay in the data centre while one node of it serves', async () => {
    const [node, other] = [beyond.node(1), beyond.node(2)]
    expect(await beyond.home.set('kept', 'local')).toBe('STORED\r\n')
    await until(
      'both to have it',
      async () => (await node.get('kept')) === 'local' && (await other.get('kept')) === 'local',
    )
    await until('each to know the others', async () => {
      const text = await (await fetch(`http://127.0.0.1:${node.ports.http}/metrics`)).text()
      return [...text.matchAll(/whitehole_peer_up\{[^}]*\} 1/g)].length === 2
    })
    const hits = async (): Promise<number> =>
      Number(/STAT get_hits (\d+)/.exec(await beyond.home.memcached.ask('stats\r\n', /END\r\n$/))?.[1])
    const before = await hits()
    await node.memcached.stop()
    for (let n = 0; n < 50; n++) expect(await node.get('kept')).toBe('local')
    expect(await hits()).toBe(before)
    expect(await node.metric('whitehole_peer_reads_total')).toBeGreaterThan(0)
    await node.memcached.restart()
    await node.serving()
  })

  test('the link is cut: reads go on, their age is told and bounded where that was asked for, writes fail in time; then it catches up in order', async () => {
    const [node, bounded] = [beyond.node(1), beyond.node(2)]
    expect(await beyond.home.set('counter', '0')).toBe('STORED\r\n')
    await until(
      'it to arrive',
      async () => (await node.get('counter')) === '0' && (await bounded.get('counter')) === '0',
    )
    beyond.cut()
    const from = performance.now()
    const reply = await node.set('unwritten', 'x')
    expect(reply).toMatch(/^SERVER_ERROR (not written|outcome unknown)/)
    expect(performance.now() - from).toBeLessThan(writeTimeoutMilliseconds + 3000)
    for (let n = 1; n <= 200; n++) expect(await beyond.home.set('counter', String(n))).toBe('STORED\r\n')
    await until('the age to be told', async () => ((await node.status()).lagSeconds ?? 0) > 2)
    expect(await node.metric('whitehole_lag_seconds')).toBeGreaterThan(2)
    expect((await node.status()).state).toBe('serving')
    expect(await node.get('counter')).toBe('0')
    await until('the node with a bound to leave service', async () => (await bounded.status()).state === 'catching-up')

    beyond.repair()
    const seen: number[] = []
    await until('it to catch up', async () => {
      seen.push(Number(await node.get('counter')))
      return seen.at(-1) === 200
    })
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    await until('no lag to be left', async () => (await node.status()).lagSeconds === 0)
    await bounded.serving()
    await until('writes to flow again', async () => (await node.set('written', 'y')) === 'STORED\r\n')
    for (const one of beyond.nodes) {
      const { namespaces } = (await one.verify()) as { namespaces: Record<string, number>[] }
      const wrong = namespaces.filter(({ missing, diverged, orphan }) => missing || diverged || orphan)
      expect(wrong, one.name).toEqual([])
    }
  })

  return () => beyond
}
