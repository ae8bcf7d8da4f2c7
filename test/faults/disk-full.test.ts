import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { allFaults, pause, repeats, tellTimes } from '../support/fault-load.ts'
import { ManagedWorld } from '../support/managed-world.ts'
import { whyNoNetworks } from '../support/network.ts'
import { until } from '../support/processes.ts'
import { SteadyLoad } from '../support/steady-load.ts'

const minute = 60_000

/**
 * MariaDB 10.11 leaves half an event in its log where it meets a full disk, and goes on behind it once there is space: nobody can follow it any
 * more. So it is not to go on: it is killed, and its standby has everything.
 */
describe.runIf(allFaults && whyNoNetworks() === undefined)('a pair whose primary has a small disk, under load', () => {
  let world: ManagedWorld
  beforeAll(async () => {
    world = await ManagedWorld.start({ diskMebibytes: 400, rebuilds: true })
  }, 3 * minute)
  afterAll(async () => world?.remove())

  test(
    'F18: the disk is full: writes fail in time, people are told, nobody is promoted; killed, it is replaced, and comes back',
    async () => {
      const times: number[] = []
      for (let round = 0; round < repeats; round++) {
        const { primary, epoch } = await world.paired()
        const ports = world.nodes.map((node) => node.ports.main)
        const load = await SteadyLoad.start(ports, 10)
        await until('writes to flow', () => load.acknowledged > 200)
        const filler = join(world.database(primary ?? '').folder, 'filler')
        fill(filler)
        const before = load.failures.length
        await until('writes to fail', () => load.failures.length > before, minute)
        const told = `${primary} has no space left`
        await until('people to be told', () => (world.monitors[0]?.output ?? '').includes(told), minute)
        await pause(3000)
        expect(await world.report()).toMatchObject({ primary, epoch })
        for (const node of world.nodes) expect(await node.get('load-0-0-value')).toMatch(/^\d+$/)
        const since = performance.now()
        await world.database(primary ?? '').stop('SIGKILL')
        times.push(await load.writableAgain(since))
        await rm(filler)
        await world.launchAsStandby(primary ?? '')
        expect((await world.paired()).primary).not.toBe(primary)
        await load.stop()
        await world.settled()
        for (const node of world.nodes) expect(await load.check((key) => node.get(key))).toEqual([])
      }
      console.log(`mariadb, F18, from the kill on: not writable ${tellTimes(times)}`)
    },
    5 * minute * repeats,
  )
})

function fill(file: string): void {
  for (const size of [8 * 1024 * 1024, 64 * 1024, 1024]) {
    try {
      for (;;) writeFileSync(file, Buffer.alloc(size), { flag: 'a' })
    } catch {
      // Until not even the smallest goes.
    }
  }
}
