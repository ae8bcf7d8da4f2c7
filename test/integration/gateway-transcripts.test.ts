import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import {
  type Answer,
  byteByByte,
  normalized,
  parseTranscript,
  play,
  type Scene,
  whole,
} from '../support/transcripts.ts'

const folder = join(import.meta.dirname, '../scenarios')
const files = ['text', 'meta'].flatMap((protocol) =>
  readdirSync(join(folder, protocol)).map((name) => ({
    name: `${protocol}/${name}`,
    scenes: parseTranscript(readFileSync(join(folder, protocol, name), 'utf8')),
  })),
)

async function check(port: number, scene: Scene, cut = whole): Promise<void> {
  await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
  const expected: Answer = { reply: normalized(scene.reply), closed: scene.closed }
  const answer = await play(port, scene, cut)
  expect({ ...answer, reply: normalized(answer.reply) }).toEqual(expected)
}

describe.each(files)('the transcript $name', ({ scenes }) => {
  const gateways: MemoryGateway[] = []
  beforeAll(async () => {
    for (const itemCasIsVersion of [true, false])
      gateways.push(await MemoryGateway.start({ node: { itemCasIsVersion } }))
  })
  afterAll(async () => {
    for (const gateway of gateways) await gateway.stop()
  })

  it.each(scenes)('holds for a listener: $title', async (scene) => {
    for (const { port } of gateways) await check(port, scene)
  })
  it.each(scenes.filter(({ send }) => send.length < 10_000))('holds byte by byte: $title', async (scene) => {
    for (const { port } of gateways) await check(port, scene, byteByByte)
  })
})

describe.runIf(existsSync(newerMemcachedPath))('memcached 1.6.45', () => {
  let memcached: Memcached
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
  })
  afterAll(() => memcached.stop())

  describe.each(files)('answers as in $name', ({ scenes }) => {
    it.each(scenes.filter((scene) => scene.notLike145 === undefined))('$title', (scene) => check(memcached.port, scene))
  })
})

describe('memcached 1.6.18', () => {
  let memcached: Memcached
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'])
  })
  afterAll(() => memcached.stop())

  describe.each(files)('answers as in $name', ({ scenes }) => {
    const same = scenes.filter((scene) => scene.notLike145 === undefined && scene.notLike118 === undefined)
    it.each(same)('$title', (scene) => check(memcached.port, scene))
  })
})
