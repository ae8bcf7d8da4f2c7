import * as fc from 'fast-check'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseBinaryTranscript, playBinary } from '../support/binary-transcripts.ts'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { converse } from '../support/converse.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { dialogues } from '../support/random-dialogues.ts'
import { normalized, parseTranscript, play } from '../support/transcripts.ts'
import { World } from '../support/world.ts'

const folder = join(import.meta.dirname, '../scenarios')
/** WHITEHOLE_SLOW_ALL: every scene over each link, and more random dialogues. */
const all = process.env['WHITEHOLE_SLOW_ALL'] !== undefined
const files = (protocol: string): string[] =>
  readdirSync(join(folder, protocol)).map((name) => readFileSync(join(folder, protocol, name), 'utf8'))
const textScenes = ['text', 'meta'].flatMap((protocol) => files(protocol).flatMap(parseTranscript))
const binaryScenes = files('binary').flatMap(parseBinaryTranscript)

const links = [
  // Some scenes send megabytes, and a byte is a packet.
  { name: 'one byte a packet', sliceBytes: 1, delayMilliseconds: 0, bytesMax: 10_000, every: 3 },
  { name: '20 ms added to each request', sliceBytes: 1_000_000, delayMilliseconds: 10, bytesMax: Infinity, every: 7 },
]

/** A client far away, or behind a link that cuts everything up, is told the same as one beside the node. */
describe.each([
  { name: 'memcached 1.6.18 behind it', memcachedPath: undefined },
  { name: 'memcached 1.6.45 behind it', memcachedPath: newerMemcachedPath },
])('a node with $name', ({ memcachedPath }) => {
  const missing = memcachedPath !== undefined && !existsSync(memcachedPath)
  let world: World
  beforeAll(async () => {
    if (missing) return
    world = await World.start({
      topology: 'single',
      nodes: 1,
      ...(memcachedPath === undefined ? {} : { memcachedPath }),
    })
  })
  afterAll(() => world?.remove())

  describe.each(links)('with $name', ({ sliceBytes, delayMilliseconds, bytesMax, every }) => {
    let proxy: ChaosProxy
    beforeAll(async () => {
      if (missing) return
      proxy = await ChaosProxy.start(world.node(1).ports.main)
      proxy.slice(sliceBytes)
      proxy.delay(delayMilliseconds)
    })
    afterAll(() => proxy?.stop())
    const flush = (): Promise<string> => dialogue(world.node(1).ports.main, 'flush_all\r\n', /OK\r\n$/)
    const selected = (_scene: unknown, index: number): boolean => all || index % every === 0

    const short = textScenes.filter(({ send }) => send.length < bytesMax).filter(selected)
    it.skipIf(missing).each(short)('holds the transcript: $title', async (scene) => {
      await flush()
      const answer = await play(proxy.port, scene)
      expect(normalized(answer.reply)).toBe(normalized(scene.reply))
    })

    const shortBinary = binaryScenes
      .filter(({ sentLines }) => bytesMax === Infinity || !sentLines.some((line) => /\*\d{4,}\}/.test(line)))
      .filter(selected)
    it.skipIf(missing).each(shortBinary)('holds the binary transcript: $title', async (scene) => {
      await flush()
      expect(await playBinary(proxy.port, scene)).toEqual(scene.replies)
    })

    it.skipIf(missing || !existsSync(newerMemcachedPath))('answers random dialogues as memcached 1.6.45', async () => {
      const memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
      try {
        await fc.assert(
          fc.asyncProperty(dialogues, async (commands) => {
            await flush()
            await dialogue(memcached.port, 'flush_all\r\n', /OK\r\n$/)
            const theirs = await converse(memcached.port, commands, (bytes) => [bytes])
            expect(await converse(proxy.port, commands, (bytes) => [bytes])).toEqual(theirs)
          }),
          { numRuns: all ? 60 : 4 },
        )
      } finally {
        await memcached.stop()
      }
    })
  })
})
