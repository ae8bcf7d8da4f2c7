import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ManagedWorld } from '../support/managed-world.ts'
import { until } from '../support/processes.ts'
import { SteadyLoad } from '../support/steady-load.ts'

/** How often each fault is repeated: once in a usual run. */
const rounds = Number(process.env['WHITEHOLE_TAKEOVER_ROUNDS'] ?? 1)

describe('a managed pair under load', () => {
  let world: ManagedWorld

  beforeAll(async () => {
    world = await ManagedWorld.start()
  })

  afterAll(async () => {
    await world?.remove()
  })

  const loaded = async (): Promise<SteadyLoad> => {
    const load = await SteadyLoad.start(
      world.nodes.map(({ ports }) => ports.main),
      8,
    )
    await until('writes to flow', () => load.acknowledged > 200)
    return load
  }

  /** Everything that was acknowledged is on every node, exactly once. */
  const settle = async (load: SteadyLoad): Promise<void> => {
    await load.stop()
    await world.settled()
    for (const node of world.nodes) expect(await load.check((key) => node.get(key))).toEqual([])
    for (const node of world.nodes) {
      const { namespaces } = (await node.verify()) as { namespaces: Record<string, number>[] }
      const wrong = namespaces.filter(({ missing, diverged, orphan }) => missing || diverged || orphan)
      expect(wrong, node.name).toEqual([])
    }
  }

  const writableAgain = async (load: SteadyLoad, since: number): Promise<number> => {
    const before = load.acknowledged
    await until('writes to flow again', () => load.acknowledged > before + 20)
    return Math.round(performance.now() - since)
  }

  it.each(Array.from({ length: rounds }, (_, n) => n + 1))(
    'F1: gets a new primary when the old one is killed, and the old one back as standby (%i)',
    async () => {
      const { primary, standby, epoch } = await world.paired()
      const load = await loaded()
      const killedAt = performance.now()
      await world.database(primary ?? '').stop('SIGKILL')
      console.log(`F1: writable again after ${await writableAgain(load, killedAt)} ms`)
      const after = await world.untilReport('the record of that', ({ stage }) => stage === 'steady')
      expect(after).toMatchObject({
        mode: 'solo',
        primary: standby,
        standby: primary,
        epoch: (epoch ?? 0) + 1,
      })
      await world.launchAsStandby(primary ?? '')
      await world.paired()
      await settle(load)
    },
  )

  it.each(Array.from({ length: rounds }, (_, n) => n + 1))(
    'F2: replaces a primary that is stopped, and takes it back when it wakes (%i)',
    async () => {
      const { primary, standby } = await world.paired()
      const load = await loaded()
      const database = world.database(primary ?? '')
      const stoppedAt = performance.now()
      database.program.signal('SIGSTOP')
      console.log(`F2: writable again after ${await writableAgain(load, stoppedAt)} ms`)
      const after = await world.untilReport('the record of that', ({ stage }) => stage === 'steady')
      expect(after).toMatchObject({ mode: 'solo', primary: standby })
      database.program.signal('SIGCONT')
      await world.paired()
      await settle(load)
    },
  )

  it.each(Array.from({ length: rounds }, (_, n) => n + 1))(
    'F4: is switched over without one failed write (%i)',
    async () => {
      const { primary, standby } = await world.paired()
      const load = await loaded()
      load.forgetLongest()
      const answer = await world.change('switchover', {})
      expect(answer).toMatchObject({ status: 200 })
      await writableAgain(load, performance.now())
      console.log(`F4: the longest write took ${Math.round(load.longestMilliseconds)} ms`)
      expect(await world.paired()).toMatchObject({ mode: 'paired', primary: standby, standby: primary })
      expect(load.failures).toEqual([])
      await world.paired()
      await settle(load)
    },
  )

  it('F15: goes on alone without its standby, and is a pair again when that is back', async () => {
    const { primary, standby } = await world.paired()
    const load = await loaded()
    const killedAt = performance.now()
    await world.database(standby ?? '').stop('SIGKILL')
    await world.untilReport('solo', ({ mode }) => mode === 'solo')
    console.log(`F15: writable again after ${await writableAgain(load, killedAt)} ms`)
    await world.database(standby ?? '').launch()
    const { primary: still } = await world.paired()
    expect(still).toBe(primary)
    await settle(load)
  })

  it('leaves it to a person to promote in solo, and names afterwards which keys were given up', async () => {
    const { primary, standby, epoch } = await world.paired()
    await world.database(standby ?? '').stop('SIGKILL')
    await world.untilReport('solo', ({ mode }) => mode === 'solo')
    await until('a write that the primary alone has', async () => {
      return (await world.node(1).set('given-up', 'yes')) === 'STORED\r\n'
    })
    const stuck = async (): Promise<unknown> =>
      world.untilReport('a person to be needed', (report) => report.stuck !== null)
    await world.database(primary ?? '').stop('SIGKILL')
    await world.database(standby ?? '').launch()
    expect(await stuck()).toMatchObject({
      mode: 'solo',
      primary,
      stuck: { cure: expect.stringContaining('--force') as string },
    })
    expect(await world.change('takeover', {})).toMatchObject({ status: 400 })
    expect(await world.change('takeover', { force: true })).toMatchObject({ status: 200 })
    const { primary: forced } = await world.untilReport('the standby alone', ({ mode, stage, stuck: why }) => {
      return mode === 'solo' && stage === 'steady' && why === null
    })
    expect(forced).toBe(standby)
    await world.database(primary ?? '').launch()
    const list = join(world.folder, 'monitor1', `lost-${primary}-epoch-${(epoch ?? 0) + 1}.json`)
    const told = await until('the keys to be named', () => existsSync(list) && readFileSync(list, 'utf8'))
    expect(told).toContain('"key": "given-up"')
    await world.untilReport('it to be set aside', ({ databases }) =>
      databases.some(({ quarantined }) => quarantined !== null),
    )
  })
})
