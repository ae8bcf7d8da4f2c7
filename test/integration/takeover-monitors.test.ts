import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Failpoint } from '../../src/monitor/executor.ts'
import { ManagedWorld } from '../support/managed-world.ts'
import { until } from '../support/processes.ts'
import { SteadyLoad } from '../support/steady-load.ts'

/** Where the monitor that acts dies, and what makes it get there. */
const places: readonly (readonly [Failpoint, 'kill' | 'stop' | 'switchover' | 'solo'])[] = [
  ['before-drain', 'kill'],
  ['after-drain', 'kill'],
  ['before-writable', 'kill'],
  ['after-writable', 'kill'],
  ['before-fence', 'stop'],
  ['after-fence', 'stop'],
  ['before-unpair', 'solo'],
  ['after-read-only', 'switchover'],
  ['before-repoint', 'switchover'],
]

/** Each takes its time: some in a usual run, all with WHITEHOLE_TAKEOVER_ALL. */
const chosen =
  process.env['WHITEHOLE_TAKEOVER_ALL'] === undefined ? places.filter((_, n) => n === 1 || n === 7) : places

describe('with three monitors', () => {
  let world: ManagedWorld
  const sampling = new AbortController()
  let writableTwice = 0
  let sampler: Promise<void>

  beforeAll(async () => {
    world = await ManagedWorld.start({ monitors: 3 })
    sampler = sample()
  })

  afterAll(async () => {
    sampling.abort()
    await sampler
    await world?.remove()
  })

  /** I5, but for a primary that was stopped or cut off: nobody can tell that one, and it acknowledges nothing. */
  const sample = async (): Promise<void> => {
    while (!sampling.signal.aborted) {
      const writable = await Promise.all(
        Object.values(world.databases).map(async (database) => {
          const [row] = await database.query<{ w: number }>('SELECT @@read_only = 0 AS w').catch(() => [])
          return row?.w === 1
        }),
      )
      if (writable.every(Boolean)) writableTwice += 1
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  const acting = async (): Promise<number> => {
    const { monitor } = await until('a monitor to act', () => world.report())
    return world.monitors.findIndex(({ name }) => name === monitor) + 1
  }

  it.each(chosen)(
    'F16: another one finishes when the acting one dies %s (%s)',
    { timeout: 180_000 },
    async (failpoint, how) => {
      await world.paired()
      const victim = world.monitor(await acting())
      await victim.kill()
      victim.start({ WHITEHOLE_MONITOR_FAILPOINT: failpoint })
      await until('it to answer', () => victim.report())
      // Whoever acts now makes room for it.
      for (let n = await acting(); world.monitor(n) !== victim; n = await acting()) {
        const other = world.monitor(n)
        other.program.signal('SIGSTOP')
        await until('another one to act', async () => world.monitor(await acting()) !== other)
        other.program.signal('SIGCONT')
      }
      const { primary, standby } = await world.paired()
      const load = await SteadyLoad.start(
        world.nodes.map(({ ports }) => ports.main),
        4,
      )
      await until('writes to flow', () => load.acknowledged > 100)
      const before = writableTwice
      if (how === 'kill') await world.database(primary ?? '').stop('SIGKILL')
      if (how === 'stop') world.database(primary ?? '').program.signal('SIGSTOP')
      if (how === 'solo') await world.database(standby ?? '').stop('SIGKILL')
      if (how === 'switchover') void world.change('switchover', {}).catch(() => {})
      if (how === 'stop') {
        await world.untilReport('a takeover', (report) => report.primary === standby && report.stage === 'steady')
        world.database(primary ?? '').program.signal('SIGCONT')
      }
      await until('it to die there', () => !victim.program.running)
      const acknowledged = load.acknowledged
      await until('writes to flow again', () => load.acknowledged > acknowledged + 50)
      if (how === 'kill') await world.launchAsStandby(primary ?? '')
      if (how === 'solo') await world.database(standby ?? '').launch()
      await world.paired()
      victim.start()
      await until('it to answer', () => victim.report())
      await load.stop()
      await world.settled()
      for (const node of world.nodes) expect(await load.check((key) => node.get(key))).toEqual([])
      // A primary that slept wakes up writable, and acknowledges nothing until it is fenced.
      if (how !== 'stop') expect(writableTwice).toBe(before)
    },
  )
})
