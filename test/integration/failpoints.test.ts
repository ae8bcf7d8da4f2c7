import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FailpointName } from '../../src/runtime/failpoints.ts'
import { type Engine, engineList, newerMemcachedPath } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

/** WHITEHOLE_FAILPOINTS=all: every place, on both kinds of memcached (the flush and the sweep differ); else a selection. */
const all = process.env['WHITEHOLE_FAILPOINTS'] === 'all'
const selection = ['mid-apply', 'mid-flush', 'mid-snapshot', 'after-snapshot-before-log', 'mid-repair', 'mid-purge']
const worlds: readonly [Engine, string][] = [
  ['mariadb', '/usr/bin/memcached'],
  [engineList.at(-1) ?? 'mariadb', newerMemcachedPath],
]

/**
 * F20: a node dies at a named place, is started again, and must be what its peer is. What makes it die comes through the other node, so
 * that its acknowledgement rests on nobody who dies.
 */
describe.each(worlds.slice(0, all ? 2 : 1))('a node on %s, with %s', (engine, memcachedPath) => {
  let world: World
  beforeAll(async () => {
    world = await World.start({
      topology: 'single',
      engine,
      nodes: 2,
      memcachedPath,
      upkeep: (n) => ({
        sweep: { pauseSeconds: 0.1 },
        // Node 2 alone: else it may not be the one that is elected.
        purge: { enabled: n === 2, pauseSeconds: 0.1, graceSeconds: 1 },
        repair: { enabled: n === 2, pauseSeconds: 0.1, keysPerSecondMax: 1_000_000, timeSharePercentMax: 100 },
      }),
    })
  })
  afterAll(async () => world?.remove())

  const write = async (round: string): Promise<void> => {
    const sets = Array.from({ length: 300 }, (_, n) => world.node(1).set(`k${n}`, `${round} ${n}`))
    for (const reply of await Promise.all(sets)) expect(reply).toBe('STORED\r\n')
  }
  const flush = async (): Promise<void> => {
    expect(await world.node(1).ask('flush_all\r\n')).toBe('OK\r\n')
  }
  /** Behind the node's back. */
  const spoil = async (): Promise<void> => {
    await world.node(2).memcached.ask('delete default:k7\r\nset default:k8 0 0 5\r\nother\r\n', /STORED\r\n$/)
  }
  /** It takes node 1's items, and dies over them. */
  const lose = async (): Promise<void> => world.node(2).memcached.restart()
  const triggers: Partial<Record<FailpointName, (round: string) => Promise<void>>> = {
    'before-apply': write,
    'after-mark-before-apply': write,
    'mid-apply': write,
    'after-apply-before-state': write,
    'mid-flush': flush,
    'after-flush-before-sweep': flush,
    'mid-sweep': flush,
    'mid-snapshot': lose,
    'after-snapshot-before-log': lose,
    'mid-repair': spoil,
    'mid-purge': flush,
  }

  const places = Object.entries(triggers).filter(([place]) => all || selection.includes(place))
  test.each(places)('dies at %s and comes back right', async (place, trigger) => {
    const round = `round ${place}`
    const node = world.node(2)
    await write('before')
    await world.settled()
    await node.program.stop('SIGTERM')
    node.start({ WHITEHOLE_FAILPOINT: place })
    // A place of the sweep is reached at the start already, for what was flushed before.
    await until(
      'the node to serve, or to die',
      async () => !node.program.running || (await node.status()).state === 'serving',
    )
    await trigger(round)
    await until(`node 2 to die at ${place}`, () => !node.program.running)
    expect(node.program.child.signalCode).toBe('SIGKILL')
    expect(node.program.output).toContain(`failpoint ${place}`)
    node.start()
    await write(round)
    await node.serving()
    await world.settled()
    for (const n of [0, 8, 150, 299]) expect(await node.get(`k${n}`)).toBe(`${round} ${n}`)
    expect(await node.get('nobody')).toBeUndefined()
    await until('nothing flushed to be left', async () => {
      const { namespaces } = (await node.verify()) as { namespaces: Record<string, number>[] }
      for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
      return (await node.items()) === 300
    })
  })
})
