import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

interface Verified {
  readonly namespaces: readonly { readonly missing: number; readonly diverged: number; readonly orphan: number }[]
}

describe('every memcached dies at once, on a pair with two nodes', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2 })
    const sets = Array.from({ length: 2000 }, (_, n) => `set k${n} 0 0 4 noreply\r\n${String(n).padStart(4, '0')}\r\n`)
    await world.node(1).ask(`${sets.join('')}set last 0 0 1\r\nx\r\n`)
    await world.settled()
  })
  afterAll(async () => world?.remove())

  async function loseAll(): Promise<void> {
    const before = await Promise.all(world.nodes.map((node) => node.metric('whitehole_rebuilds_total')))
    await Promise.all(world.nodes.map((node) => node.memcached.stop()))
    await Promise.all(world.nodes.map((node) => node.memcached.restart()))
    for (const [index, node] of world.nodes.entries()) {
      await until('the rebuild', async () => (await node.metric('whitehole_rebuilds_total')) > (before[index] ?? 0))
      await node.serving()
    }
  }

  async function expectAll(): Promise<void> {
    await world.settled()
    for (const node of world.nodes) {
      expect(await node.get('k1234')).toBe('1234')
      const { namespaces } = (await node.verify()) as Verified
      for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
    }
  }

  test('the whole cache comes back from the log', async () => {
    await loseAll()
    await expectAll()
  })

  test('what the standby has let go comes from the log of the primary, up to where the standby’s begins', async () => {
    const { standby } = world
    if (standby === undefined) throw new Error('there is no standby')
    await standby.query('FLUSH BINARY LOGS')
    const logs = await standby.query<{ Log_name: string }>('SHOW BINARY LOGS')
    await until('the older logs to be let go', async () => {
      await standby.query(`PURGE BINARY LOGS TO '${logs.at(-1)?.Log_name}'`)
      return (await standby.query('SHOW BINARY LOGS')).length === 1
    })
    await world.node(1).set('after', 'purge')
    await world.settled()
    await loseAll()
    await expectAll()
    expect(await world.node(2).get('after')).toBe('purge')
    expect(world.node(1).program.output + world.node(2).program.output).toContain('only another database still has')
  })
})
