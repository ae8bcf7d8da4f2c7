import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { type Answer, byteByByte, parseTranscript, play, type Scene, whole } from '../support/transcripts.ts'

const folder = join(import.meta.dirname, '../scenarios/text')
const files = readdirSync(folder).map((name) => ({
  name,
  scenes: parseTranscript(readFileSync(join(folder, name), 'utf8')),
}))

/** Everybody tells a version of their own. */
function withoutVersion(reply: string): string {
  return reply.replace(/VERSION \d+\.\d+\.\d+/g, 'VERSION')
}

async function check(port: number, scene: Scene, cut = whole): Promise<void> {
  await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
  const expected: Answer = { reply: withoutVersion(scene.reply), closed: scene.closed }
  const answer = await play(port, scene, cut)
  expect({ ...answer, reply: withoutVersion(answer.reply) }).toEqual(expected)
}

describe.each(files)('the transcript $name', ({ scenes }) => {
  let gateway: MemoryGateway
  beforeAll(async () => {
    gateway = await MemoryGateway.start()
  })
  afterAll(() => gateway.stop())

  it.each(scenes)('holds for a listener: $title', (scene) => check(gateway.port, scene))
  it.each(scenes.filter(({ send }) => send.length < 10_000))('holds byte by byte: $title', (scene) =>
    check(gateway.port, scene, byteByByte),
  )
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
