import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ManagedWorld } from '../support/managed-world.ts'
import { until } from '../support/processes.ts'

describe('a managed pair', () => {
  let world: ManagedWorld

  beforeAll(async () => {
    world = await ManagedWorld.start()
  })

  afterAll(async () => {
    await world?.remove()
  })

  it('gets a new primary when the old one dies, and the old one back as standby', async () => {
    const before = await world.paired()
    const primary = before.primary ?? ''
    expect(await world.node(1).set('a', '1')).toBe('STORED\r\n')
    const killedAt = performance.now()
    await world.database(primary).stop('SIGKILL')
    await until('a write', async () => (await world.node(2).set('b', '2')) === 'STORED\r\n')
    console.log(`writable again after ${Math.round(performance.now() - killedAt)} ms`)
    const after = await world.report()
    expect(after).toMatchObject({ mode: 'solo', primary: before.standby, standby: primary })
    expect(after.epoch).toBe(before.epoch + 1)
    expect(await world.node(2).get('a')).toBe('1')
    await world.database(primary).launch()
    await world.paired()
    expect(await world.node(1).set('c', '3')).toBe('STORED\r\n')
    expect(await world.node(2).get('b')).toBe('2')
  })
})
