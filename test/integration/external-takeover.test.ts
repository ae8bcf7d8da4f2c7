import { afterAll, beforeAll, expect, test } from 'vitest'
import { covers, parsePosition, type Position } from '../../src/domain/position.ts'
import type { Database } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { SteadyLoad } from '../support/steady-load.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start({ topology: 'external', nodes: 2 })
})
afterAll(async () => world?.remove())

const position = async (database: Database): Promise<Position> => {
  const [row] = await database.query<{ position: string }>('SELECT @@gtid_binlog_pos AS position')
  return parsePosition('mariadb', row?.position ?? '')
}

// With a lost tail: rewind.test.ts.
test('somebody else moves the primary by hand, under load: nothing that was acknowledged is lost, no node rewinds', async () => {
  const former = world.primary
  const next = world.standby as Database
  const load = await SteadyLoad.start(
    world.nodes.map(({ ports }) => ports.main),
    4,
  )
  await until('writes to flow', () => load.acknowledged > 200)
  await former.query('SET GLOBAL read_only=1')
  const end = await position(former)
  await until('the standby to have all', async () => covers(await position(next), end))
  await next.query('STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0')
  const since = performance.now()
  await load.writableAgain(since)
  await former.query(
    `SET GLOBAL gtid_slave_pos=@@gtid_binlog_pos; CHANGE MASTER TO master_host='127.0.0.1', master_port=${next.extraPort},
       master_user='repl', master_password='repl', master_use_gtid=slave_pos; START SLAVE`,
  )
  await load.writableAgain(performance.now())
  await load.stop()
  const last = await position(next)
  for (const node of world.nodes) {
    await until(`${node.name} to have all`, async () => {
      const status = await node.status()
      return status.state === 'serving' && covers(parsePosition('mariadb', status.position ?? ''), last)
    })
    expect(await load.check((key) => node.get(key))).toEqual([])
    expect(await node.metric('whitehole_rewinds_total')).toBe(0)
    const { namespaces } = (await node.verify()) as { namespaces: object[] }
    for (const some of namespaces) expect(some).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
  }
})
