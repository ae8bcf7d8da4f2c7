import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { allFaults, pause, repeats, tellTimes } from '../support/fault-load.ts'
import { ManagedWorld } from '../support/managed-world.ts'
import { Network, whyNoNetworks } from '../support/network.ts'
import { until } from '../support/processes.ts'
import { SteadyLoad } from '../support/steady-load.ts'

const minute = 60_000
const connectionsPerNode = 10
const antiFlapMilliseconds = 10_000
const settleMilliseconds = 2000
const places = ['db1', 'db2', 'monitor1', 'node1', 'node2'] as const
const voters = ['monitor1', 'node1', 'node2'] as const

/** Each process on a network of its own, at one switch. Cuts are silent: no connection is refused or reset. */
describe.runIf(allFaults && whyNoNetworks() === undefined)('a pair whose network breaks, under load', () => {
  let network: Network
  let world: ManagedWorld
  let lastFault = 0
  beforeAll(async () => {
    network = await Network.make(places)
    world = await ManagedWorld.start({ network, rebuilds: true, timings: { antiFlapMilliseconds } })
  }, 3 * minute)
  afterAll(async () => {
    await world?.remove()
    await network?.remove()
  })

  interface Fault {
    readonly load: SteadyLoad
    readonly primary: string
    readonly standby: string
    readonly epoch: number
    readonly since: number
  }

  /** @param fault breaks something, and tells after how many milliseconds both nodes took writes again; whatever it broke is mended after it */
  function row(name: string, fault: (given: Fault) => Promise<number>, minutes = 3): void {
    test(
      name,
      async () => {
        const times: number[] = []
        for (let round = 0; round < repeats; round++) {
          const { primary, standby, epoch } = await world.paired()
          // What came before must not count as a link that comes and goes.
          await pause(lastFault + antiFlapMilliseconds + settleMilliseconds - performance.now())
          const load = await SteadyLoad.start(
            world.nodes.map(({ host, ports }) => ({ host, port: ports.main })),
            connectionsPerNode,
          )
          await until('writes to flow', () => load.acknowledged > 200)
          const since = performance.now()
          times.push(await fault({ load, primary: primary ?? '', standby: standby ?? '', epoch: epoch ?? 0, since }))
          lastFault = performance.now()
          await network.heal()
          await world.paired()
          await load.writableAgain(performance.now())
          await judge(load)
        }
        console.log(`mariadb, ${name.split(':')[0]}: not writable ${tellTimes(times)}`)
      },
      minutes * minute * repeats,
    )
  }

  /** Everything that was acknowledged is on every node, exactly once. */
  async function judge(load: SteadyLoad): Promise<void> {
    await load.stop()
    await world.settled()
    for (const node of world.nodes) {
      expect(await load.check((key) => node.get(key))).toEqual([])
      const { namespaces } = (await node.verify()) as { namespaces: Record<string, number>[] }
      const wrong = namespaces.filter(({ missing, diverged, orphan }) => missing || diverged || orphan)
      expect(wrong, node.name).toEqual([])
    }
  }

  async function takenOver({ load, primary, standby, epoch, since }: Fault): Promise<number> {
    const milliseconds = await load.writableAgain(since)
    const after = await world.untilReport('a takeover', (report) => report.stage === 'steady')
    expect(after).toMatchObject({ mode: 'solo', primary: standby, standby: primary, epoch: epoch + 1 })
    await pause(1000)
    return milliseconds
  }

  row(
    'F5: the primary is cut off from everybody: its standby takes over, it follows when it is back',
    async (given) => {
      await network.unplug(given.primary)
      return takenOver(given)
    },
  )

  row(
    'F5, but one: one node alone still reaches the primary: it is told nothing wrong, and follows the others',
    async (given) => {
      await network.cutFromAllBut(given.primary, ['node1'])
      return takenOver(given)
    },
  )

  row('F6: primary and standby lose each other, everybody sees both: nobody is promoted', async (given) => {
    const { load, primary, standby, epoch, since } = given
    await network.cutBoth(primary, standby)
    await world.untilReport('solo', ({ mode }) => mode === 'solo')
    const milliseconds = await load.writableAgain(since)
    expect(await world.report()).toMatchObject({ primary, epoch })
    return milliseconds
  })

  row('F7: voters lose the primary, its standby hears it: nobody is promoted, and people are told', async (given) => {
    const { load, primary, epoch, since } = given
    for (const voter of voters) await network.cutBoth(voter, primary)
    await world.untilReport('people to be told', ({ stuck }) => /hears it/.test(stuck?.why ?? ''))
    await pause(3000)
    expect(await world.report()).toMatchObject({ primary, epoch })
    // Reads go on.
    for (const node of world.nodes) expect(await node.get('load-0-0-value')).toMatch(/^\d+$/)
    await network.heal()
    return load.writableAgain(since)
  })

  row('F8: what the primary answers is lost: it counts as silent', async (given) => {
    for (const other of places) if (other !== given.primary) await network.cut(given.primary, other)
    return takenOver(given)
  })

  row('F9: what is said to the primary is lost: it counts as silent', async (given) => {
    for (const other of places) if (other !== given.primary) await network.cut(other, given.primary)
    return takenOver(given)
  })

  row('F11: the primary has a slow line: nobody is promoted', async (given) => {
    const { load, primary, epoch, since } = given
    await network.limit(primary, '1mbit')
    try {
      await pause(8000)
      const milliseconds = await load.writableAgain(since)
      expect(await world.report()).toMatchObject({ primary, epoch })
      return milliseconds
    } finally {
      await network.limit(primary, undefined)
    }
  })

  row(
    'F10: a line that comes and goes: one takeover in each anti-flap window at most',
    async (given) => {
      const { load, primary, epoch, since } = given
      const rounds = 6
      for (let n = 0; n < rounds; n++) {
        await network.unplug(primary)
        await pause(2000)
        await network.plugIn(primary)
        await pause(2000)
      }
      const seconds = (performance.now() - since) / 1000
      const milliseconds = await load.writableAgain(since)
      const changes = ((await world.paired()).epoch ?? 0) - epoch
      expect(changes).toBeLessThanOrEqual(1 + Math.ceil((seconds * 1000) / antiFlapMilliseconds))
      return milliseconds
    },
    4,
  )
})
