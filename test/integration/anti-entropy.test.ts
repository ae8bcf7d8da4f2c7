import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const often = { pauseSeconds: 0.2, keysPerSecondMax: 1_000_000, timeSharePercentMax: 50 }

describe('nodes that look after themselves', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({
      topology: 'single',
      nodes: 2,
      memcachedOptions: ['-m', '8'],
      gateway: { onMiss: 'peer', onMissMilliseconds: 2000 },
      // Node 2 does not: what is spoiled there stays.
      upkeep: (n) => ({
        repair: { ...often, enabled: n === 1 },
        purge: { enabled: false },
        capacity: { pauseSeconds: 0.2 },
      }),
    })
  })
  afterAll(async () => world?.remove())

  const purgeLog = async (): Promise<void> => {
    await world.primary.query('FLUSH BINARY LOGS')
    const [{ File: file } = { File: '' }] = await world.primary.query<{ File: string }>('SHOW MASTER STATUS')
    // A node's reader holds the elder file for a moment.
    await until('the log to be purged', async () => {
      await world.primary.query(`PURGE BINARY LOGS TO '${file}'`)
      return (await world.primary.query('SHOW BINARY LOGS')).length === 1
    })
  }
  const spoil = (n: number, commands: string): Promise<string> =>
    world.node(n).memcached.ask(`${commands}mn\r\n`, /MN\r\n$/)
  const outcomes = async (outcome: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${world.node(1).ports.http}/metrics`)).text()
    return Number(new RegExp(`^whitehole_repairs_total\\{outcome="${outcome}"[^}]*\\} (\\S+)`, 'm').exec(text)?.[1])
  }
  const figure = async (pattern: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${world.node(1).ports.http}/metrics`)).text()
    return Number(new RegExp(`^${pattern} (\\S+)`, 'm').exec(text)?.[1])
  }
  const clean = (n: number): Promise<boolean> =>
    until(`node ${n} to be as the directory says`, async () => {
      const { namespaces } = (await world.node(n).verify()) as { namespaces: Record<string, number>[] }
      for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
      return true
    })

  test('what was changed behind the back of a node is put right, from its peer', async () => {
    for (const key of ['gone', 'other', 'kept']) await world.node(2).set(key, `the ${key} one`, 1000)
    await world.settled()
    await spoil(1, 'md default:gone q\r\nms default:other 5 q\r\nwrong\r\nms default:orphan 1 q\r\nx\r\n')
    await clean(1)
    expect(await world.node(1).get('gone')).toBe('the gone one')
    expect(await world.node(1).get('other')).toBe('the other one')
    expect(await world.node(1).get('orphan')).toBeUndefined()
    expect(await outcomes('from-peer')).toBe(2)
    expect(await outcomes('removed')).toBe(1)
    const left = await world.node(1).memcached.ask('mg default:gone t\r\n', /\r\n$/)
    expect(Number(/t(\d+)/.exec(left)?.[1])).toBeGreaterThan(900)
    await until(
      'a pass that finds nothing',
      async () => (await figure('whitehole_consistency_ratio\\{namespace="default"[^}]*\\}')) === 1,
    )
  })

  test('a value that no memcached has any more comes back from the log', async () => {
    await world.node(1).set('everywhere', 'old')
    await world.node(1).set('everywhere', 'the last one')
    await world.settled()
    await spoil(2, 'md default:everywhere q\r\n')
    await spoil(1, 'md default:everywhere q\r\n')
    await clean(1)
    expect(await world.node(1).get('everywhere')).toBe('the last one')
    expect(await outcomes('from-log')).toBe(1)
    expect(await outcomes('lost')).toBe(0)
    // For node 2, too, as soon as it looks after itself.
    await spoil(2, 'ms default:everywhere 12 q\r\nthe last one\r\n')
  })

  test('a value that neither a peer nor the log has is counted as lost, once, and the directory is told that it is gone', async () => {
    await world.node(1).set('lost', 'for ever')
    await world.settled()
    await purgeLog()
    await spoil(2, 'md default:lost q\r\n')
    await spoil(1, 'md default:lost q\r\n')
    await until('the loss to be counted', async () => (await outcomes('lost')) === 1)
    const passes = await figure('whitehole_repair_passes_total\\{[^}]*\\}')
    await until('two more passes', async () => (await figure('whitehole_repair_passes_total\\{[^}]*\\}')) > passes + 1)
    expect(await outcomes('lost')).toBe(1)
    expect(await outcomes('gone')).toBe(1)
    await clean(1)
    const { namespaces } = (await world.node(1).verify()) as { namespaces: { name: string; gone?: number }[] }
    expect(namespaces.find(({ name }) => name === 'default')?.gone).toBe(1)
    expect(await world.node(2).ask('replace lost 0 0 1\r\nx\r\n')).toBe('NOT_STORED\r\n')
  })

  test('a counter that neither a peer nor the log has comes back from the directory', async () => {
    await world.node(1).set('counted', '41')
    await world.node(1).ask('incr counted 1\r\n', /\r\n$/)
    await world.settled()
    await purgeLog()
    await spoil(2, 'md default:counted q\r\n')
    await spoil(1, 'md default:counted q\r\n')
    await until('the counter to be back', async () => (await outcomes('restored')) === 1)
    await world.settled()
    expect(await world.node(1).get('counted')).toBe('42')
    expect(await world.node(2).get('counted')).toBe('42')
    await clean(1)
  })

  test('R19: a delete takes along what only a memcached still has, on every node', async () => {
    await spoil(2, 'ms default:r19 1 q\r\nx\r\n')
    expect(await world.node(2).get('r19')).toBe('x')
    expect(await world.node(1).ask('delete r19\r\n')).toBe('NOT_FOUND\r\n')
    await world.settled()
    expect(await world.node(2).get('r19')).toBeUndefined()
  })

  test('a key that this node has lost is read from its peer, in the order asked, until it is put right', async () => {
    await world.node(1).set('first', 'one')
    await world.node(1).set('second', 'two')
    await world.settled()
    // Node 2 does not repair itself.
    await spoil(2, 'md default:first q\r\n')
    // As soon as it is known to be healthy.
    await until('the answer of the peer', async () => {
      const reply = await world.node(2).ask('get nobody first second\r\n', /END\r\n$/)
      expect(reply).toBe('VALUE first 0 3\r\none\r\nVALUE second 0 3\r\ntwo\r\nEND\r\n')
      return true
    })
    expect(await world.node(2).ask('mg first v\r\n', /\r\n[^]*\r\n$|EN\r\n$/)).toBe('VA 3\r\none\r\n')
    expect(await world.node(2).get('nobody')).toBeUndefined()
  })

  test('F27: evictions are told by namespace, are no difference, and are not fought', async () => {
    const body = 'x'.repeat(20_000)
    for (let n = 0; n < 600; n++) await world.node(1).set(`big${n}`, body)
    await world.settled()
    await until(
      'the evictions to be told',
      async () => (await figure('whitehole_evicted_items_total\\{namespace="default"[^}]*\\}')) > 100,
    )
    await until('a warning', () => world.node(1).program.output.includes('no longer holds every key'))
    expect(await figure('whitehole_memcached_used_share\\{[^}]*\\}')).toBeGreaterThan(0.9)
    const { memcached } = await world.node(1).status()
    expect(memcached.usedPercent).toBeGreaterThan(90)
    expect(memcached.evicted).toBeGreaterThan(100)
    expect(memcached.evictedByNamespace['default']).toBeGreaterThan(100)
    const { namespaces } = (await world.node(1).verify()) as {
      namespaces: { name: string; evicted: number; missing: number }[]
    }
    const found = namespaces.find(({ name }) => name === 'default')
    const stats = await world.node(1).memcached.ask('stats\r\n', /END\r\n$/)
    const lines = stats.split('\r\n').filter((line) => /evict|reassign|memory|reclaim/.test(line))
    expect(found?.missing, `${found?.evicted} ${lines.join(' ')}`).toBe(0)
    expect(found?.evicted).toBeGreaterThan(100)
  })
})
