import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '../support/client.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { World } from '../support/world.ts'

const binaries = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))

/** DESIGN §6.3: a node never goes back in time, also not between the replies of one pipeline. */
describe.each(binaries)('reads that one connection pipelines, with %s', (memcachedPath) => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 1, memcachedPath })
    await world.node(1).set('n', '0')
  })
  afterAll(async () => world?.remove())

  test.each(['gets n\r\nget n\r\n', 'mg n v c\r\nmg n v\r\n'])('%j', async (pipeline) => {
    const { main } = world.node(1).ports
    const [writer, reader] = [await Client.connect(main), await Client.connect(main)]
    const writing = new AbortController()
    const write = async (): Promise<void> => {
      while (!writing.signal.aborted) await writer.ask('incr n 1\r\n', /\r\n$/)
    }
    const written = write()
    const back: string[] = []
    for (let round = 0; round < 300; round++) {
      const reply = await reader.ask(
        pipeline,
        pipeline.startsWith('mg') ? /^VA[^]*\r\nVA.*\r\n.*\r\n$/ : /END\r\n[^]*END\r\n$/,
      )
      const [first, second] = [...reply.matchAll(/^(\d+)\r$/gm)].map(([, number]) => Number(number))
      if ((second ?? -1) < (first ?? 0)) back.push(`${second} after ${first}`)
    }
    writing.abort()
    await written
    writer.close()
    reader.close()
    expect(back).toEqual([])
  })
})
