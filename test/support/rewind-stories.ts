import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ChaosProxy } from './chaos-proxy.ts'
import { type Database, type Engine, promoteStopped } from './databases.ts'
import { until } from './processes.ts'
import { World } from './world.ts'

interface Story {
  readonly engine: Engine
  readonly memcachedPath: string
  /** What becomes of the primary that had more. */
  readonly former: 'dies' | 'lives on'
}

/** The primary's last transactions are lost with it; both nodes have applied them. */
export function rewind({ engine, memcachedPath, former }: Story): void {
  let world: World
  let links: ChaosProxy[] = []
  beforeAll(async () => {
    const writer = { writeTimeoutMilliseconds: 3000 }
    world = await World.start({ topology: 'external', nodes: 2, engine, memcachedPath, writer })
  })
  afterAll(async () => {
    await Promise.allSettled(links.map((link) => link.stop()))
    await world?.remove()
  })

  // R12: the phantom flush.
  test('R11, R12: the phantom is gone from every node, the previous value is back, and neither node took it from the other', async () => {
    const [one, two] = [world.node(1), world.node(2)]
    const promoted = world.standby as Database
    const sessions = one.ports.sessions
    expect(await one.set('k', 'v8')).toBe('STORED\r\n')
    expect(await one.ask('set s 0 0 4\r\nkept\r\n', /\r\n$/, sessions)).toBe('STORED\r\n')
    links = await world.putBehindLinks(2)
    await world.settled()
    // Replicas are followed first: without it, both read the primary's own log.
    await promoted.stop()
    for (const node of world.nodes)
      await until('the primary to be followed', async () => (await node.set('before', node.name)) === 'STORED\r\n')
    await until('v9', async () => (await one.set('k', 'v9')) === 'STORED\r\n')
    expect(await one.set('phantom', 'x')).toBe('STORED\r\n')
    expect(await one.ask('flush_all\r\n', /\r\n$/, sessions)).toBe('OK\r\n')
    expect(await one.ask('set s 0 0 7\r\nphantom\r\n', /\r\n$/, sessions)).toBe('STORED\r\n')
    for (const node of world.nodes) {
      await until('both to have it', async () => (await node.get('s', node.ports.sessions)) === 'phantom')
      expect(await node.get('k')).toBe('v9')
    }

    // The second node sees no database for now: it serves on, and would give what it has.
    for (const link of links) {
      link.silence('toClient', 'toServer')
      link.cut()
    }
    if (former === 'dies') await world.primary.stop()
    else await world.primary.query('SET GLOBAL read_only=1')
    await promoteStopped(promoted)
    // Beyond the number that the lost ones had.
    const sql = await promoted.connect()
    for (let n = 0; n < 20; n++) await sql.query("CALL memcached.set_key(memcached.ns('default'), 'after', ?, 0)", [n])

    const rewound = async (n: number): Promise<void> => {
      const node = world.node(n)
      await until(`${node.name} to rewind`, async () => (await node.metric('whitehole_rewinds_total')) > 0)
      await node.serving()
      expect(await node.get('k')).toBe('v8')
      expect(await node.get('phantom')).toBeUndefined()
      expect(await node.get('s', node.ports.sessions)).toBe('kept')
      expect(await node.get('after')).toBe('19')
    }
    await rewound(1)
    expect(await two.get('k')).toBe('v9')
    for (const link of links) {
      link.speak()
      link.cut()
    }
    await rewound(2)

    for (const node of world.nodes) {
      await until('a write', async () => (await node.set('written', node.name)) === 'STORED\r\n')
      expect(await node.get('written')).toBe(node.name)
      const { namespaces } = (await node.verify()) as { namespaces: object[] }
      for (const some of namespaces) expect(some).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
      expect(await node.metric('whitehole_rewinds_total')).toBe(1)
    }
    // Its reads are its own again: no floor of what is lost keeps it on the other.
    await two.kill()
    expect(await one.get('k')).toBe('v8')
  })
}
