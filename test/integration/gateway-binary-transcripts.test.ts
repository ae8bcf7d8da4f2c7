import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BinaryScene, type Cut, parseBinaryTranscript, playBinary } from '../support/binary-transcripts.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { byteByByte } from '../support/transcripts.ts'

const folder = join(import.meta.dirname, '../scenarios/binary')
const files = readdirSync(folder).map((name) => ({
  name,
  scenes: parseBinaryTranscript(readFileSync(join(folder, name), 'utf8')),
}))

async function check(port: number, scene: BinaryScene, cut?: Cut): Promise<void> {
  await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
  expect(await playBinary(port, scene, cut)).toEqual(scene.replies)
}

function isShort(scene: BinaryScene): boolean {
  return !scene.sentLines.some((line) => /\*\d{4,}\}/.test(line))
}

describe.each(files)('the binary transcript $name', ({ scenes }) => {
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
  it.each(scenes.filter(isShort))('holds byte by byte: $title', async (scene) => {
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
