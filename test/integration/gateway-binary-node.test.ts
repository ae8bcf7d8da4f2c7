import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { opcode } from '../../src/wire/memcached/binary-frame.ts'
import { BinaryClient } from '../support/binary-client.ts'
import { exptimeExtras, parseBinaryTranscript, playBinary, storageExtras } from '../support/binary-transcripts.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue } from '../support/memcached.ts'
import { World } from '../support/world.ts'

const folder = join(import.meta.dirname, '../scenarios/binary')
const scenes = readdirSync(folder).flatMap((name) => parseBinaryTranscript(readFileSync(join(folder, name), 'utf8')))

const memcacheds = [
  { name: '1.6.18', path: undefined },
  ...(existsSync(newerMemcachedPath) ? [{ name: '1.6.45', path: newerMemcachedPath }] : []),
]

describe.each(memcacheds)('two nodes over memcached $name', ({ path }) => {
  let world: World
  const clients: BinaryClient[] = []
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2, ...(path === undefined ? {} : { memcachedPath: path }) })
  })
  afterAll(async () => {
    for (const client of clients) client.close()
    await world.remove()
  })

  const connect = async (n: number): Promise<BinaryClient> => {
    const client = await BinaryClient.connect(world.node(n).ports.main)
    clients.push(client)
    return client
  }
  const set = (value: string, cas = 0n, exptime = 0): Parameters<BinaryClient['ask']>[0] => ({
    opcode: opcode.set,
    key: 'shared',
    value,
    extras: storageExtras(3, exptime),
    cas,
  })
  const get = { opcode: opcode.get, key: 'shared' }

  it.each(scenes)('hold the binary transcripts: $title', async (scene) => {
    const { main } = world.node(1).ports
    await dialogue(main, 'flush_all\r\n', /OK\r\n$/)
    expect(await playBinary(main, scene)).toEqual(scene.replies)
  })

  it('take a token that the other one gave, once', async () => {
    const [first, second] = [await connect(1), await connect(2)]
    await first.ask(set('old'))
    await world.settled()
    const { cas } = await first.ask(get)
    expect((await second.ask(get)).cas).toBe(cas)
    const won = await second.ask(set('new', cas))
    expect(won.status).toBe(0)
    expect(await first.ask(set('late', cas))).toMatchObject({ status: 2 })
    await world.settled()
    expect(await first.ask(get)).toMatchObject({ value: 'new', cas: won.cas, extras: '00000003' })
    const text = await dialogue(world.node(1).ports.main, 'gets shared\r\n', /END\r\n$/)
    expect(text).toBe(`VALUE shared 3 3 ${won.cas}\r\nnew\r\nEND\r\n`)
  })

  it('keep an item whose expiry is as far away as 32 bits tell', async () => {
    const [first, second] = [await connect(1), await connect(2)]
    expect((await first.ask(set('far', 0n, 0xffffffff))).status).toBe(0)
    await first.ask({ opcode: opcode.touch, key: 'shared', extras: exptimeExtras(0xfffffffe) })
    await world.settled()
    expect((await first.ask(get)).value).toBe('far')
    expect((await second.ask(get)).value).toBe('far')
  })

  it('go on with reads while no database answers, with tokens that win nothing they should not', async () => {
    const client = await connect(1)
    await client.ask(set('kept'))
    await world.primary.stop()
    try {
      expect(await client.ask(get)).toMatchObject({ status: 0, value: 'kept' })
      expect(await client.ask({ ...get, opcode: opcode.getQ })).toMatchObject({ status: 0, value: 'kept' })
    } finally {
      await world.primary.launch()
      await world.primary.query('SET GLOBAL read_only=0')
    }
  })
})
